"""Writers at once on one shard, beside one writer alone and a C loop of as many processes.

As many processes write as there are CPUs, at most WRITERS_MAX. Each value is the time of one entry of one writer in ns while all
write: it stays what it is alone where writers cost each other nothing. `allowed` is the slower of one writer alone and the C
loop: the lesser of the two rates. All take turns: a burst of BURST_BYTES of all writers together, after a pause in which pages
are populated ahead.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from statistics import median
from time import monotonic

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark
from cometbench.errors import CannotMeasureError
from cometbench.many_processes import ManyProcesses
from cometbench.probe import Outcome, Task
from cometbench.verification import in_all
from cometbench.workloads import SINGLE_LINE_BYTES

WRITERS_MAX = 8
BURST_BYTES = 16 << 20
_BATCH = 100
_REST_MS = 30
_TURNS_MAX = 5  # all of it is read back


def measure(task: Task) -> Outcome:
    """Append by one writer and by several, one entry a call and 100, and verify every log."""
    writers = min(WRITERS_MAX, len(os.sched_getaffinity(0)))
    if writers < 2:
        raise CannotMeasureError("two writers at once need two CPUs; this process may use one")
    crews = {
        benchmark.name: ManyProcesses(benchmark, _made(task.directory / benchmark.name), task.seed)
        for benchmark in _benchmarks(task, writers)
    }
    calls = BURST_BYTES // SINGLE_LINE_BYTES // writers // _BATCH * _BATCH
    times = _take_turns(crews, calls, task)
    finding = in_all([crew.finish() for crew in crews.values()])
    values = {name: median(taken) for name, taken in times.items()}
    values["allowed"] = max(values["one"], values["c_loop"])
    return Outcome(values, finding, {"writers": float(writers), "turns": float(len(times["one"]))})


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _benchmarks(task: Task, writers: int) -> list[Benchmark]:
    def on_log(name: str, processes: int, batch: int = 1, shards: int = 1) -> Benchmark:
        return Benchmark(
            name=name, experiment="goal", subject="mmap", implementation=ENGINE_SUBJECT, workload=task.probe.workload,
            batch=batch, processes=processes, durability="survives_process_crash",
            config={**task.probe.config, "rest_ms": _REST_MS, "shards": shards},
        )  # fmt: skip

    c_loop = Benchmark(
        name="c_loop", experiment="goal", subject="contended_loop", workload=task.probe.workload, processes=writers,
        implementation="cometbench.subjects.contended_loop:ContendedLoop", config={"writers": writers},
    )  # fmt: skip
    return [
        on_log("one", 1),
        on_log("shared", writers),
        on_log("shards16", writers, shards=16),
        on_log("batch100_one", 1, _BATCH),
        on_log("batch100_shared", writers, _BATCH),
        c_loop,
    ]


def _take_turns(crews: dict[str, ManyProcesses], entries: int, task: Task) -> dict[str, list[float]]:
    """Return ns per entry of one writer, a value a turn; each writer appends `entries` of them."""
    order, times = random.Random(task.seed), {name: list[float]() for name in crews}
    calls = {name: entries // _BATCH if name.startswith("batch") else entries for name in crews}
    for name, crew in crews.items():
        crew.seconds(max(1, calls[name] // 10))
    until = monotonic() + task.seconds
    while (monotonic() < until and len(times["one"]) < _TURNS_MAX) or not times["one"]:
        for name in order.sample(list(crews), len(crews)):
            times[name].append(crews[name].seconds(calls[name]) / entries * 1e9)
    return times
