"""A benchmark in the rounds: one pyperf worker a turn, whose log is verified; the first one calibrates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache

import pyperf

from cometbench import workloads
from cometbench.benchmark import Benchmark, code_hash
from cometbench.forking import Pool
from cometbench.model import Measurement, Sample, Verification
from cometbench.round_item import RoundItem, Workplace, process_kind

# What pyperf may keep about a worker; the rest names hosts, paths and boot times.
_PUBLIC_METADATA = frozenset(
    {
        "aslr",
        "batch",
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
# Where nothing is calibrated (smoke): entries of a value, and calls of one where each waits for the disk.
_UNCALIBRATED_ENTRIES = 512
_UNCALIBRATED_SYNCS = 4


class BenchmarkItem(RoundItem):
    """Loops, one sample and one raw pyperf run per worker, verification."""

    def __init__(self, benchmark: Benchmark, workplace: Workplace) -> None:
        super().__init__(benchmark, workplace)
        self.benchmark = benchmark
        self.loops = 0
        self._calibration_calls = 0
        self._version = ""
        self.raw: list[pyperf.Run] = []
        self._samples: list[Sample] = []
        self._verification = Verification(status="not_applicable")

    def rounds_done(self) -> set[int]:
        """Return the rounds that have a sample."""
        return {sample.round for sample in self._samples}

    def restore(self, stored: Mapping[str, Measurement], raw: Mapping[str, list[pyperf.Run]]) -> None:
        """Take up samples, loops and verification of this benchmark."""
        measurement = stored.get(self.name)
        if measurement is None or measurement.failure is not None:
            return
        self._samples, self._verification = list(measurement.samples), measurement.verification
        self.loops = int(float(measurement.extra["loops"]))
        self._calibration_calls = int(float(measurement.extra["calibration_calls"]))
        self._version = str(measurement.extra.get("version", ""))
        self.raw = list(raw.get(self.name, []))

    def measure(self, round_number: int, order: int) -> None:
        """Run one worker: a warm-up and the profile's values. The first worker finds how many calls a value takes."""
        profile = self.workplace.profile
        options = ["-w", "1", "-n", str(profile.values)]
        if self.loops:
            options += ["-l", str(self.loops)]
        elif profile.value_seconds_min is None:
            options += ["-l", str(self._loops_max(_UNCALIBRATED_ENTRIES // self.benchmark.batch))]
        else:
            loops_max = self._loops_max(profile.value_entries_max)
            options += ["-l", str(loops_max), "--calibrate-seconds", str(profile.value_seconds_min)]
        run = self._worker(options)
        if self.failure:
            return
        values = [self.benchmark.stored_value(seconds) for seconds in run.values]
        self._samples.append(Sample(round=round_number, order=order, values=values))
        self.raw.append(_public(run))

    def raw_runs(self) -> list[pyperf.Run]:
        """One raw run per worker."""
        return self.raw

    def measurements(self) -> list[Measurement]:
        """Return the one measurement of a benchmark."""
        return [self._measurement()] if self._samples or self.failure else []

    def _loops_max(self, loops: int) -> int:
        """Return the most calls that a value may take, `loops` at most."""
        benchmark, profile = self.benchmark, self.workplace.profile
        facts = workload_facts(benchmark.workload, benchmark.batch, self.workplace.seed)
        bytes_per_call = benchmark.bytes_per_call or facts.entry_bytes_mean * benchmark.batch
        bytes_max = min(profile.value_bytes_max, benchmark.value_bytes_max or profile.value_bytes_max)
        by_bytes = bytes_max / max(bytes_per_call * benchmark.processes, 1)
        by_entries = profile.value_entries_max / (benchmark.batch * benchmark.processes)
        limit = by_bytes if benchmark.bytes_per_call else min(by_bytes, by_entries)
        if profile.value_seconds_min is None and benchmark.durability == "survives_power_loss":
            limit = min(limit, _UNCALIBRATED_SYNCS)
        return max(1, min(loops, int(limit)))

    def _worker(self, options: Sequence[str]) -> pyperf.Run:
        """One worker process in a place of its own; folds its verification in."""
        benchmark = self.benchmark
        with self.workplace.place() as place, self.workplace.services.serving(benchmark.service) as served:
            output = place.directory / "pyperf.json"
            arguments = [
                *("--spec", benchmark.configured(served).to_json(), "--directory", str(place.bench)),
                *("--seed", str(self.workplace.seed), "--outcome", str(place.outcome)),
                *("--worker", "-o", str(output), *options),
            ]
            self.workplace.run(
                "cometbench.worker", arguments, place, fresh=benchmark.fresh, pools=self._pools()
            )
            self._fold(place.read_outcome())
            run: pyperf.Run = pyperf.Benchmark.load(str(output)).get_runs()[0]
            return run

    def _pools(self) -> list[Pool]:
        """Return what the writers append, as `measuring.Writing` builds it."""
        benchmark, seed = self.benchmark, self.workplace.seed
        size = workloads.pool_size(benchmark.batch)
        return [
            (benchmark.workload, size, seed, process, benchmark.processes)
            for process in range(benchmark.processes)
        ]

    def _fold(self, outcome: dict[str, str | int]) -> None:
        before = self._verification
        self.loops = int(outcome["loops"])
        self._calibration_calls += int(outcome["calibration_calls"])
        self._version = str(outcome["version"])
        self._verification = Verification(
            status=str(outcome["status"]),  # type: ignore[arg-type]
            entries_expected=before.entries_expected + int(outcome["entries_expected"]),
            entries_found=before.entries_found + int(outcome["entries_found"]),
            detail=str(outcome["detail"]),
        )
        if self._verification.status == "failed":
            self.failure = f"verification failed: {self._verification.detail}"

    def _measurement(self) -> Measurement:
        benchmark = self.benchmark
        extra: dict[str, float | str] = {
            "loops": float(self.loops),
            "calibration_calls": float(self._calibration_calls),
            "process": process_kind(benchmark),
            "rounds_wanted": float(self.rounds_wanted),
        }
        if self._version:
            extra["version"] = self._version
        if benchmark.workload != "none":
            facts = workload_facts(benchmark.workload, benchmark.batch, self.workplace.seed)
            extra.update(dataclasses.asdict(facts))
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
            file_system=self.workplace.file_system,
            config=dict(benchmark.config),
            code_hash="" if self.failure else code_hash(benchmark),
            samples=self._samples,
            verification=self._verification,
            failure=self.failure,
            extra=extra,
        )


@cache
def workload_facts(workload: str, batch: int, seed: int) -> workloads.Entropy:
    """Entry size and entropy of the pool that a writer of this batch size appends."""
    return workloads.entropy(workloads.build_pool(workload, workloads.pool_size(batch), seed))


def _public(run: pyperf.Run) -> pyperf.Run:
    metadata = {key: value for key, value in run.get_metadata().items() if key in _PUBLIC_METADATA}
    return pyperf.Run(run.values, warmups=run.warmups, metadata=metadata, collect_metadata=False)
