"""Turn a run's measurements into one result per check and reading of the registry; nothing is dropped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cometbench import stats, verdicts
from cometbench.floors import floor_of
from cometbench.model import ClaimResult, Measurement, Run
from cometbench.profiling.agreement import agreement_in
from cometbench.registry import Check, Claim, Equation, Per, Section, all_claims
from cometbench.stats import Estimate
from cometbench.units import format_ns
from cometbench.verdicts import Judgement
from cometbench.views import PERCENTS, estimate_per, samples_per

# Counts of what a program does, which repeat exactly: one round says as much as ten.
COUNTED_UNITS = frozenset({"allocations", "blocks", "syscalls", "violations", "per lookup"})
# By write path, the same benchmark under two names. Paths that make system calls share the one of buffered.
CONTROLS = {
    "mmap": ("control.aa.1", "control.aa.2"),
    "buffered": ("control.buffered.1", "control.buffered.2"),
}
FORKED_AND_FRESH = ("control.aa.1", "control.fresh.1")

Noises = dict[str, float | None]


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
    noises = noise_floors(run)
    return [
        result
        for section, claim in all_claims()
        for check in claim.check
        for result in _evaluate_check(run, Slot(section, claim, check, f"{claim.id}.{check.id}"), noises)
    ]


def noise_floors(run: Run) -> Noises:
    """How far each A/A control's interval strays from 1 (0.03 is 3 %), None without a usable control."""
    return {path: _strays(run, *names) for path, names in CONTROLS.items()}


def noise_floor(run: Run) -> float | None:
    """Return the noise of the mapped path."""
    return noise_floors(run)["mmap"]


def noise_of(noises: Noises, measurements: Iterable[Measurement]) -> float | None:
    """Return the noise of the write paths that `measurements` are about, the larger where both take part.

    None where one of them had no control. What names no path may have taken any.
    """
    paths: set[str] = set()
    for one in measurements:
        path = str(one.config.get("write_path", one.subject))
        paths |= CONTROLS.keys() if path == "cometlog" else {"mmap" if path == "mmap" else "buffered"}
    known = [noise for path in paths if (noise := noises[path]) is not None]
    return max(known) if len(known) == len(paths) else None


def _strays(run: Run, *names: str) -> float | None:
    first, second = (run.find(name) for name in names)
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


def find_check(result_id: str) -> Check | None:
    """Return the check that a result of this id belongs to, None where the registry has none."""
    return next(
        (
            check
            for _, claim in all_claims()
            for check in claim.check
            if result_id in result_ids(claim, check)
        ),
        None,
    )


def _evaluate_check(run: Run, slot: Slot, noises: Noises) -> Iterator[ClaimResult]:
    check = slot.check
    if check.equation is not None:
        yield _arithmetic_result(slot, check.equation)
    elif not check.readings:
        yield slot.result(Judgement("not measured", check.not_measured or slot.section.not_measured))
    for reading, target in check.readings.items():
        names = [target] if isinstance(target, str) else target
        result = _evaluate_reading(run, slot._replace(result_id=f"{slot.result_id}.{reading}"), names, noises)
        yield _cross_checked(run, result, check.profiles.get(reading))


def _evaluate_reading(run: Run, slot: Slot, names: list[str], noises: Noises) -> ClaimResult:
    check = slot.check
    found: list[Measurement] = []
    for name in names:
        measurement = run.find(name)
        if measurement is None:
            remedy = f"nox -s suite -- {name.partition('.')[0]} measures it"
            return slot.result(Judgement("not measured", f"{name} is not part of this run; {remedy}"), names)
        if measurement.failure is not None and not _was_read_back(check, measurement):
            return slot.result(Judgement("not measured", f"{name} failed: {measurement.failure}"), names)
        if measurement.survives != measurement.durability:
            reason = f"{name} was measured on {measurement.file_system}, where a sync reaches no disk; measure it on one"
            return slot.result(Judgement("not measured", reason), names)
        found.append(measurement)
    if check.kind == "semantic":
        return _semantic_result(run, slot, found[0])
    try:
        estimate = _estimate(check, found, run.seed)
    except ValueError as error:
        return slot.result(Judgement("inconclusive", str(error)), names)
    judgement = _judge(check, estimate, noise_of(noises, found))
    if check.per in PERCENTS:
        judgement = _platform_caution(run, judgement, check, found[0])
    result = slot.result(judgement, names)
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


def _cross_checked(run: Run, result: ClaimResult, profile: str | None) -> ClaimResult:
    """Let the verdict on a share stand only where py-spy agrees, or say why py-spy has no say."""
    if profile is None or result.measured is None:
        return result
    agreement = agreement_in(run, profile)
    verdict = result.verdict if agreement.holds else "inconclusive"
    return result.model_copy(update={"verdict": verdict, "reason": f"{result.reason}; {agreement.sentence}"})


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
    if check.kind == "direction":
        return verdicts.judge_direction(estimate, check.states, noise)
    assert check.guide_value is not None, "the registry refuses readings without a guide value"
    if check.bound is not None:
        return verdicts.judge_bound(estimate, check.guide_value, check.bound)
    if check.kind == "ratio":
        return verdicts.judge_ratio(estimate, check.guide_value, check.better, noise)
    return verdicts.judge_absolute(estimate, check.guide_value, check.better)


def _platform_caution(run: Run, judgement: Judgement, check: Check, measurement: Measurement) -> Judgement:
    """Take a verdict against a percentile back where doing nothing at the same pace missed the limit as well."""
    if judgement.verdict not in {"not reproduced", "inconclusive"} or check.guide_value is None:
        return judgement
    stalls = stall_meter(run, measurement.name, check.per)
    if stalls is None or stalls <= check.guide_value:
        return judgement
    return Judgement("inconclusive", f"{judgement.reason}; {stalls_text(stalls)}")


def stall_meter(run: Run, name: str, per: Per) -> float | None:
    """Return the percentile in ns that an operation which does nothing has in the probe of a response time.

    None for other measurements, and where it rests on too few samples.
    """
    meter = run.find(f"{name.rpartition('.')[0]}.idle_response")
    if meter is None or meter.failure is not None or not name.endswith("_response"):
        return None
    try:
        return estimate_per(meter, per, run.seed).value
    except ValueError:
        return None


def stalls_text(stalls_ns: float) -> str:
    """Say what the stall meter has shown."""
    return (
        f"doing nothing at that pace waits {format_ns(stalls_ns)} at that percentile, so it is the platform's"
    )


class Promise(NamedTuple):
    """What a semantic check found: operations that broke it, those that were checked, and the value per operation."""

    violations: float
    trials: int
    each: float

    def in_words(self, check: Check) -> str:
        """Return it as the check says it; what its tolerance forgives is told."""
        words = check.says.format(
            violations=f"{self.violations:,.0f}", trials=f"{self.trials:,}", each=f"{self.each:.3g}"
        )
        words = re.sub(r"^1 (\w+)s\b", r"1 \1", words)
        forgiven = 0 < self.violations <= check.tolerance * self.trials
        return f"{words} (up to {check.tolerance:g} count as none)" if forgiven else words


def promise_of(check: Check, measurement: Measurement) -> Promise:
    """Return what the measurement says of a semantic check: a count by its worst round, for one bad round breaks a promise.

    What is measured and not counted is the median of its rounds.
    """
    if check.violations == "missing_entries":
        verification = measurement.verification
        altered_at_least = 1.0 if verification.status == "failed" else 0.0
        missing = abs(verification.entries_expected - verification.entries_found)
        violations = max(float(missing), altered_at_least)
        return Promise(violations, verification.entries_expected, violations)
    trials = int(float(measurement.extra.get("trials", measurement.extra.get("appends", 0))))
    if _takes_rounds(check, measurement):
        each = stats.median_of_worker_medians(measurement.samples)
    else:
        each = max(stats.worker_medians(measurement.samples))
    return Promise(each * trials, trials, each)


def _takes_rounds(check: Check, measurement: Measurement) -> bool:
    """Whether a semantic check rests on what is measured and not counted, and that no single long run answers."""
    counted = check.violations == "missing_entries" or measurement.unit in COUNTED_UNITS
    return not counted and not check.long_run


def _semantic_result(run: Run, slot: Slot, measurement: Measurement) -> ClaimResult:
    check, samples = slot.check, measurement.samples
    promise = promise_of(check, measurement)
    measured: dict[str, object] = {"workers": len(samples), "measured": promise.each}
    if _takes_rounds(check, measurement):
        estimate = stats.estimate(samples, run.seed)
        judgement = verdicts.judge_measured_promise(estimate, promise.trials, check.tolerance)
        measured["interval"] = (estimate.low, estimate.high) if estimate.workers > 1 else None
    else:
        judgement = verdicts.judge_semantic(promise.violations, promise.trials, check.tolerance)
    if check.long_run:
        judgement = _of_a_long_run(judgement, promise.trials, check.long_run)
    return slot.result(judgement, [measurement.name]).model_copy(update=measured)


def _of_a_long_run(judgement: Judgement, trials: int, needed: int) -> Judgement:
    if trials < needed:
        return Judgement("inconclusive", f"{judgement.reason}; the one run that is judged holds {needed:,}")
    return judgement._replace(reason=f"{judgement.reason}, of one long run by design")


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
