"""Turn a run's measurements into one result per check and reading of the registry; nothing is dropped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from cometbench import stats, verdicts
from cometbench.floors import floor_of
from cometbench.model import ClaimResult, Measurement, Run
from cometbench.registry import Check, Claim, Equation, Section, all_claims
from cometbench.stats import Estimate
from cometbench.verdicts import Judgement
from cometbench.views import estimate_per, samples_per

CONTROL_NAMES = ("control.aa.1", "control.aa.2")


class Slot(NamedTuple):
    """The place of one result: section, claim, check, and the result's id."""

    section: Section
    claim: Claim
    check: Check
    result_id: str

    def result(self, judgement: Judgement, names: list[str] | None = None) -> ClaimResult:
        """Return the result with the guide's side filled in and nothing measured."""
        return ClaimResult(
            id=self.result_id,
            section=self.section.id,
            title=self.claim.title,
            kind=self.check.kind,
            guide=self.check.guide,
            guide_value=self.check.guide_value,
            unit=self.check.unit,
            verdict=judgement.verdict,
            reason=judgement.reason,
            measurements=names or [],
        )


def evaluate_claims(run: Run) -> list[ClaimResult]:
    """Every claim of the registry judged from `run`, in the guide's order; its seed fixes the intervals."""
    noise = noise_floor(run)
    return [
        result
        for section, claim in all_claims()
        for check in claim.check
        for result in _evaluate_check(run, Slot(section, claim, check, f"{claim.id}.{check.id}"), noise)
    ]


def noise_floor(run: Run) -> float | None:
    """How far the A/A control's interval strays from 1 (0.03 is 3 %), or None without a usable control."""
    first, second = (run.find(name) for name in CONTROL_NAMES)
    if first is None or second is None or not first.samples or not second.samples:
        return None
    try:
        ratio = stats.paired_ratio(first.samples, second.samples, run.seed)
    except ValueError:
        return None
    return max(abs(edge - 1.0) for edge in (ratio.value, ratio.low, ratio.high))


def result_ids(claim: Claim, check: Check) -> list[str]:
    """Ids of the results a check yields: one per reading, or one for the check itself."""
    base = f"{claim.id}.{check.id}"
    return [f"{base}.{reading}" for reading in check.readings] or [base]


def _evaluate_check(run: Run, slot: Slot, noise: float | None) -> Iterator[ClaimResult]:
    check = slot.check
    if check.equation is not None:
        yield _arithmetic_result(slot, check.equation)
    elif not check.readings:
        yield slot.result(Judgement("not measured", check.not_measured or slot.section.not_measured))
    for reading, target in check.readings.items():
        names = [target] if isinstance(target, str) else target
        yield _evaluate_reading(run, slot._replace(result_id=f"{slot.result_id}.{reading}"), names, noise)


def _evaluate_reading(run: Run, slot: Slot, names: list[str], noise: float | None) -> ClaimResult:
    check = slot.check
    found: list[Measurement] = []
    for name in names:
        measurement = run.find(name)
        if measurement is None:
            return slot.result(Judgement("not measured", f"{name} is not part of this run"), names)
        if measurement.failure is not None and not _was_read_back(check, measurement):
            return slot.result(Judgement("not measured", f"{name} failed: {measurement.failure}"), names)
        found.append(measurement)
    if check.kind == "semantic":
        return _semantic_result(slot, found[0])
    try:
        estimate = _estimate(check, found, run.seed)
    except ValueError as error:
        return slot.result(Judgement("inconclusive", str(error)), names)
    result = slot.result(_judge(check, estimate, noise), names)
    measured = {
        "measured": estimate.value,
        "interval": (estimate.low, estimate.high) if estimate.workers > 1 else None,
        "workers": estimate.workers,
    }
    floor = floor_of(run, found[0]) if check.kind == "absolute" else None
    if floor is None:
        return result.model_copy(update=measured)
    per_append = stats.median_of_worker_medians(samples_per(found[0], "append"))
    multiple = per_append / floor.cost_ns
    return result.model_copy(update={**measured, "floor": floor.text, "floor_multiple": multiple})


def _was_read_back(check: Check, measurement: Measurement) -> bool:
    """Whether a failed measurement still answers the check: its log was read back and found wanting."""
    return check.violations == "missing_entries" and measurement.verification.status != "not_applicable"


def _estimate(check: Check, found: list[Measurement], seed: int) -> Estimate:
    if len(found) == 1:
        return estimate_per(found[0], check.per, seed)
    numerator, denominator = (samples_per(measurement, check.per) for measurement in found)
    return stats.paired_ratio(numerator, denominator, seed)


def _judge(check: Check, estimate: Estimate, noise: float | None) -> Judgement:
    if check.kind == "future":
        return verdicts.judge_future(estimate, check.guide_value, check.better, noise)
    assert check.guide_value is not None, "the registry refuses readings without a guide value"
    if check.kind == "ratio":
        return verdicts.judge_ratio(estimate, check.guide_value, check.better, noise)
    return verdicts.judge_absolute(estimate, check.guide_value, check.better)


def _semantic_result(slot: Slot, measurement: Measurement) -> ClaimResult:
    verification = measurement.verification
    if slot.check.violations == "missing_entries":
        trials = verification.entries_expected
        altered_at_least = 1.0 if verification.status == "failed" else 0.0
        violations = max(float(abs(trials - verification.entries_found)), altered_at_least)
        measured: float | None = violations
    else:
        trials = int(float(measurement.extra.get("appends", 0)))
        measured = stats.median_of_worker_medians(measurement.samples)
        violations = measured * trials
    judgement = verdicts.judge_semantic(violations, trials, slot.check.tolerance)
    result = slot.result(judgement, [measurement.name])
    return result.model_copy(update={"measured": measured, "workers": len(measurement.samples)})


def _arithmetic_result(slot: Slot, equation: Equation) -> ClaimResult:
    if equation.operation == "at_most":
        first, second = equation.operands
        result = slot.result(verdicts.judge_order(first, second, equation.text))
        return result.model_copy(update={"measured": first})
    computed = compute(equation.operation, equation.operands)
    low, high = _rounding_range(equation)
    stated = slot.check.guide_value
    assert stated is not None, "an equation is compared with a stated number"
    result = slot.result(verdicts.judge_arithmetic(stated, computed, low, high, equation.text))
    return result.model_copy(update={"measured": computed, "interval": (low, high)})


def compute(operation: str, operands: list[float]) -> float:
    """Return the value of an equation: a quotient or a product.

    Raises ValueError for an operation that has none.
    """
    if operation == "divide":
        return operands[0] / operands[1]
    if operation == "multiply":
        return math.prod(operands)
    raise ValueError(f"operation {operation} computes no value")


def _rounding_range(equation: Equation) -> tuple[float, float]:
    """Extremes of the equation over the roundings of its operands; it is monotonic in each of them."""
    corners = [[]] if equation.rounding else [list(equation.operands)]
    for operand, half_unit in zip(equation.operands, equation.rounding, strict=False):
        corners = [[*corner, operand + sign * half_unit] for corner in corners for sign in (-1, 1)]
    values = [compute(equation.operation, corner) for corner in corners]
    return min(values), max(values)
