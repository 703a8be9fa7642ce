"""The project's own speed goals: bounds on ratios and times, judged by their interval.

Each goal states its bound as `at most`: met when the whole interval keeps it, missed when none of it does,
inconclusive in between and where the A/A control strays by a factor of 2.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from cometbench import stats
from cometbench.evaluate import noise_floor
from cometbench.floors import floor_value
from cometbench.model import Measurement, Run
from cometbench.stats import Estimate
from cometbench.units import format_value
from cometbench.verdicts import FACTOR, MINIMUM_WORKERS, rounds_text
from cometbench.views import samples_per

GOAL_BANDWIDTH = 8e9
GoalVerdict = Literal["met", "missed", "inconclusive", "not measured"]


class Goal(NamedTuple):
    """`first` over or minus `second`, or alone per entry: it should be at most `bound`."""

    id: str
    title: str
    comparison: Literal["ratio", "difference", "per_entry"]
    first: str
    second: str | None
    bound: float


class GoalResult(NamedTuple):
    """A goal with what this run says about it; `unit` is x or ns."""

    goal: Goal
    unit: str
    estimate: Estimate | None
    verdict: GoalVerdict
    reason: str


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
    try:
        estimate = _estimate(goal, measurements, run.seed)
    except ValueError as error:
        return GoalResult(goal, unit, None, "inconclusive", str(error))
    bandwidth = floor_value(run, "floor.memcpy_hot")
    if goal.comparison == "per_entry" and (bandwidth is None or bandwidth < GOAL_BANDWIDTH):
        here = "is not part of this run" if bandwidth is None else f"is {format_value(bandwidth, 'bytes/s')}"
        return GoalResult(
            goal, unit, estimate, "inconclusive", f"the goal is for 8 GB/s; floor.memcpy_hot {here}"
        )
    verdict, reason = _judge(estimate, goal.bound, noise_floor(run))
    return GoalResult(goal, unit, estimate, verdict, reason)


def _estimate(goal: Goal, measurements: list[Measurement], seed: int) -> Estimate:
    if goal.comparison == "per_entry":
        return stats.estimate(samples_per(measurements[0], "entry"), seed)
    first, second = (samples_per(measurement, "append") for measurement in measurements)
    if goal.comparison == "ratio":
        return stats.paired_ratio(first, second, seed)
    return stats.paired_difference(first, second, seed)


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
