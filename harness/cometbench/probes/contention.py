"""Extreme contention: real processes on one shard, batches of mixed sizes, writers stopped and continued at random.

Values: `entries` and `appends` acknowledged, `stops` of a writer by SIGSTOP, `rate` in entries/s. The log is read back: every
acknowledged entry once, under the number that its append returned, each writer's in its own order. Config: the engine subject's
keys.
"""

from __future__ import annotations

import os
import random
import signal
from functools import partial
from itertools import accumulate
from pathlib import Path
from time import perf_counter, sleep

import cometlog
from cometbench.benchmark import STREAM
from cometbench.crew import Crew
from cometbench.probe import Outcome, Task
from cometbench.subjects.engine import chunks_of, engine_config
from cometbench.verification import Appended, verify_entries
from cometbench.workloads import build_pool

SIZES = (*(1,) * 40, *(2,) * 10, *(5,) * 6, *(10,) * 4, *(100,) * 3, 1000)
_POOL_ENTRIES = 20_000
_ENTRIES_MAX = 60_000
_SECONDS_MAX = 0.6
_STOPPED_SECONDS = (0.0005, 0.005)


def measure(task: Task) -> Outcome:
    """Write, stop and continue, then compare."""
    seconds = min(task.seconds, _SECONDS_MAX)
    crew = Crew([partial(_Writer, task, process) for process in range(task.probe.processes)])
    started = perf_counter()
    crew.start("append", seconds)
    stops = _stop_and_continue(crew.pids, seconds, task.seed)
    appends = sum(crew.gather())
    elapsed = perf_counter() - started
    writers: list[Appended] = crew.finish()
    with cometlog.open(task.directory / "log", read_only=True) as client:
        finding = verify_entries(STREAM, writers, chunks_of(client, STREAM))
    entries = float(sum(writer.count for writer in writers))
    values = {"entries": entries, "appends": float(appends), "stops": float(stops), "rate": entries / elapsed}
    return Outcome(values, finding)


def _stop_and_continue(pids: list[int], seconds: float, seed: int) -> int:
    """Stop one of the processes after the other, at random; all run again afterwards. How often one was stopped."""
    source, stops = random.Random(seed), 0
    until = perf_counter() + seconds
    while perf_counter() < until:
        pid = source.choice(pids)
        os.kill(pid, signal.SIGSTOP)
        try:
            sleep(source.uniform(*_STOPPED_SECONDS))
        finally:
            os.kill(pid, signal.SIGCONT)
        stops += 1
        sleep(source.uniform(*_STOPPED_SECONDS) / 10)
    return stops


def mixed_batches(pool: list[bytes], source: random.Random) -> list[list[bytes]]:
    """Cut a pool into batches of sizes drawn from `SIZES`, in order, nothing left out."""
    sizes = []
    left = len(pool)
    while left:
        sizes.append(min(source.choice(SIZES), left))
        left -= sizes[-1]
    return [pool[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]


class _Writer:
    """The worker of one process: what it appended is the pool over and over, in pieces."""

    def __init__(self, task: Task, process: int) -> None:
        probe = task.probe
        pool = build_pool(probe.workload, _POOL_ENTRIES, task.seed, process, probe.processes)
        self._appended = Appended(pool)
        self._batches = mixed_batches(self._appended.pool, random.Random(f"{task.seed}/{process}"))
        root: Path = task.directory / "log"
        self._client = cometlog.open(root, engine_config(probe.config))
        self._writer = self._client.writer(STREAM)

    def append(self, seconds: float) -> int:
        """Append until the time is up or there is as much as is read back in a moment; the number of appends."""
        one, appends = self._appended, 0
        until = perf_counter() + seconds
        while perf_counter() < until and one.count < _ENTRIES_MAX:
            batch = self._batches[appends % len(self._batches)]
            if len(batch) == 1:
                one.acknowledged[self._writer.append(batch[0])] = one.count
            else:
                numbers = self._writer.extend(batch)
                one.acknowledged[numbers[0]] = one.count
                one.acknowledged[numbers[-1]] = one.count + len(batch) - 1
            one.count += len(batch)
            appends += 1
        return appends

    def close(self) -> Appended:
        self._client.close()
        return self._appended
