"""Turn a run's measurements into one result per check and reading of the claim registry; nothing is dropped."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cometbench import stats, verdicts
from cometbench.floors import floor_of
from cometbench.model import ClaimResult, Measurement, Run
from cometbench.registry import Check, Claim, Equation, Section, all_claims
from cometbench.stats import Estimate
from cometbench.verdicts import Judgement
from cometbench.views import NotViewable, samples_per

CONTROL_NAMES = ("control.aa.1", "control.aa.2")


def evaluate_claims(run: Run) -> list[ClaimResult]:
    """Every claim of the registry judged from `run`, in the guide's order; the run's seed fixes the intervals."""
    noise = noise_floor(run)
    return [
        result
        for section, claim in all_claims()
        for check in claim.check
        for result in _evaluate_check(run, section, claim, check, noise)
    ]


def noise_floor(run: Run) -> float | None:
    """How far the A/A control's interval strays from 1 (0.03 is 3 %), or None when the run holds no usable control."""
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


def _evaluate_check(
    run: Run, section: Section, claim: Claim, check: Check, noise: float | None
) -> Iterator[ClaimResult]:
    if check.equation is not None:
        yield _arithmetic_result(section, claim, check, check.equation)
    elif not check.readings:
        judgement = Judgement("not measured", check.not_measured or section.not_measured)
        yield _result(section, claim, check, f"{claim.id}.{check.id}", judgement)
    for reading, target in check.readings.items():
        names = [target] if isinstance(target, str) else target
        yield _evaluate_reading(run, section, claim, check, f"{claim.id}.{check.id}.{reading}", names, noise)


def _evaluate_reading(
    run: Run,
    section: Section,
    claim: Claim,
    check: Check,
    result_id: str,
    names: list[str],
    noise: float | None,
) -> ClaimResult:
    found: list[Measurement] = []
    for name in names:
        measurement = run.find(name)
        if measurement is None:
            return _result(
                section, claim, check, result_id, _missing(f"{name} is not part of this run"), names=names
            )
        read_back = (
            check.violations == "missing_entries" and measurement.verification.status != "not_applicable"
        )
        if measurement.failure is not None and not read_back:
            reason = _missing(f"{name} failed: {measurement.failure}")
            return _result(section, claim, check, result_id, reason, names=names)
        found.append(measurement)
    if check.kind == "semantic":
        return _semantic_result(section, claim, check, result_id, found[0])
    try:
        estimate = _estimate(check, found, run.seed)
    except (NotViewable, ValueError) as error:
        return _result(section, claim, check, result_id, Judgement("inconclusive", str(error)), names=names)
    judgement = _judge(check, estimate, noise)
    floor = floor_of(run, found[0]) if check.kind == "absolute" else None
    multiple = None
    if floor is not None and floor.cost_ns > 0:
        per_append = stats.median_of_worker_medians(samples_per(found[0], "append"))
        multiple = per_append / floor.cost_ns
    return _result(
        section, claim, check, result_id, judgement,
        names=names, estimate=estimate, floor=floor.text if floor else None, floor_multiple=multiple,
    )  # fmt: skip


def _estimate(check: Check, found: list[Measurement], seed: int) -> Estimate:
    sides = [samples_per(measurement, check.per) for measurement in found]
    if len(sides) == 2:
        return stats.paired_ratio(sides[0], sides[1], seed)
    return stats.estimate(sides[0], seed)


def _judge(check: Check, estimate: Estimate, noise: float | None) -> Judgement:
    if check.kind == "future":
        return verdicts.judge_future(estimate, check.guide_value, check.better, noise)
    assert check.guide_value is not None, "the registry refuses readings without a guide value"
    if check.kind == "ratio":
        return verdicts.judge_ratio(estimate, check.guide_value, check.better, noise)
    return verdicts.judge_absolute(estimate, check.guide_value, check.better)


def _semantic_result(
    section: Section, claim: Claim, check: Check, result_id: str, measurement: Measurement
) -> ClaimResult:
    if check.violations == "missing_entries":
        verification = measurement.verification
        trials = verification.entries_expected
        altered_at_least = 1.0 if verification.status == "failed" else 0.0
        violations = max(float(abs(trials - verification.entries_found)), altered_at_least)
    else:
        trials = int(float(measurement.extra.get("appends", 0)))
        violations = stats.median_of_worker_medians(measurement.samples) * trials
    judgement = verdicts.judge_semantic(violations, trials, check.tolerance)
    measured = (
        violations if check.violations == "missing_entries" else violations / trials if trials else None
    )
    result = _result(section, claim, check, result_id, judgement, names=[measurement.name])
    return result.model_copy(update={"measured": measured, "workers": len(measurement.samples)})


def _arithmetic_result(section: Section, claim: Claim, check: Check, equation: Equation) -> ClaimResult:
    result_id = f"{claim.id}.{check.id}"
    if equation.operation == "at_most":
        larger, smaller = equation.operands
        judgement = verdicts.judge_order(larger, smaller, equation.text)
        result = _result(section, claim, check, result_id, judgement)
        return result.model_copy(update={"measured": larger})
    computed = compute(equation.operation, equation.operands)
    low, high = _rounding_range(equation)
    assert check.guide_value is not None, "an equation is compared with a stated number"
    judgement = verdicts.judge_arithmetic(check.guide_value, computed, low, high, equation.text)
    result = _result(section, claim, check, result_id, judgement)
    return result.model_copy(update={"measured": computed, "interval": (low, high)})


def compute(operation: str, operands: list[float]) -> float:
    """The value of an equation: a quotient or a product. Raises ValueError for an operation that has none."""
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


def _missing(reason: str) -> Judgement:
    return Judgement("not measured", reason)


def _result(
    section: Section, claim: Claim, check: Check, result_id: str, judgement: Judgement,
    *, names: list[str] | None = None, estimate: Estimate | None = None,
    floor: str | None = None, floor_multiple: float | None = None,
) -> ClaimResult:  # fmt: skip
    return ClaimResult(
        id=result_id,
        section=section.id,
        title=claim.title,
        kind=check.kind,
        guide=check.guide,
        guide_value=check.guide_value,
        unit=check.unit,
        measured=estimate.value if estimate else None,
        interval=(estimate.low, estimate.high) if estimate and estimate.workers > 1 else None,
        workers=estimate.workers if estimate else 0,
        verdict=judgement.verdict,
        reason=judgement.reason,
        floor=floor,
        floor_multiple=floor_multiple,
        measurements=names or [],
    )
