"""The verdict rules: one list of verdicts, one function per kind of claim, nothing else.

`reproduced`, `exceeded`, `direction only`, `not reproduced`, `inconclusive`, `not measured`, `arithmetic
error`. A ratio carries across machines and is judged strictly; an absolute number is only set beside the
guide's; a semantic claim is a count of violations; a future claim is judged by what this engine does now; an
arithmetic claim by computing it. The rules take estimates and return a verdict with its reason; they read no
files and no registry.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from cometbench.model import Verdict
from cometbench.stats import Estimate

Better = Literal["higher", "lower"]
Side = Literal["at_least", "at_most"]
States = Literal["gain", "no gain"]

FACTOR = 2.0
MINIMUM_WORKERS = 5
MINIMUM_EFFECT = 0.05
ARITHMETIC_TOLERANCE = 0.01


class Judgement(NamedTuple):
    """A verdict and the sentence that justifies it."""

    verdict: Verdict
    reason: str


def effect_threshold(noise_floor: float) -> float:
    """Smallest relative effect that counts: 5 %, or twice the A/A control's own deviation."""
    return max(MINIMUM_EFFECT, 2.0 * noise_floor)


def judge_ratio(
    estimate: Estimate, guide_value: float, better: Better, noise_floor: float | None
) -> Judgement:
    """Judge a paired ratio against the guide's.

    `guide_value` is the guide's ratio (its direction is above or below 1); `better` says which side of it is
    good: a speed-up is better higher, a slowdown better lower. A guide value of 1 states that there is no effect.
    `noise_floor` is None when the run held no A/A control.
    """
    if estimate.workers < 2:
        return Judgement("inconclusive", f"{rounds_text(estimate)}: nothing is known about the noise")
    threshold = effect_threshold(noise_floor or 0.0)
    if guide_value == 1.0:
        return _judge_no_effect(estimate, better, threshold, _caution(estimate, noise_floor))
    sign_right = _effect_in_direction(estimate, guide_value, threshold)
    low_edge, high_edge = guide_value / FACTOR, guide_value * FACTOR
    inside = low_edge <= estimate.low and estimate.high <= high_edge
    beyond_good = estimate.high < low_edge if better == "lower" else estimate.low > high_edge
    blur = 1.0 + (noise_floor or 0.0)
    could_overlap = estimate.low / blur <= high_edge and low_edge <= estimate.high * blur

    caution = _caution(estimate, noise_floor)
    if beyond_good and caution is None:
        return Judgement(
            "exceeded", f"the whole interval is better than {_number(_edge(guide_value, better))}"
        )
    if sign_right:
        if caution is not None:
            return Judgement("direction only", caution)
        if inside:
            return Judgement(
                "reproduced", f"the whole interval is within a factor of {FACTOR:g} of the guide"
            )
        return Judgement(
            "direction only", f"the sign is right, the interval is not within a factor of {FACTOR:g}"
        )
    if caution is not None:
        return Judgement("inconclusive", f"{caution}; the stated direction does not show")
    if could_overlap:
        return Judgement("inconclusive", f"the interval does not exclude an effect below {threshold:.0%}")
    return Judgement(
        "not reproduced", "no such effect shows, and the guide's range is out of reach of the noise"
    )


def _judge_no_effect(estimate: Estimate, better: Better, threshold: float, caution: str | None) -> Judgement:
    """Judge "costs nothing": no loss beyond what counts as an effect. A gain breaks no such promise."""
    if better == "higher":
        worst, best, limit = estimate.low, estimate.high, 1.0 / (1.0 + threshold)
        lost, kept = best < limit, worst >= limit
    else:
        worst, best, limit = estimate.high, estimate.low, 1.0 + threshold
        lost, kept = best > limit, worst <= limit
    if kept:
        text = f"the whole interval is on the good side of {_number(limit)}"
        return Judgement("direction only", caution) if caution else Judgement("reproduced", text)
    if lost and caution is None:
        return Judgement("not reproduced", f"a loss shows: the whole interval is beyond {_number(limit)}")
    return Judgement("inconclusive", caution or f"the interval does not exclude a loss of {threshold:.0%}")


def judge_absolute(estimate: Estimate, guide_value: float, better: Better) -> Judgement:
    """Set an absolute number beside the guide's; machines differ, so a factor of 2 counts as the same."""
    if estimate.workers < 2:
        return Judgement("inconclusive", f"{_workers(estimate)}: nothing is known about the noise")
    low_edge, high_edge = guide_value / FACTOR, guide_value * FACTOR
    if better == "lower":
        exceeded, worse = estimate.high < low_edge, estimate.low > high_edge
        straddles_worse = estimate.high > high_edge
    else:
        exceeded, worse = estimate.low > high_edge, estimate.high < low_edge
        straddles_worse = estimate.low < low_edge
    enough = estimate.workers >= MINIMUM_WORKERS
    few = f"{_workers(estimate)}, {MINIMUM_WORKERS} are needed"
    if worse:
        if not enough:
            return Judgement("inconclusive", f"{few}; all miss the guide by more than {FACTOR:g}x")
        return Judgement("not reproduced", f"the whole interval misses the guide by more than {FACTOR:g}x")
    if straddles_worse:
        return Judgement("inconclusive", f"the interval reaches past a factor of {FACTOR:g} on the bad side")
    if not enough:
        return Judgement("direction only", few)
    if exceeded:
        return Judgement("exceeded", f"the whole interval is more than {FACTOR:g}x better than the guide")
    return Judgement("reproduced", f"within a factor of {FACTOR:g} of the guide, or better")


def judge_bound(estimate: Estimate, bound: float, side: Side) -> Judgement:
    """Judge a number of which the guide states a bound ("more than 90 %"): the whole interval keeps it, breaks it, or spans it."""
    if estimate.workers < 2:
        return Judgement("inconclusive", f"{_workers(estimate)}: nothing is known about the noise")
    stated = f"{side.replace('_', ' ')} {_number(bound)}"
    kept = estimate.low >= bound if side == "at_least" else estimate.high <= bound
    broken = estimate.high < bound if side == "at_least" else estimate.low > bound
    if not kept and not broken:
        return Judgement("inconclusive", f"the interval spans the guide's bound, {stated}")
    if estimate.workers < MINIMUM_WORKERS:
        few = f"{_workers(estimate)}, {MINIMUM_WORKERS} are needed"
        return (
            Judgement("direction only", few)
            if kept
            else Judgement("inconclusive", f"{few}; all miss {stated}")
        )
    if broken:
        return Judgement("not reproduced", f"the whole interval misses the guide's bound, {stated}")
    return Judgement("reproduced", f"the whole interval keeps the guide's bound, {stated}")


def judge_semantic(violations: float, trials: int, tolerance: float = 0.0) -> Judgement:
    """Judge a promise by its violations in `trials` operations; up to `tolerance` of them count as none."""
    if trials <= 0:
        return Judgement("inconclusive", "nothing was checked")
    seen = f"{violations:,.0f} in {trials:,} checked operations"
    if violations > tolerance * trials:
        return Judgement("not reproduced", f"violations: {seen}")
    if violations > 0:
        return Judgement(
            "reproduced", f"violations: {seen}, fewer than the {tolerance:g} per operation that count as none"
        )
    return Judgement("reproduced", f"no violation in {trials:,} checked operations")


def judge_measured_promise(estimate: Estimate, trials: int, tolerance: float = 0.0) -> Judgement:
    """Judge a promise by a time, a rate or a share that was measured: the share of `trials` operations that break it, a round each.

    Unlike a count it differs from round to round, so it takes as many rounds as any verdict on a measured value.
    """
    if trials <= 0:
        return Judgement("inconclusive", "nothing was checked")
    if estimate.workers < MINIMUM_WORKERS:
        return Judgement("inconclusive", f"measured in {_rounds(estimate)}, {MINIMUM_WORKERS} are needed")
    if estimate.low <= tolerance < estimate.high:
        return Judgement("inconclusive", "some rounds keep the promise and some break it")
    return judge_semantic(estimate.value * trials, trials, tolerance)


def judge_future(
    estimate: Estimate | None, guide_value: float | None, better: Better, noise_floor: float | None
) -> Judgement:
    """Judge what the guide left for the future by what this engine does; None when it does not."""
    if estimate is None:
        return Judgement("not measured", "this engine does not do it yet either")
    if guide_value is not None:
        return judge_ratio(estimate, guide_value, better, noise_floor)
    if caution := _caution(estimate, noise_floor):
        return Judgement("inconclusive", caution)
    side = 2.0 if better == "higher" else 0.5
    if _effect_in_direction(estimate, side, effect_threshold(noise_floor or 0.0)):
        return Judgement("exceeded", "the guide only announces it; here it works and the effect shows")
    return Judgement("not reproduced", "it works here, but no gain shows")


def judge_direction(estimate: Estimate, states: States, noise_floor: float | None) -> Judgement:
    """Judge an advice whose effect the guide states without a size; `estimate` is what it gains, 1 is nothing.

    "no gain" is what the guide says of an advice that will not help: there, a gain that shows refutes it.
    """
    if estimate.workers < 2:
        return Judgement("inconclusive", f"{rounds_text(estimate)}: nothing is known about the noise")
    threshold = effect_threshold(noise_floor or 0.0)
    gains = _effect_in_direction(estimate, FACTOR, threshold)
    nothing = estimate.high < 1.0 + threshold
    shows = "a gain shows" if gains else f"no gain of {threshold:.0%} or more shows"
    if not gains and not nothing:
        return Judgement("inconclusive", f"the interval holds a gain of {threshold:.0%} as well as none")
    caution = _caution(estimate, noise_floor)
    if gains != (states == "gain"):
        if caution is not None:
            return Judgement("inconclusive", f"{shows}, but {caution}")
        return Judgement("not reproduced", f"{shows}")
    if caution is not None:
        return Judgement("direction only", f"{shows}; {caution}")
    return Judgement("reproduced", f"{shows}; the guide states no size")


def judge_arithmetic(stated: float, computed: float, low: float, high: float, equation: str) -> Judgement:
    """Compare a number the guide states with what its own other numbers give.

    `low` and `high` are what `equation` can give when each input is off by its own rounding. A statement
    passes when it is the computed value at the statement's precision, or within 1 %.
    """
    if _agrees(stated, computed):
        return Judgement("reproduced", f"{equation} = {_number(computed)}")
    spread = f"; rounding of its inputs allows {_number(low)} to {_number(high)}" if low < high else ""
    return Judgement(
        "arithmetic error", f"{equation} = {_number(computed)}, the guide says {_number(stated)}{spread}"
    )


def judge_order(first: float, second: float, comparison: str) -> Judgement:
    """Check that two of the guide's own numbers keep the order it needs: `first` must not exceed `second`."""
    if first <= second:
        return Judgement("reproduced", f"{comparison}: {_number(first)} does not exceed {_number(second)}")
    return Judgement("arithmetic error", f"{comparison}: {_number(first)} exceeds {_number(second)}")


def _effect_in_direction(estimate: Estimate, guide_value: float, threshold: float) -> bool:
    if guide_value >= 1.0:
        return estimate.low > 1.0 and estimate.value >= 1.0 + threshold
    return estimate.high < 1.0 and estimate.value <= 1.0 / (1.0 + threshold)


def _caution(estimate: Estimate, noise_floor: float | None) -> str | None:
    if estimate.workers < MINIMUM_WORKERS:
        return f"{rounds_text(estimate)}, {MINIMUM_WORKERS} are needed"
    if noise_floor is None:
        return "the run held no A/A control, so its noise is unknown"
    if noise_floor >= FACTOR - 1.0:
        return f"the A/A control strays by {noise_floor:.0%}: a factor of {FACTOR:g} is within the noise"
    return None


def _edge(guide_value: float, better: Better) -> float:
    return guide_value * FACTOR if better == "higher" else guide_value / FACTOR


def _agrees(stated: float, computed: float) -> bool:
    if stated == 0.0:
        return computed == 0.0
    digits = len(f"{stated:.12g}".replace(".", "").split("e")[0].strip("-0")) or 1
    rounded = float(f"{computed:.{digits - 1}e}")
    return rounded == stated or math.isclose(stated, computed, rel_tol=ARITHMETIC_TOLERANCE)


def rounds_text(estimate: Estimate) -> str:
    """Return "1 paired round" or "4 paired rounds"."""
    return f"{estimate.workers} paired round{'' if estimate.workers == 1 else 's'}"


def _rounds(estimate: Estimate) -> str:
    return f"{estimate.workers} round{'' if estimate.workers == 1 else 's'}"


def _workers(estimate: Estimate) -> str:
    return f"{estimate.workers} worker{'' if estimate.workers == 1 else 's'}"


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
