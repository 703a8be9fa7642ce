"""Latency of appends under open-loop load: capacity first, then a stall meter and several loads, by one process or several.

Config: `implementation` of the subject and its own keys; `loads` in percent of the capacity, separated by commas; `seconds_max`: no
longer whatever the profile says; `sync_ms`: a sync so often from another thread of the first process; `keep_readings`: return each
operation's clock readings too. Values: `capacity`, and for `idle` and each `load<N>` the round's median, with a histogram behind
it. The stall meter is an operation that does nothing, under the schedule of half the capacity, by the same processes: what it waits
for is the platform's doing.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from cometbench.benchmark import Benchmark
from cometbench.crew import Crew
from cometbench.histogram import Histogram
from cometbench.measuring import Writing, verify_processes
from cometbench.open_loop import LoadGenerator, Operations, timer_overhead_ns
from cometbench.probe import Outcome, Probe, Task
from cometbench.verification import Appended

LOADS = (10, 25, 50, 80)
IDLE_LOAD = 50
# What the stages get of a probe's time: capacity, the stall meter, and the loads together.
_CAPACITY_SHARE, _IDLE_SHARE, _LOADS_SHARE = 0.15, 0.15, 0.7


class Stage(NamedTuple):
    """What one process saw in one stage; `readings` are intended, started and ended, empty unless they are kept."""

    response: Histogram
    service: Histogram
    readings: tuple[array[int], ...]


def values_of(loads: Sequence[int] = LOADS) -> dict[str, str]:
    """Return names and units of the values that these loads yield."""
    kinds = [f"load{load}_{kind}" for load in loads for kind in ("response", "service")]
    return {"capacity": "appends/s", **dict.fromkeys(["idle_response", *kinds], "ns")}


def measure(task: Task) -> Outcome:
    """Load the subject, verify its log."""
    probe, benchmark = task.probe, _benchmark_of(task.probe)
    seconds = min(task.seconds, float(probe.config.get("seconds_max", task.seconds)))
    loads = [int(load) for load in str(probe.config["loads"]).split(",")]
    crew = Crew([partial(_Writer, benchmark, task, process) for process in range(probe.processes)])
    rates = crew.call("capacity", seconds * _CAPACITY_SHARE)
    capacity = float(sum(rates))

    def stage(method: str, load: int, share: float) -> list[Stage]:
        rate = capacity * load / 100 / probe.processes
        stages: list[Stage] = crew.call(method, rate, seconds * share, f"{task.seed}/{method}/{load}")
        return stages

    histograms = {
        "idle_response": Histogram.merged(s.response for s in stage("idle", IDLE_LOAD, _IDLE_SHARE))
    }
    extra: dict[str, float | str] = {"timer_overhead_ns": timer_overhead_ns()}
    arrays: dict[str, array[int]] = {}
    for load in loads:
        stages = stage("load", load, _LOADS_SHARE / len(loads))
        histograms[f"load{load}_response"] = Histogram.merged(one.response for one in stages)
        histograms[f"load{load}_service"] = Histogram.merged(one.service for one in stages)
        extra[f"load{load}_offered_per_s"] = capacity * load / 100
        for process, one in enumerate(stages):
            kinds = zip(("intended", "started", "ended"), one.readings, strict=False)
            arrays |= {f"load{load}_{kind}_process{process}": reading for kind, reading in kinds}
    finding = verify_processes(benchmark, task.directory, crew.finish())
    values = {name: histogram.quantile(50) for name, histogram in histograms.items()}
    return Outcome({"capacity": capacity, **values}, finding, extra, arrays, histograms=histograms)


def _benchmark_of(probe: Probe) -> Benchmark:
    return Benchmark(
        name=probe.name, experiment=probe.experiment, subject=probe.subject, workload=probe.workload, batch=probe.batch,
        implementation=str(probe.config["implementation"]), processes=probe.processes, durability=probe.durability,
        config=probe.config,
    )  # fmt: skip


class _Writer:
    """The worker of one process; the seeds of its schedules differ from every other's."""

    def __init__(self, benchmark: Benchmark, task: Task, process: int) -> None:
        self._writing = Writing(benchmark, task.directory, task.seed, process)
        sync_ms = float(benchmark.config.get("sync_ms", 0)) if process == 0 else 0.0
        self._generator = LoadGenerator(self._writing, benchmark.batch, sync_ms)
        self._process, self._keeps = process, bool(benchmark.config.get("keep_readings"))

    def capacity(self, seconds: float) -> float:
        return self._generator.capacity(seconds)

    def load(self, rate_per_second: float, seconds: float, seed: str) -> Stage:
        return self._stage(self._generator.load(rate_per_second, seconds, f"{seed}/{self._process}"))

    def idle(self, rate_per_second: float, seconds: float, seed: str) -> Stage:
        return self._stage(self._generator.idle(rate_per_second, seconds, f"{seed}/{self._process}"))

    def close(self) -> Appended:
        self._generator.close()
        return self._writing.appended

    def _stage(self, operations: Operations) -> Stage:
        readings: tuple[array[int], ...] = ()
        if self._keeps and operations.intended:
            columns = (operations.intended, operations.started, operations.ended)
            readings = tuple(array("Q", [at - operations.intended[0] for at in column]) for column in columns)
        return Stage(operations.response(), operations.service(), readings)
