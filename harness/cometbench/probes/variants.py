"""Settings against one another: the same entries appended under each, in turns, by one process.

A probe's `config` describes the variants, a key `<variant>/<key>` each: `workload`, `batch`, `processes` as a benchmark has them,
`threads` for writer threads instead of processes, `memory` for a log on tmpfs, and any other key of the engine subject. Variants of
one `group` take turns; one group follows the other, so that no more logs are open, and helper threads awake, than are compared. A
value `<variant>` is the time of one entry in nanoseconds, of all writers together, from as many entries for each variant;
`<variant>_stored` the bytes of its frames for one byte given, `_saved` the same as per cent saved, `_ratio` as bytes given for one
stored.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

from cometbench import workloads
from cometbench.benchmark import ENGINE_SUBJECT, Benchmark, ConfigValue
from cometbench.many_processes import ManyProcesses
from cometbench.many_threads import ManyThreads
from cometbench.measuring import OneProcess
from cometbench.probe import Outcome, Probe, Task
from cometbench.probes.places import memory_directory
from cometbench.probes.stored import frame_bytes
from cometbench.verification import Finding, in_all

VALUES = 5
_POOL_BYTES = 2 << 20
# What a value may append, for each second of the probe and at most: all of it is read back.
_VALUE_BYTES_PER_SECOND, _VALUE_BYTES_MAX = 32 << 20, 16 << 20
_VALUE_ENTRIES_PER_SECOND, _VALUE_ENTRIES_MAX = 160_000, 100_000
_FIRST_VALUE_ENTRIES = 512
# Variants that rest before they append do it in bursts that the engine's least lead holds: what goes beyond it would wait for pages.
_BURST_BYTES_MAX, _BURSTS = 512 << 10, 4

_SIZES: Mapping[str, tuple[str, Callable[[float], float]]] = {
    "stored": ("x", lambda stored: stored),
    "saved": ("%", lambda stored: 100.0 * (1.0 - stored)),
    "ratio": ("x", lambda stored: 1.0 / stored),
}

Variants = Mapping[str, Mapping[str, ConfigValue]]


def variants_probe(
    name: str, variants: Variants, common: Mapping[str, ConfigValue], *, sizes: tuple[str, ...] = (), seconds: float = 0.5
) -> Probe:  # fmt: skip
    """Return the probe that compares `variants`; `sizes` are values like `<variant>_saved`, `common` holds for each variant."""
    described = {
        f"{variant}/{key}": value
        for variant, own in variants.items()
        for key, value in {**common, **own}.items()
    }
    values = dict.fromkeys(variants, "ns") | {size: _SIZES[size.rpartition("_")[2]][0] for size in sizes}
    return Probe(
        name=name, experiment=name.partition(".")[0], subject="cometlog", values=values, config=described,
        implementation="cometbench.probes.variants:compare", seconds=seconds,
    )  # fmt: skip


class _Variant(NamedTuple):
    benchmark: Benchmark
    on_tmpfs: bool
    threads: bool
    group: str


def _variants_of(probe: Probe) -> dict[str, _Variant]:
    keys: dict[str, dict[str, ConfigValue]] = {}
    for key, value in probe.config.items():
        variant, _, rest = key.partition("/")
        keys.setdefault(variant, {})[rest] = value
    return {name: _variant_of(f"{probe.name}.{name}", config) for name, config in keys.items()}


def _variant_of(name: str, config: dict[str, ConfigValue]) -> _Variant:
    threads = int(config.get("threads", 0))
    synced = "sync_every" in config or config.get("write_path") in ("sync", "async")
    benchmark = Benchmark(
        name=name, experiment=name.partition(".")[0], subject="cometlog", implementation=ENGINE_SUBJECT,
        workload=str(config["workload"]), batch=int(config.get("batch", 1)),
        processes=threads or int(config.get("processes", 1)),
        durability="survives_power_loss" if synced else "survives_process_crash", config=config,
    )  # fmt: skip
    return _Variant(benchmark, bool(config.get("memory", False)), threads > 0, str(config.get("group", "")))


def compare(task: Task) -> Outcome:
    """Probe function: time the variants of each group in turns and verify every log."""
    variants = _variants_of(task.probe)
    seconds = task.seconds / len(variants) / (VALUES + 2)
    values: dict[str, float] = {}
    findings: list[Finding] = []
    with ExitStack() as stack:
        on_tmpfs = any(variant.on_tmpfs for variant in variants.values())
        memory = stack.enter_context(memory_directory()) if on_tmpfs else task.directory
        places = {
            name: (memory if variant.on_tmpfs else task.directory) / name
            for name, variant in variants.items()
        }
        for group in dict.fromkeys(variant.group for variant in variants.values()):
            own = {name: variant for name, variant in variants.items() if variant.group == group}
            writers = _open(own, places, task.seed)
            times = _time(own, writers, task, seconds)
            for name, variant in own.items():
                values[name] = median(times[name])
                findings.append(writers[name].finish())
                values |= _sizes(name, variant.benchmark, places[name], findings[-1].entries_expected, task)
    return Outcome(values, in_all(findings))


def _open(
    variants: Mapping[str, _Variant], places: Mapping[str, Path], seed: int
) -> dict[str, OneProcess | ManyProcesses | ManyThreads]:
    """Open every variant's log, those of several processes first: they are forked while nothing is open yet."""
    opened: dict[str, OneProcess | ManyProcesses | ManyThreads] = {}
    in_order = sorted(
        variants, key=lambda name: (variants[name].threads, -variants[name].benchmark.processes)
    )
    for name in in_order:
        benchmark, place = variants[name].benchmark, places[name]
        place.mkdir()
        if variants[name].threads:
            opened[name] = ManyThreads(benchmark, place, seed)
        elif benchmark.processes > 1:
            opened[name] = ManyProcesses(benchmark, place, seed)
        else:
            opened[name] = OneProcess(
                benchmark, place, seed, pool_of(benchmark.workload, benchmark.batch, seed)
            )
    return opened


@cache
def pool_of(workload: str, batch: int, seed: int) -> list[bytes]:
    """Return whole batches of different entries, 4 MiB of them or one batch."""
    size = len(workloads.build_pool(workload, 1, seed)[0])
    batches = min(max(_POOL_BYTES // (size * batch), 1), workloads.POOL_ENTRIES_MINIMUM // batch + 1)
    return workloads.build_pool(workload, batches * batch, seed)


def _time(
    variants: Mapping[str, _Variant], writers: Mapping[str, OneProcess | ManyProcesses | ManyThreads], task: Task,
    seconds: float,
) -> dict[str, list[float]]:  # fmt: skip
    """Return VALUES times of one entry for each variant; a value takes so many seconds for the slowest of them."""
    calls = _calls_of_a_value(variants, writers, task, seconds)
    order, times = random.Random(task.seed), {name: list[float]() for name in variants}
    for _ in range(VALUES):
        for name in order.sample(list(variants), len(variants)):
            benchmark = variants[name].benchmark
            bursts = _BURSTS if _rests(benchmark) else 1
            entries = bursts * calls[name] * benchmark.batch * benchmark.processes
            spent_s = sum(writers[name].seconds(calls[name]) for _ in range(bursts))
            times[name].append(spent_s / entries * 1e9)
    return times


def _rests(benchmark: Benchmark) -> bool:
    return float(benchmark.config.get("rest_ms", 0)) > 0


def _calls_of_a_value(
    variants: Mapping[str, _Variant], writers: Mapping[str, OneProcess | ManyProcesses | ManyThreads], task: Task,
    seconds: float,
) -> dict[str, int]:  # fmt: skip
    """Return how many calls make a value of each variant: the same entries for all that append the same and promise the same.

    The first bytes of a value lie on pages that were populated ahead, the others wait for the helper thread: a value that is shorter
    than another would be faster for that alone (65,536 lines took five times as long each as 4096, and the same CPU time).
    """
    entries: dict[tuple[str, str], int] = {}
    for name, variant in variants.items():
        benchmark = variant.benchmark
        calls = _calibrate(writers[name], benchmark, seconds, task)
        kind = (benchmark.workload, benchmark.durability)
        found = calls * benchmark.batch * benchmark.processes
        entries[kind] = min(entries.get(kind, found), found)
    return {
        name: max(1, entries[one.workload, one.durability] // (one.batch * one.processes))
        for name, one in ((name, variant.benchmark) for name, variant in variants.items())
    }


def _calibrate(
    writer: OneProcess | ManyProcesses | ManyThreads, benchmark: Benchmark, seconds: float, task: Task
) -> int:
    """Return how many calls take so many seconds, as far as a value may hold them; a stall ends no doubling by itself."""
    size = len(workloads.build_pool(benchmark.workload, 1, task.seed)[0])
    bytes_max = min(_VALUE_BYTES_MAX, int(_VALUE_BYTES_PER_SECOND * task.seconds))
    if _rests(benchmark):
        bytes_max, seconds = min(bytes_max, _BURST_BYTES_MAX), seconds / _BURSTS
    entries_max = min(_VALUE_ENTRIES_MAX, int(_VALUE_ENTRIES_PER_SECOND * task.seconds), bytes_max // size)
    synced = benchmark.durability == "survives_power_loss"
    calls_max = max(1, entries_max // (benchmark.batch * benchmark.processes))
    calls = 1 if synced else max(1, min(_FIRST_VALUE_ENTRIES // benchmark.batch, calls_max))
    while calls < calls_max and min(writer.seconds(calls), writer.seconds(calls)) < seconds:
        calls = min(2 * calls, calls_max)
    return calls


def _sizes(name: str, benchmark: Benchmark, place: Path, entries: int, task: Task) -> dict[str, float]:
    """Return the values of a variant's sizes that the probe asks for."""
    asked = [size for size in _SIZES if f"{name}_{size}" in task.probe.values]
    if not asked:
        return {}
    pool = pool_of(benchmark.workload, benchmark.batch, task.seed)
    whole, rest = divmod(entries, len(pool))
    given = whole * sum(map(len, pool)) + sum(map(len, pool[:rest]))
    stored = frame_bytes(place / "log") / given
    return {f"{name}_{size}": _SIZES[size][1](stored) for size in asked}
