"""Entries per second of back-to-back batches over many shards, by one process or several.

Config: `shards`, and the engine subject's keys. Process `p` of `n` writes the shards whose number modulo `n` is `p`. Every shard is
filled first, beyond its first growth, so that `rate` is that of shards at work; `new_shards_rate` is that of the filling. Every
process stops when its time or its share of the bytes is up; a rate is of all, from the first start to the last end. Every shard has
one writer and is read back whole.
"""

from __future__ import annotations

from functools import partial
from itertools import cycle, islice
from time import perf_counter
from typing import Any, NamedTuple

import cometlog
from cometbench.crew import Crew
from cometbench.probe import Outcome, Task
from cometbench.subjects.engine import chunks_of, engine_config
from cometbench.verification import Appended, Finding, verify_entries
from cometbench.workloads import batches_of, build_pool, pool_size

BYTES_MAX = 512 << 20
FILLING_BYTES = 4 << 20
_SECONDS_MAX = 0.5
_CALLS_BETWEEN_LOOKS = 16


class Wrote(NamedTuple):
    """Clock readings around one process's appends, and the entries that it appended."""

    started: float
    ended: float
    entries: int


def measure(task: Task) -> Outcome:
    """Append, then read every shard back."""
    probe = task.probe
    shards = range(int(probe.config["shards"]))
    crew = Crew([partial(_Writer, task, process) for process in range(probe.processes)])
    new_shards_rate = _rate(crew.call("fill"))
    rate = _rate(crew.call("append", min(task.seconds, _SECONDS_MAX)))
    appended: dict[str, Appended] = {}
    for part in crew.finish():
        appended |= part
    findings = []
    with cometlog.open(task.directory / "log", read_only=True) as client:
        for shard in shards:
            stream = _stream(shard)
            findings.append(verify_entries(stream, [appended[stream]], chunks_of(client, stream)))
    return Outcome({"rate": rate, "new_shards_rate": new_shards_rate}, _all_of(findings))


def _rate(answers: list[Wrote]) -> float:
    """Return the entries per second of all processes together."""
    seconds = max(one.ended for one in answers) - min(one.started for one in answers)
    return sum(one.entries for one in answers) / seconds


def _stream(shard: int) -> str:
    return f"bench:v1:shard:{shard:04d}"


def _all_of(findings: list[Finding]) -> Finding:
    failed = next((one for one in findings if one.status == "failed"), None)
    return Finding(
        "failed" if failed else "ok",
        sum(one.entries_expected for one in findings),
        sum(one.entries_found for one in findings),
        failed.detail if failed else "",
    )


class _Writer:
    """The worker of one process, with the writers of its shards."""

    def __init__(self, task: Task, process: int) -> None:
        probe = task.probe
        pool = build_pool(probe.workload, pool_size(probe.batch), task.seed, process)
        self._batch = probe.batch
        items: list[Any] = list(batches_of(pool, probe.batch))
        self._items, self._batch_bytes = cycle(items), sum(map(len, items[0]))
        self._bytes_max = BYTES_MAX // probe.processes
        self._client = cometlog.open(task.directory / "log", engine_config(probe.config))
        own = range(process, int(probe.config["shards"]), probe.processes)
        self._writers = [self._client.writer(_stream(shard)) for shard in own]
        self._appended = [Appended(pool) for _ in own]

    def fill(self) -> Wrote:
        """Append to the shards in turn until each is past its first growth."""
        started = perf_counter()
        return self._wrote(started, self._rounds(-(-FILLING_BYTES // self._batch_bytes)))

    def append(self, seconds: float) -> Wrote:
        """Append to the shards in turn until the time or the bytes are up."""
        rounds_max = self._bytes_max // (self._batch_bytes * len(self._writers))
        rounds_between = max(1, _CALLS_BETWEEN_LOOKS // len(self._writers))
        rounds = 0
        started = perf_counter()
        while perf_counter() - started < seconds and rounds < rounds_max:
            rounds += self._rounds(rounds_between)
        return self._wrote(started, rounds)

    def _rounds(self, rounds: int) -> int:
        """Append the pool's next batches, each to every shard; returns how many."""
        extends = [writer.extend for writer in self._writers]
        for item in islice(self._items, rounds):
            for extend in extends:
                extend(item)
        return rounds

    def _wrote(self, started: float, rounds: int) -> Wrote:
        ended, entries = perf_counter(), rounds * self._batch
        for one in self._appended:
            one.count += entries
        return Wrote(started, ended, entries * len(self._writers))

    def close(self) -> dict[str, Appended]:
        """Leave the log; what was appended, by stream."""
        self._client.close()
        return {writer.stream: one for writer, one in zip(self._writers, self._appended, strict=True)}
