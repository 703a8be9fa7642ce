"""The project's own speed goals: bounds on ratios and times, judged by their interval.

Each goal states its bound as `at most`: met when the whole interval keeps it, missed when none of it does,
inconclusive in between and where the A/A control strays by a factor of 2.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from cometbench import stats
from cometbench.evaluate import noise_floor, stall_meter, stalls_text
from cometbench.floors import floor_value
from cometbench.model import Measurement, Run, Sample
from cometbench.stats import Estimate
from cometbench.units import format_range, format_value
from cometbench.verdicts import FACTOR, MINIMUM_WORKERS, rounds_text
from cometbench.views import estimate_per, samples_per

GOAL_BANDWIDTH = 8e9
GoalVerdict = Literal["met", "missed", "inconclusive", "not measured"]


class Goal(NamedTuple):
    """`first` over or minus `second`, or alone, as measured, per entry or as a percentile: it should be at most `bound`.

    Where a value alone is judged, `second` is the peer that the reason compares it with.
    """

    id: str
    title: str
    comparison: Literal["ratio", "difference", "per_entry", "value", "p99", "p99_9"]
    first: str
    second: str | None
    bound: float


class GoalResult(NamedTuple):
    """A goal with what this run says about it; `unit` is x, ns, or what a probe counts."""

    goal: Goal
    unit: str
    estimate: Estimate | None
    verdict: GoalVerdict
    reason: str


FRAMES = {1: "one entry a frame", 100: "100 entries a frame", 1000: "1,000 entries a frame"}
# Writers of durable single appends, and how many times the throughput of one they are to have.
SHARED_SYNCS = {2: 1.2, 4: 0.45 * 4, 8: 0.45 * 8}
_PERCENTILES: tuple[tuple[Literal["p99", "p99_9"], str, float], ...] = (
    ("p99", "p99", 2e3),
    ("p99_9", "p99.9", 20e3),
)
GOALS = (
    Goal(
        "single.os_write",
        "one entry, writer.append on the mmap path, against one os.write of the same bytes",
        "ratio",
        "goal.writer_append.mmap",
        "goal.os_write",
        1 / 7,
    ),
    Goal(
        "single.c_call",
        "one entry, writer.append on the mmap path, beyond an empty C call",
        "difference",
        "goal.writer_append.mmap",
        "goal.empty_c_call",
        60.0,
    ),
    Goal(
        "client.append",
        "one entry, client.append(stream, [entry]) against writer.append",
        "ratio",
        "goal.client_append.mmap",
        "goal.writer_append.mmap",
        2.0,
    ),
    *(
        Goal(
            f"batch{batch}.c_loop",
            f"batch of {batch:,}, mmap path, against the C loop that copies the same entries",
            "ratio",
            f"goal.batch{batch}.mmap",
            f"goal.batch{batch}.c_loop",
            2.0,
        )
        for batch in (100, 1000, 10000)
    ),
    *(
        Goal(
            f"batch{batch}.per_entry",
            f"batch of {batch:,}, mmap path, per entry where memcpy runs at 8 GB/s",
            "per_entry",
            f"goal.batch{batch}.mmap",
            None,
            25.0,
        )
        for batch in (100, 1000, 10000)
    ),
    *(
        Goal(
            f"single.{percentile}.{kind}",
            f"one entry on the mmap path at half the capacity, no sync running: {text} of its {kind} time",
            percentile,
            f"S.mmap.load50_{kind}",
            None,
            bound_ns,
        )
        for percentile, text, bound_ns in _PERCENTILES
        for kind in ("service", "response")
    ),
    Goal(
        "ack.time",
        "acknowledge one entry in sequence, position.ack, beside an empty C call",
        "value",
        "goal.ack.ack",
        "goal.ack.empty_call",
        80.0,
    ),
    Goal(
        "ack.blocks",
        "memory blocks allocated by 100,000 acknowledgements in sequence",
        "value",
        "goal.ack.blocks",
        None,
        0.0,
    ),
    *(
        Goal(
            f"read{batch}.bytes",
            f"read as bytes, {text}, per entry, beside one checksum pass",
            "value",
            f"goal.read{batch}.bytes",
            f"goal.read{batch}.checksum",
            50.0,
        )
        for batch, text in FRAMES.items()
    ),
    *(
        Goal(
            f"read{batch}.zero_copy",
            f"read without a copy, {text}, per entry, beyond one checksum pass",
            "difference",
            f"goal.read{batch}.zero_copy",
            f"goal.read{batch}.checksum",
            3.0,
        )
        for batch, text in FRAMES.items()
    ),
    Goal(
        "wake",
        "wake-up of a reader by an append in another process, p50, beside multiprocessing.Pipe",
        "value",
        "goal.wake.log_p50",
        "goal.wake.pipe_p50",
        40_000.0,
    ),
    Goal(
        "logging",
        "one record, cometlog's logging handler against logging.FileHandler",
        "ratio",
        "goal.logging.log_handler",
        "goal.logging.file_handler",
        1.0,
    ),
    Goal(
        "durable.batch1000",
        "durable batch of 1,000, against pwrite into fallocated, never-written space + fdatasync",
        "ratio",
        "goal.durable_batch.log",
        "goal.durable_batch.pwrite",
        1.15,
    ),
    *(
        Goal(
            f"durable.{kind}{writers}",
            f"append + sync each by {writers} {kind} that share syncs, per entry, against one "
            f"({1 / times:.2f}x: {times:g}x its throughput)",
            "ratio",
            f"goal.durable_{kind}.n{writers}",
            f"goal.durable_{kind}.n1",
            1 / times,
        )
        for kind in ("threads", "processes")
        for writers, times in SHARED_SYNCS.items()
    ),
    Goal(
        "writers.single",
        "single appends, writers on all CPUs and one shard, against the slower of one alone and a C loop of contended CAS + copy "
        "(1.25x: 80 % of the lesser rate)",
        "ratio",
        "goal.writers.shared",
        "goal.writers.allowed",
        1 / 0.8,
    ),
    Goal(
        "writers.batch100",
        "batches of 100, writers on all CPUs and one shard, against one alone (1.25x: 80 % per core)",
        "ratio",
        "goal.writers.batch100_shared",
        "goal.writers.batch100_one",
        1 / 0.8,
    ),
    Goal(
        "writers.shards16",
        "single appends, writers on all CPUs and 16 shards, against one alone (1.25x: 80 % per core)",
        "ratio",
        "goal.writers.shards16",
        "goal.writers.one",
        1 / 0.8,
    ),
    Goal(
        "open.10gb",
        "open a shard of 10 GB after a clean close, until the first append has returned",
        "value",
        "goal.ten_gb.opened",
        None,
        10e6,
    ),
    Goal(
        "sustained.10gb",
        "10 GB sustained through rotation, per entry, against a C loop that allocates, populates by helper and copies the same bytes "
        "(1.11x: 90 % of its rate)",
        "ratio",
        "goal.ten_gb.filled",
        "goal.ten_gb.c_loop",
        1 / 0.9,
    ),
    Goal(
        "forward.rate",
        "one entry forwarded to Kafka at least once against rdkafka_performance (1.43x: 70 % of its rate)",
        "ratio",
        "forward.kafka.at_least_once.time",
        "forward.kafka.rdkafka_performance.time",
        1 / 0.7,
    ),
)


def evaluate_goals(run: Run) -> list[GoalResult]:
    """Every goal judged from `run`, in order; without usable measurements it is `not measured`."""
    return [_evaluate(run, goal) for goal in GOALS]


def _evaluate(run: Run, goal: Goal) -> GoalResult:
    unit = "x" if goal.comparison == "ratio" else "ns"
    measurements: list[Measurement] = []
    for name in (goal.first, goal.second):
        if name is None:
            continue
        measurement = run.find(name)
        if measurement is None or measurement.failure is not None:
            failure = measurement.failure if measurement is not None else None
            reason = f"{name} failed: {failure}" if failure else f"{name} is not part of this run"
            return GoalResult(goal, unit, None, "not measured", reason)
        measurements.append(measurement)
    if goal.comparison == "value":
        unit = measurements[0].unit
    try:
        estimate = _estimate(goal, measurements, run.seed)
        beside = _beside(goal, measurements, run.seed)
    except ValueError as error:
        return GoalResult(goal, unit, None, "inconclusive", str(error))
    bandwidth = floor_value(run, "floor.memcpy_hot")
    if goal.comparison == "per_entry" and (bandwidth is None or bandwidth < GOAL_BANDWIDTH):
        here = "is not part of this run" if bandwidth is None else f"is {format_value(bandwidth, 'bytes/s')}"
        return GoalResult(
            goal, unit, estimate, "inconclusive", f"the goal is for 8 GB/s; floor.memcpy_hot {here}"
        )
    verdict, reason = _judge(estimate, goal.bound, noise_floor(run))
    stalls = None if verdict == "met" else _stalls(run, goal)
    if stalls is not None and stalls > goal.bound:
        verdict, reason = "inconclusive", f"{reason}; {stalls_text(stalls)}"
    return GoalResult(goal, unit, estimate, verdict, reason + beside)


def _stalls(run: Run, goal: Goal) -> float | None:
    match goal.comparison:
        case "p99" | "p99_9" as percentile:
            return stall_meter(run, goal.first, percentile)
    return None


def _estimate(goal: Goal, measurements: list[Measurement], seed: int) -> Estimate:
    match goal.comparison:
        case "p99" | "p99_9" as percentile:
            return estimate_per(measurements[0], percentile, seed)
        case "per_entry":
            return stats.estimate(samples_per(measurements[0], "entry"), seed)
    samples = [_samples(measurement) for measurement in measurements]
    if goal.comparison == "value":
        return stats.estimate(samples[0], seed)
    first, second = samples
    if goal.comparison == "ratio":
        return stats.paired_ratio(first, second, seed)
    return stats.paired_difference(first, second, seed)


def _samples(measurement: Measurement) -> list[Sample]:
    """Return ns per append of a benchmark, or what a probe has measured."""
    is_benchmark = measurement.metric == "time_per_append"
    return samples_per(measurement, "append") if is_benchmark else list(measurement.samples)


def _beside(goal: Goal, measurements: list[Measurement], seed: int) -> str:
    """Return the ratio of a value to its peer in the same rounds, in words; nothing where there is no peer."""
    if goal.comparison != "value" or goal.second is None:
        return ""
    first, second = (_samples(measurement) for measurement in measurements)
    ratio = stats.paired_ratio(first, second, seed)
    return f"; {format_value(ratio.value, 'x')} ({format_range(ratio.low, ratio.high, 'x')}) {goal.second}"


def _judge(estimate: Estimate, bound: float, noise: float | None) -> tuple[GoalVerdict, str]:
    if estimate.workers < MINIMUM_WORKERS:
        return "inconclusive", f"{rounds_text(estimate)}, {MINIMUM_WORKERS} are needed"
    if noise is not None and noise >= FACTOR - 1.0:
        return "inconclusive", f"the A/A control strays by {noise:.0%}"
    if estimate.high <= bound:
        return "met", "the whole interval keeps the bound"
    if estimate.low > bound:
        return "missed", "the whole interval is above the bound"
    return "inconclusive", "the interval straddles the bound"
