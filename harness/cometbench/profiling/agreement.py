"""How far py-spy may be believed: its bias on a loop whose shares are known, and its distance from rusage on the work itself."""

from __future__ import annotations

from typing import NamedTuple

from cometbench.model import Run
from cometbench.stats import median_of_worker_medians

POINTS_MAX = 10.0
BIAS = "Y.calibrator.bias"


class Agreement(NamedTuple):
    """Whether a verdict may rest on the share, and the sentence that says why (or why not)."""

    holds: bool
    sentence: str


def agree(
    rusage_percent: float, py_spy_percent: float | None, bias_points: float | None, reason: str = ""
) -> Agreement:
    """Hold py-spy's share of system calls against rusage's.

    Without a share of py-spy (`reason` says why) rusage stands alone. A bias beyond 10 points, or one that was not measured, takes
    py-spy's share out of the judgement. Otherwise both must agree within 10 points.
    """
    if py_spy_percent is None:
        return Agreement(True, f"rusage alone, without py-spy: {reason}")
    if bias_points is None:
        return Agreement(
            True, "rusage alone: py-spy's bias was not measured in this run, so its share is not used"
        )
    if abs(bias_points) > POINTS_MAX:
        return Agreement(
            True,
            f"rusage alone: py-spy strays by {bias_points:+.0f} points on a loop whose shares are known, over the "
            f"{POINTS_MAX:.0f} allowed, so rusage's share replaces its {py_spy_percent:.0f} %",
        )
    apart = py_spy_percent - rusage_percent
    both = f"py-spy {py_spy_percent:.0f} %, rusage {rusage_percent:.0f} %"
    if abs(apart) > POINTS_MAX:
        return Agreement(False, f"{both}: {abs(apart):.0f} points apart, over {POINTS_MAX:.0f}")
    return Agreement(True, f"{both}: they agree within {POINTS_MAX:.0f} points")


def agreement_in(run: Run, profile: str) -> Agreement:
    """Return the agreement that a probe with `in_syscalls` (py-spy) and `rusage_in_syscalls` found in one process of this run."""
    sampled = run.find(f"{profile}.in_syscalls")
    if sampled is None or sampled.failure is not None:
        reason = f"{profile} is not part of this run" if sampled is None else str(sampled.failure)
        return agree(0.0, None, None, reason)
    rusage = value_in(run, f"{profile}.rusage_in_syscalls")
    assert rusage is not None, "the two values come from one probe"
    return agree(rusage, median_of_worker_medians(sampled.samples), value_in(run, BIAS))


def value_in(run: Run, name: str) -> float | None:
    """Return a measurement's value, or None where the run has none."""
    measurement = run.find(name)
    return (
        median_of_worker_medians(measurement.samples)
        if measurement is not None and measurement.samples
        else None
    )
