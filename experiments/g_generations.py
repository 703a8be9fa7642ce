"""Section G: the write-path generations against each other and against the single-process mode."""

from __future__ import annotations

import dataclasses

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark
from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.stats import estimate, paired_ratio

# 200,000 entries of 117 bytes stay inside one segment of 64 MiB: no rotation's own calls are counted.
_APPENDS_IN_ONE_SEGMENT = 200_000
_DURABILITY = {
    "buffered": "survives_process_crash",
    "sync": "survives_power_loss",
    "async": "survives_power_loss",
    "mmap": "survives_process_crash",
}


def _path(write_path: str, name: str) -> Benchmark:
    return Benchmark(
        name=name,
        experiment="G",
        subject=write_path,
        implementation=ENGINE_SUBJECT,
        workload="json_line",
        durability=_DURABILITY[write_path],
        config={
            "write_path": write_path,
            "preset": "default" if write_path == "buffered" else "multi_process",
        },
    )


_PATHS = tuple(_path(path, f"G.{path}.batch1") for path in _DURABILITY)


def finding(run: Run) -> list[str]:
    """Per generation: time, ratio to buffered, percentiles and system calls; then first against third."""
    lines = []
    for path in _DURABILITY:
        one, reference = run.find(f"G.{path}.batch1"), run.find("G.buffered.batch1")
        if one is None or not one.samples:
            continue
        value = estimate(one.samples, run.seed)
        text = f"{path}: {value.value:,.0f} ns [{value.low:,.0f}, {value.high:,.0f}]"
        if path != "buffered" and reference is not None and reference.samples:
            ratio = paired_ratio(one.samples, reference.samples, run.seed)
            text += f", {ratio.value:,.2f}x buffered [{ratio.low:,.2f}, {ratio.high:,.2f}]"
        latency, calls = run.find(f"G.{path}.latency"), run.find(f"G.{path}.syscalls")
        if latency is not None and latency.latency is not None:
            text += f", p50 {_ns(latency.latency.p50_ns)}, p99 {_ns(latency.latency.p99_ns)}"
        if calls is not None and calls.samples:
            text += f", {calls.samples[0].values[0]:.4g} system calls per append"
        lines.append(text)
    first, third = run.find("G.sync.batch1"), run.find("G.mmap.batch1")
    if first is not None and third is not None and first.samples and third.samples:
        gain = paired_ratio(first.samples, third.samples, run.seed)
        lines.append(f"sync / mmap: {gain.value:,.0f}x [{gain.low:,.0f}, {gain.high:,.0f}]")
    return lines


def _ns(value: float | None) -> str:
    return f"{value:,.0f} ns" if value is not None else "hidden (too few samples)"


EXPERIMENT = Experiment(
    section="G",
    title="Write-path generations",
    question="What did each generation of the write path take away from the cost of one append?",
    method=(
        "The same 117-byte entries, one per append, through sync, async and mmap in multi-process mode and "
        "through buffered as the single-process reference, interleaved; ratios pair workers of one round. "
        "Percentiles come from a pass of their own with a clock reading around each call; system calls from strace, which is used for "
        "counts only."
    ),
    limitations=(
        "sync and async survive a power loss, buffered and mmap a process crash: their ratio is the price "
        "of that promise as much as of the path. Percentiles are closed-loop service times and hide "
        "waiting. One writer: contention is section Q's."
    ),
    benchmarks=_PATHS,
    latency=tuple(dataclasses.replace(path, name=f"G.{path.subject}.latency") for path in _PATHS),
    syscalls=tuple(
        dataclasses.replace(path, name=f"G.{path.subject}.syscalls", appends_max=_APPENDS_IN_ONE_SEGMENT)
        for path in _PATHS
    ),
    finding=finding,
)
