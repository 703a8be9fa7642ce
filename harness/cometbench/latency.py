"""The latency pass: per-operation samples of one benchmark, summarised.

A percentile that rests on few is hidden.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cometbench.benchmark import Benchmark, code_hash
from cometbench.environment import mount_of
from cometbench.errors import CometbenchError
from cometbench.histogram import Histogram, enough_beyond
from cometbench.model import LatencySummary, Measurement, Verification
from cometbench.processes import run_module
from cometbench.profiles import Profile
from cometbench.run_root import RunRoot


class LatencyPass(NamedTuple):
    """The measurement and its raw samples in nanoseconds, in the order they were taken."""

    measurement: Measurement
    samples_ns: npt.NDArray[np.uint32]


def measure_latency(
    benchmark: Benchmark, profile: Profile, root: RunRoot, seed: int, search_path: Sequence[Path] = ()
) -> LatencyPass:
    """Run the pass in a process of its own.

    A failure, also of the verification, is in `measurement.failure`.
    """
    directory = root.fresh(benchmark.name)
    outcome_file, samples_file, bench_directory = (
        directory / "outcome.json",
        directory / "samples",
        directory / "bench",
    )
    bench_directory.mkdir()
    arguments = ["--spec", benchmark.to_json(), "--directory", str(bench_directory), "--seed", str(seed),
                 "--seconds", str(profile.latency_seconds), "--samples-max", str(profile.latency_samples_max),
                 "--samples", str(samples_file), "--outcome", str(outcome_file)]  # fmt: skip
    samples = np.empty(0, dtype=np.uint32)
    try:
        run_module(
            "cometbench.latency_worker", arguments, profile.worker_seconds_max, search_path=search_path
        )
        raw = np.frombuffer(samples_file.read_bytes(), dtype=np.uint64)
        samples = np.minimum(raw, np.iinfo(np.uint32).max).astype(np.uint32)
        outcome = json.loads(outcome_file.read_text())
        failure = f"verification failed: {outcome['detail']}" if outcome["status"] == "failed" else None
    except (CometbenchError, OSError) as error:
        outcome = {"status": "not_applicable", "timer_overhead_ns": 0}
        failure = str(error)
    finally:
        root.drop(directory)
    overhead = float(outcome.pop("timer_overhead_ns"))
    measurement = Measurement(
        name=benchmark.name,
        experiment=benchmark.experiment,
        subject=benchmark.subject,
        workload=benchmark.workload,
        batch=benchmark.batch,
        processes=benchmark.processes,
        metric="latency",
        unit="ns",
        durability=benchmark.durability,  # type: ignore[arg-type]
        file_system=mount_of(root.path).file_system,
        config=dict(benchmark.config),
        code_hash="" if failure else code_hash(benchmark),
        verification=Verification(**outcome),
        failure=failure,
        latency=None if failure else summarise(samples, overhead, benchmark.name),
    )
    return LatencyPass(measurement, samples)


def summarise(samples_ns: npt.NDArray[np.uint32], timer_overhead_ns: float, key: str) -> LatencySummary:
    """Percentiles of the samples as measured, timer included; None where fewer than 100 lie beyond."""
    count = len(samples_ns)

    def percentile(percent: float) -> float | None:
        return float(np.percentile(samples_ns, percent)) if enough_beyond(count, percent) else None

    return LatencySummary(
        count=count,
        p50_ns=percentile(50),
        p90_ns=percentile(90),
        p99_ns=percentile(99),
        p99_9_ns=percentile(99.9),
        timer_overhead_ns=timer_overhead_ns,
        key=key,
    )


def summarise_histograms(rounds: Sequence[str], timer_overhead_ns: float) -> LatencySummary:
    """Percentiles of the samples of all rounds: their counts are added, their percentiles never averaged."""
    merged = Histogram.merged(map(Histogram.from_text, rounds))
    return LatencySummary(
        count=merged.count,
        p50_ns=merged.percentile(50),
        p90_ns=merged.percentile(90),
        p99_ns=merged.percentile(99),
        p99_9_ns=merged.percentile(99.9),
        timer_overhead_ns=timer_overhead_ns,
        histograms=list(rounds),
    )
