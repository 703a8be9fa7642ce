"""The interleaved runner: calibrate once, then per round, in a shuffled seeded order.

One pyperf worker per benchmark.

Drift of the machine thus falls on all benchmarks of a round alike, and ratios pair workers of one round.
Every worker verifies the log it wrote; a benchmark whose log differs fails and gets no further worker.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from time import monotonic

import pyperf

from cometbench import workloads
from cometbench.benchmark import Benchmark, code_hash
from cometbench.environment import mount_of
from cometbench.errors import CometbenchError
from cometbench.model import Measurement, Sample, Verification
from cometbench.processes import WorkerFailedError, run_module
from cometbench.profiles import Profile
from cometbench.progress import RunProgress
from cometbench.run_root import RunRoot

# What pyperf may keep about a worker; the rest names hosts, paths and boot times.
_PUBLIC_METADATA = frozenset(
    {
        "aslr",
        "batch",
        "calibrate_loops",
        "cpu_config",
        "cpu_count",
        "cpu_freq",
        "cpu_model_name",
        "duration",
        "load_avg_1min",
        "loops",
        "mem_max_rss",
        "name",
        "perf_version",
        "processes",
        "python_implementation",
        "python_version",
        "runnable_threads",
        "timer",
        "unit",
        "workload",
    }
)
# Until a benchmark has run once: about what starting an interpreter and reading a small log back takes.
_WORKER_SECONDS_GUESS = 0.5
# Where nothing is calibrated (smoke): entries of a value, and calls of one where each waits for the disk.
_UNCALIBRATED_ENTRIES = 512
_UNCALIBRATED_SYNCS = 4


@dataclasses.dataclass
class Collected:
    """What one benchmark has so far: loops, one sample and one raw pyperf run per worker, verification.

    Failure.
    """

    benchmark: Benchmark
    loops: int = 0
    samples: list[Sample] = dataclasses.field(default_factory=list)
    raw: list[pyperf.Run] = dataclasses.field(default_factory=list)
    status: str = "not_applicable"
    entries_expected: int = 0
    entries_found: int = 0
    detail: str = ""
    failure: str | None = None
    worker_seconds: float = _WORKER_SECONDS_GUESS


class Runner:
    """Runs benchmarks under one profile in one run root; `collected` is valid at any time."""

    def __init__(
        self,
        benchmarks: Sequence[Benchmark],
        profile: Profile,
        root: RunRoot,
        *,
        seed: int,
        progress: RunProgress,
        search_path: Sequence[Path] = (),
    ) -> None:
        self.collected = {benchmark.name: Collected(benchmark) for benchmark in benchmarks}
        if len(self.collected) != len(benchmarks):
            raise CometbenchError("benchmark names must be unique in a run")
        self._profile, self._root, self._seed, self._progress = profile, root, seed, progress
        self._search_path = search_path
        self._workers_started = 0

    def run(self) -> None:
        """Calibrate, then all rounds. Failures are collected, not raised."""
        if self._profile.value_seconds_min is None:
            for item in self.collected.values():
                item.loops = self._clamp(item.benchmark, _UNCALIBRATED_ENTRIES // item.benchmark.batch)
        else:
            self._calibrate_all(self._profile.value_seconds_min)
        for round_number in range(
            max((self._profile.rounds(i.benchmark) for i in self.collected.values()), default=0)
        ):
            self._round(round_number)

    def measurements(self) -> list[Measurement]:
        """One measurement per benchmark that has a value or a failure, in the order given."""
        file_system = mount_of(self._root.path).file_system
        return [
            _measurement(i, file_system, self._seed)
            for i in self.collected.values()
            if i.samples or i.failure
        ]

    def suite(self) -> pyperf.BenchmarkSuite | None:
        """Return the raw runs as a pyperf suite, or None where nothing was measured."""
        benchmarks = [pyperf.Benchmark(item.raw) for item in self.collected.values() if item.samples]
        return pyperf.BenchmarkSuite(benchmarks) if benchmarks else None

    def _round(self, number: int) -> None:
        items = [
            i for i in self.collected.values() if self._profile.rounds(i.benchmark) > number and not i.failure
        ]
        random.Random(f"{self._seed}/round/{number}").shuffle(items)
        rounds = max(self._profile.rounds(i.benchmark) for i in self.collected.values())
        self._progress.phase(
            f"round {number + 1} of {rounds}", len(items), self._seconds_left(number - 1, [])
        )
        for order, item in enumerate(items):
            self._guarded(item, lambda item=item, order=order: self._measure(item, number, order))
            left = self._seconds_left(number, items[order + 1 :])
            self._progress.advance(order + 1, len(items), item.benchmark.name, left)

    def _seconds_left(self, rounds_done_index: int, rest_of_round: Sequence[Collected]) -> float:
        later = sum(
            max(self._profile.rounds(item.benchmark) - rounds_done_index - 1, 0) * item.worker_seconds
            for item in self.collected.values()
            if not item.failure
        )
        return later + sum(item.worker_seconds for item in rest_of_round)

    def _guarded(self, item: Collected, step: object) -> None:
        started = monotonic()
        try:
            step()  # type: ignore[operator]
        except (WorkerFailedError, CometbenchError, OSError) as error:
            item.failure = str(error)
        if item.failure:
            self._progress.say(f"FAILED {item.benchmark.name}: {item.failure}")
        item.worker_seconds = monotonic() - started

    def _calibrate_all(self, seconds_min: float) -> None:
        self._progress.phase("calibrating", len(self.collected), self._seconds_left(-1, []))
        for done, item in enumerate(self.collected.values(), 1):
            self._guarded(item, lambda item=item: self._calibrate(item, seconds_min))
            self._progress.advance(done, len(self.collected), item.benchmark.name, None)

    def _calibrate(self, item: Collected, seconds_min: float) -> None:
        # Three values must be long enough: one that a stall made long must not end the doubling.
        options = ["--calibrate-loops", "--min-time", str(seconds_min), "-w", "0", "-n", "3"]
        run = self._worker(item, options)
        item.loops = self._clamp(item.benchmark, int(run.get_metadata()["calibrate_loops"]))
        item.raw.append(_public(run))

    def _clamp(self, benchmark: Benchmark, loops: int) -> int:
        facts = workload_facts(benchmark.workload, benchmark.batch, self._seed)
        bytes_per_call = benchmark.bytes_per_call or facts.entry_bytes_mean * benchmark.batch
        bytes_max = min(
            self._profile.value_bytes_max, benchmark.value_bytes_max or self._profile.value_bytes_max
        )
        by_bytes = bytes_max / max(bytes_per_call * benchmark.processes, 1)
        by_entries = self._profile.value_entries_max / (benchmark.batch * benchmark.processes)
        limit = by_bytes if benchmark.bytes_per_call else min(by_bytes, by_entries)
        if self._profile.value_seconds_min is None and benchmark.durability == "survives_power_loss":
            limit = min(limit, _UNCALIBRATED_SYNCS)
        return max(1, min(loops, int(limit)))

    def _measure(self, item: Collected, round_number: int, order: int) -> None:
        run = self._worker(item, ["-w", "1", "-n", str(self._profile.values), "-l", str(item.loops)])
        if item.failure:
            return
        values = [item.benchmark.stored_value(seconds) for seconds in run.values]
        item.samples.append(Sample(round=round_number, order=order, values=values))
        item.raw.append(_public(run))

    def _worker(self, item: Collected, options: Sequence[str]) -> pyperf.Run:
        """One worker process in a directory of its own; folds its verification into `item`."""
        directory = self._root.fresh(f"worker-{self._workers_started:05d}")
        self._workers_started += 1
        outcome, output = directory / "outcome.json", directory / "pyperf.json"
        bench_directory = directory / "bench"
        bench_directory.mkdir()
        arguments = [
            *(
                "--spec",
                item.benchmark.to_json(),
                "--directory",
                str(bench_directory),
                "--seed",
                str(self._seed),
            ),
            *("--outcome", str(outcome), "--worker", "-o", str(output), *options),
        ]
        try:
            run_module(
                "cometbench.worker",
                arguments,
                self._profile.worker_seconds_max,
                search_path=self._search_path,
            )
            _fold(item, json.loads(outcome.read_text()))
            run: pyperf.Run = pyperf.Benchmark.load(str(output)).get_runs()[0]
            return run
        finally:
            self._root.drop(directory)


def _fold(item: Collected, outcome: dict[str, str | int]) -> None:
    item.entries_expected += int(outcome["entries_expected"])
    item.entries_found += int(outcome["entries_found"])
    item.status, item.detail = str(outcome["status"]), str(outcome["detail"])
    if item.status == "failed":
        item.failure = f"verification failed: {item.detail}"


@cache
def workload_facts(workload: str, batch: int, seed: int) -> workloads.Entropy:
    """Entry size and entropy of the pool that a writer of this batch size appends."""
    return workloads.entropy(workloads.build_pool(workload, workloads.pool_size(batch), seed))


def _public(run: pyperf.Run) -> pyperf.Run:
    metadata = {key: value for key, value in run.get_metadata().items() if key in _PUBLIC_METADATA}
    return pyperf.Run(run.values, warmups=run.warmups, metadata=metadata, collect_metadata=False)


def _measurement(item: Collected, file_system: str, seed: int) -> Measurement:
    benchmark = item.benchmark
    extra: dict[str, float | str] = {"loops": float(item.loops)}
    if benchmark.workload != "none":
        extra.update(dataclasses.asdict(workload_facts(benchmark.workload, benchmark.batch, seed)))
    return Measurement(
        name=benchmark.name,
        experiment=benchmark.experiment,
        subject=benchmark.subject,
        workload=benchmark.workload,
        batch=benchmark.batch,
        processes=benchmark.processes,
        metric=benchmark.metric,
        unit=benchmark.unit,
        durability=benchmark.durability,  # type: ignore[arg-type]
        file_system=file_system,
        config=dict(benchmark.config),
        code_hash=code_hash(benchmark) if not item.failure else "",
        samples=item.samples,
        verification=Verification(
            status=item.status,  # type: ignore[arg-type]
            entries_expected=item.entries_expected,
            entries_found=item.entries_found,
            detail=item.detail,
        ),
        failure=item.failure,
        extra=extra,
    )
