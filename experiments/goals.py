"""The speed goals that are ratios within one run: an append against the least the machine allows."""

from __future__ import annotations

import dataclasses

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark
from cometbench.experiment import Experiment
from cometbench.goals import evaluate_goals
from cometbench.model import Run
from experiments.q_quick import workload_of

BATCHES = (100, 1000, 10_000)

# A burst that the pages populated ahead hold (the engine's lead is at most 32 MiB of frames); a worker's four
# values together fill more than a segment, so that a rotation is among them.
_BURST_BYTES_MAX = 16 << 20
_WRITER = Benchmark(
    name="goal.writer_append.mmap",
    experiment="goal",
    subject="mmap",
    implementation=ENGINE_SUBJECT,
    workload="json_line",
    durability="survives_process_crash",
    rounds="other",
    value_bytes_max=_BURST_BYTES_MAX,
    config={"write_path": "mmap", "preset": "default", "via": "writer", "rest_ms": 30},
)
_SYSCALLS = dataclasses.replace(
    _WRITER,
    name="goal.mmap.syscalls",
    config={"write_path": "mmap", "preset": "default", "segment_size_bytes": 32 << 20},
    value_bytes_max=0,
    appends_max=1_000_000,
)


def _batch_pair(batch: int) -> tuple[Benchmark, Benchmark]:
    mmap = dataclasses.replace(
        _WRITER, name=f"goal.batch{batch}.mmap", batch=batch, workload=workload_of(batch)
    )
    return mmap, dataclasses.replace(
        mmap,
        name=f"goal.batch{batch}.c_loop",
        subject="c_loop",
        implementation="cometbench.subjects.c_loop:CLoop",
        config={},
    )


def finding(run: Run) -> list[str]:
    """Each goal that this run can judge: measured value with its interval, bound, verdict."""
    return [
        f"{result.goal.title}: {result.estimate.value:.3f} [{result.estimate.low:.3f}, "
        f"{result.estimate.high:.3f}] {result.unit},"
        f" at most {result.goal.bound:.3f}: {result.verdict} ({result.reason})"
        for result in evaluate_goals(run)
        if result.estimate is not None
    ]


EXPERIMENT = Experiment(
    section="goals",
    title="Speed goals",
    question="How close does an append come to the least that this machine and Python allow?",
    method=(
        "Ratios of workers of one round, all on new files: writer.append against os.write of the same bytes"
        " and against an empty C call in the same loop, client.append against writer.append, batches "
        "against a C loop that copies the same bytes objects one by one into a map that was allocated and "
        "populated beforehand. A value is a burst of at most 16 MiB after a pause of 30 ms, in which the "
        "engine's helper thread populates pages ahead; rotation falls into the bursts."
    ),
    limitations=(
        "The C loop pays neither page faults nor rotation. A writer that never pauses is bound by how fast "
        "the file system hands out pages (floor fallocate_populate_mib); section Q shows it. Where other "
        "work takes the second CPU, the helper falls behind and the log pays the page faults itself. Where "
        "a system call is cheap the 1/7 goal asks for less than Python's own call costs; the goal is then "
        "the second one."
    ),
    benchmarks=(
        _WRITER,
        dataclasses.replace(
            _WRITER, name="goal.client_append.mmap", config={**_WRITER.config, "via": "client"}
        ),
        dataclasses.replace(
            _WRITER,
            name="goal.os_write",
            subject="os_write",
            implementation="cometbench.subjects.os_write:OsWrite",
            config={},
        ),
        dataclasses.replace(
            _WRITER,
            name="goal.empty_c_call",
            subject="empty_c_call",
            durability="none",
            config={},
            implementation="cometbench.subjects.empty_call:EmptyCall",
        ),
        *(benchmark for batch in BATCHES for benchmark in _batch_pair(batch)),
    ),
    syscalls=(_SYSCALLS,),
    finding=finding,
)
