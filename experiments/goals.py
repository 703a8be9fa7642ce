"""The speed goals that are ratios within one run: the log's append against the least that the machine allows."""

from __future__ import annotations

import dataclasses

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark
from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.stats import bootstrap_interval, paired_ratio, worker_medians
from experiments.q_quick import workload_of

BATCHES = (100, 1000, 10_000)
SYSCALL_SHARE_MAX = 1 / 7
OVER_EMPTY_CALL_NS_MAX = 60.0
CLIENT_OVER_WRITER_MAX = 2.0
OVER_C_LOOP_MAX = 2.0

_WRITER = Benchmark(
    name="goal.writer_append.mmap",
    experiment="goal",
    subject="mmap",
    implementation=ENGINE_SUBJECT,
    workload="json_line",
    durability="survives_process_crash",
    rounds="other",
    config={"write_path": "mmap", "preset": "default", "via": "writer"},
)


def _batch_pair(batch: int) -> tuple[Benchmark, Benchmark]:
    mmap = dataclasses.replace(_WRITER, name=f"goal.batch{batch}.mmap", batch=batch, workload=workload_of(batch))
    return mmap, dataclasses.replace(
        mmap, name=f"goal.batch{batch}.c_loop", subject="c_loop", implementation="cometbench.subjects.c_loop:CLoop", config={}
    )


def finding(run: Run) -> list[str]:
    """Each goal: the measured ratio with its interval, the goal, and whether the whole interval keeps it."""
    lines = []
    for text, numerator, denominator, limit in (
        ("writer.append / os.write of the same bytes", "goal.writer_append.mmap", "goal.os_write", SYSCALL_SHARE_MAX),
        ("client.append / writer.append", "goal.client_append.mmap", "goal.writer_append.mmap", CLIENT_OVER_WRITER_MAX),
        *((f"batch of {n}, mmap / C loop", f"goal.batch{n}.mmap", f"goal.batch{n}.c_loop", OVER_C_LOOP_MAX) for n in BATCHES),
    ):
        one, other = run.find(numerator), run.find(denominator)
        if one is not None and other is not None and one.samples and other.samples:
            ratio = paired_ratio(one.samples, other.samples, run.seed)
            lines.append(
                f"{text}: {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}], goal <= {limit:.3f}: {_verdict(ratio, limit)}"
            )
    added = _over_empty_call(run)
    if added is not None:
        value, low, high = added
        verdict = _verdict_of(low, high, OVER_EMPTY_CALL_NS_MAX)
        lines.append(
            f"writer.append - empty C call: {value:.1f} ns [{low:.1f}, {high:.1f}],"
            f" goal where a system call is cheap <= {OVER_EMPTY_CALL_NS_MAX:.0f} ns: {verdict}"
        )
    return lines


def _over_empty_call(run: Run) -> tuple[float, float, float] | None:
    append, empty = run.find("goal.writer_append.mmap"), run.find("goal.empty_c_call")
    if append is None or empty is None or not append.samples or not empty.samples:
        return None
    by_round = {sample.round: median for sample, median in zip(empty.samples, worker_medians(empty.samples), strict=True)}
    differences = [
        median - by_round[sample.round]
        for sample, median in zip(append.samples, worker_medians(append.samples), strict=True)
        if sample.round in by_round
    ]
    if not differences:
        return None
    interval = bootstrap_interval(differences, run.seed)
    return sorted(differences)[len(differences) // 2], interval.low, interval.high


def _verdict(ratio: object, limit: float) -> str:
    return _verdict_of(ratio.low, ratio.high, limit)  # type: ignore[attr-defined]


def _verdict_of(low: float, high: float, limit: float) -> str:
    if high <= limit:
        return "met"
    return "missed" if low > limit else "inconclusive (the interval holds the limit)"


EXPERIMENT = Experiment(
    section="goals",
    title="Speed goals",
    question="How close does an append come to the least that this machine and Python allow?",
    method=(
        "Ratios of workers of one round, all on new files: writer.append against os.write of the same bytes and against "
        "an empty C call in the same loop, client.append against writer.append, batches against a C loop that copies the "
        "same bytes objects one by one into a map that was allocated and populated beforehand."
    ),
    limitations=(
        "The C loop pays neither page faults nor rotation; the log pays both inside the timed stretch. Where a system "
        "call is cheap the 1/7 goal asks for less than Python's own call costs; the goal is then the second one."
    ),
    benchmarks=(
        _WRITER,
        dataclasses.replace(_WRITER, name="goal.client_append.mmap", config={**_WRITER.config, "via": "client"}),
        dataclasses.replace(
            _WRITER, name="goal.os_write", subject="os_write", implementation="cometbench.subjects.os_write:OsWrite", config={}
        ),
        dataclasses.replace(
            _WRITER, name="goal.empty_c_call", subject="empty_c_call", durability="none", config={},
            implementation="cometbench.subjects.empty_call:EmptyCall",
        ),
        *(benchmark for batch in BATCHES for benchmark in _batch_pair(batch)),
    ),
    finding=finding,
)  # fmt: skip
