"""Each verdict can be reached and each rule's edges lie where they should: made-up estimates only."""

from __future__ import annotations

import pytest

import made_up
from cometbench.evaluate import evaluate_claims, noise_floor, noise_of
from cometbench.model import ClaimResult, Measurement, Run, Sample, Verification
from cometbench.stats import Estimate
from cometbench.verdicts import (
    judge_absolute,
    judge_arithmetic,
    judge_bound,
    judge_direction,
    judge_future,
    judge_measured_promise,
    judge_order,
    judge_ratio,
    judge_semantic,
)

QUIET = 0.01


def _near(value: float, workers: int = 5, width: float = 0.02) -> Estimate:
    return Estimate(value, value * (1 - width), value * (1 + width), workers)


@pytest.mark.parametrize(
    ("estimate", "guide", "better", "noise", "verdict"),
    [
        (_near(15.0), 15.0, "higher", QUIET, "reproduced"),
        (_near(8.0), 15.0, "higher", QUIET, "reproduced"),
        (_near(29.0), 15.0, "higher", QUIET, "reproduced"),
        (Estimate(8.0, 7.4, 9.0, 5), 15.0, "higher", QUIET, "direction only"),
        (_near(5.0), 15.0, "higher", QUIET, "direction only"),
        (_near(40.0), 15.0, "higher", QUIET, "exceeded"),
        (Estimate(29.0, 28.0, 31.0, 5), 15.0, "higher", QUIET, "direction only"),
        (_near(1.0), 15.0, "higher", QUIET, "not reproduced"),
        (_near(0.5), 15.0, "higher", QUIET, "not reproduced"),
        (Estimate(5.0, 0.8, 20.0, 5), 15.0, "higher", QUIET, "inconclusive"),
        (_near(19.0), 19.0, "lower", QUIET, "reproduced"),
        (_near(60.0), 19.0, "lower", QUIET, "direction only"),
        (_near(4.0), 19.0, "lower", QUIET, "exceeded"),
        (_near(0.07), 19.0, "lower", QUIET, "exceeded"),
        (_near(1.25), 1.25, "higher", QUIET, "reproduced"),
        (_near(1.25), 1.25, "higher", 0.2, "inconclusive"),
        (_near(1.03, width=0.01), 1.25, "higher", QUIET, "inconclusive"),
        (Estimate(1.5, 1.2, 2.0, 5), 15.0, "higher", 0.4, "not reproduced"),
        (Estimate(2.6, 1.8, 4.4, 5), 15.0, "higher", 0.9, "inconclusive"),
        (_near(15.0), 15.0, "higher", 0.99, "reproduced"),
        (_near(15.0), 15.0, "higher", 1.0, "direction only"),
        (_near(90.0), 15.0, "higher", 1.0, "direction only"),
        (Estimate(2.6, 1.8, 4.4, 5), 15.0, "higher", 1.0, "inconclusive"),
    ],
)
def test_ratio_rule(estimate: Estimate, guide: float, better: str, noise: float, verdict: str) -> None:
    assert judge_ratio(estimate, guide, better, noise).verdict == verdict  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("estimate", "states", "noise", "verdict"),
    [
        (_near(1.5), "gain", QUIET, "reproduced"),
        (_near(1.5), "no gain", QUIET, "not reproduced"),
        (_near(1.0, width=0.01), "gain", QUIET, "not reproduced"),
        (_near(1.0, width=0.01), "no gain", QUIET, "reproduced"),
        (_near(0.5), "gain", QUIET, "not reproduced"),
        (_near(0.5), "no gain", QUIET, "reproduced"),
        (Estimate(1.2, 0.9, 1.5, 5), "gain", QUIET, "inconclusive"),
        (Estimate(1.2, 0.9, 1.5, 5), "no gain", QUIET, "inconclusive"),
        (_near(1.15, width=0.01), "gain", 0.1, "not reproduced"),
        (_near(1.5, 3), "gain", QUIET, "direction only"),
        (_near(1.5, 3), "no gain", QUIET, "inconclusive"),
        (_near(1.0, 3, 0.01), "gain", QUIET, "inconclusive"),
        (_near(1.0, 3, 0.01), "no gain", QUIET, "direction only"),
        (_near(1.5, 1), "gain", QUIET, "inconclusive"),
        (_near(1.5), "gain", None, "direction only"),
    ],
)
def test_direction_rule(estimate: Estimate, states: str, noise: float | None, verdict: str) -> None:
    assert judge_direction(estimate, states, noise).verdict == verdict  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("estimate", "better", "noise", "verdict"),
    [
        (_near(1.0, width=0.03), "higher", QUIET, "reproduced"),
        (_near(1.6), "higher", QUIET, "reproduced"),
        (_near(0.8), "higher", QUIET, "not reproduced"),
        (_near(0.97, width=0.05), "higher", QUIET, "inconclusive"),
        (_near(0.8), "higher", 0.2, "reproduced"),
        (_near(1.0, 3, width=0.03), "higher", QUIET, "direction only"),
        (_near(0.8, 3), "higher", QUIET, "inconclusive"),
        (_near(1.0, 1), "higher", QUIET, "inconclusive"),
        (_near(1.0, width=0.03), "lower", QUIET, "reproduced"),
        (_near(1.3), "lower", QUIET, "not reproduced"),
        (_near(0.7), "lower", QUIET, "reproduced"),
    ],
)
def test_a_guide_that_states_no_effect_is_broken_by_a_loss_alone(
    estimate: Estimate, better: str, noise: float, verdict: str
) -> None:
    assert judge_ratio(estimate, 1.0, better, noise).verdict == verdict  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("workers", "verdict"),
    [(1, "inconclusive"), (2, "direction only"), (4, "direction only"), (5, "reproduced")],
)
def test_fewer_than_five_rounds_give_at_best_direction_only(workers: int, verdict: str) -> None:
    assert judge_ratio(_near(15.0, workers), 15.0, "higher", QUIET).verdict == verdict
    assert judge_absolute(_near(15.0, workers), 15.0, "lower").verdict == verdict


def test_four_rounds_against_the_direction_are_inconclusive_not_a_verdict() -> None:
    assert judge_ratio(_near(0.5, 4), 15.0, "higher", QUIET).verdict == "inconclusive"
    assert judge_ratio(_near(0.5, 4), 19.0, "lower", QUIET).verdict == "inconclusive"


def test_without_a_control_no_ratio_is_reproduced_or_exceeded() -> None:
    assert judge_ratio(_near(15.0), 15.0, "higher", None).verdict == "direction only"
    assert judge_ratio(_near(90.0), 15.0, "higher", None).verdict == "direction only"


@pytest.mark.parametrize(
    ("estimate", "better", "verdict"),
    [
        (_near(1000.0), "lower", "reproduced"),
        (_near(1900.0), "lower", "reproduced"),
        (_near(510.0), "lower", "reproduced"),
        (_near(100.0), "lower", "exceeded"),
        (_near(3000.0), "lower", "not reproduced"),
        (Estimate(1900.0, 1500.0, 2100.0, 5), "lower", "inconclusive"),
        (_near(5000.0), "higher", "exceeded"),
        (_near(100.0), "higher", "not reproduced"),
        (Estimate(600.0, 400.0, 900.0, 5), "higher", "inconclusive"),
    ],
)
def test_absolute_rule(estimate: Estimate, better: str, verdict: str) -> None:
    assert judge_absolute(estimate, 1000.0, better).verdict == verdict  # type: ignore[arg-type]


def test_semantic_rule_counts_violations() -> None:
    assert judge_semantic(0, 200_000).verdict == "reproduced"
    assert judge_semantic(1, 200_000) == ("not reproduced", "violations: 1 in 200,000 checked operations")
    assert judge_semantic(0, 0).verdict == "inconclusive"
    assert judge_semantic(200, 200_000, 0.001).verdict == "reproduced"
    assert judge_semantic(201, 200_000, 0.001).verdict == "not reproduced"


@pytest.mark.parametrize(
    ("low", "high", "workers", "verdict"),
    [
        (0.0, 0.0, 5, "reproduced"),
        (0.01, 0.05, 5, "reproduced"),
        (0.01, 0.06, 5, "inconclusive"),
        (0.06, 0.2, 5, "not reproduced"),
        (0.06, 0.2, 4, "inconclusive"),
        (0.0, 0.0, 4, "inconclusive"),
    ],
)
def test_measured_promise_rule(low: float, high: float, workers: int, verdict: str) -> None:
    estimate = Estimate((low + high) / 2, low, high, workers)
    assert judge_measured_promise(estimate, 1000, 0.05).verdict == verdict
    assert judge_measured_promise(estimate, 0, 0.05).verdict == "inconclusive"


def test_future_rule_judges_what_this_engine_does() -> None:
    assert judge_future(None, 1.25, "higher", QUIET).verdict == "not measured"
    assert judge_future(_near(1.3), 1.25, "higher", QUIET).verdict == "reproduced"
    assert judge_future(_near(1.3), None, "higher", QUIET).verdict == "exceeded"
    assert judge_future(_near(0.9), None, "higher", QUIET).verdict == "not reproduced"
    assert judge_future(_near(1.3, 3), None, "higher", QUIET).verdict == "inconclusive"


def test_arithmetic_rule_names_both_numbers_and_what_rounding_allows() -> None:
    judgement = judge_arithmetic(240, 7600 / 33, 225.4, 235.4, "7.6 ms / 33 µs")
    assert judgement.verdict == "arithmetic error"
    assert "230.3" in judgement.reason
    assert "240" in judgement.reason
    assert "225.4 to 235.4" in judgement.reason


@pytest.mark.parametrize(
    ("stated", "computed"),
    [(19, 33 / 1.7), (4470, 7600 / 1.7), (15, 1.7 / 0.11), (594e3, 1 / 1.7e-6), (283e3, 10 / 35e-6), (0, 0)],
)
def test_arithmetic_rule_passes_what_is_only_rounded(stated: float, computed: float) -> None:
    assert judge_arithmetic(stated, computed, computed, computed, "x").verdict == "reproduced"


@pytest.mark.parametrize(("stated", "computed"), [(7.4, 5.7 / 0.78), (240, 7600 / 33), (3.6e6, 10 / 2.7e-6)])
def test_arithmetic_rule_flags_what_rounding_of_the_result_does_not_explain(
    stated: float, computed: float
) -> None:
    assert judge_arithmetic(stated, computed, computed, computed, "x").verdict == "arithmetic error"


def test_order_rule() -> None:
    assert judge_order(1, 2, "a").verdict == "reproduced"
    assert judge_order(320, 100, "MB").verdict == "arithmetic error"


def _claim(run: Run, claim_id: str) -> ClaimResult:
    return next(claim for claim in evaluate_claims(run) if claim.id == claim_id)


def test_every_contradiction_the_project_knows_is_flagged_without_any_measurement() -> None:
    flagged = {c.id for c in evaluate_claims(made_up.run()) if c.verdict == "arithmetic error"}
    assert flagged == {
        "Q10.single_rate_sum",
        "Q1000.single_order",
        "Q10K.multi_order",
        "C1.saved_against_slo",
        "C10.batch_order",
        "C10.against_batch_table",
        "C100.slowdown_sum",
        "G-r.gain_sum",
        "G-s.syscalls_sum",
        "P1.index_memory",
        "M7.total_sum",
    }


def test_a_made_up_run_reaches_every_verdict() -> None:
    run = made_up.run(
        [
            made_up.measurement("Q.batch1.buffered.processes1", 1700, subject="buffered"),
            made_up.measurement("Q.batch1.mmap.processes1", 100),
            made_up.measurement("Q.batch1000.buffered.processes1", 600_000, subject="buffered", batch=1000),
            made_up.measurement("Q.batch1.mmap.one_writer", 33_000, workers=1),
            made_up.measurement("Q.batch1.mmap.processes2", 90_000, processes=2),
            *made_up.control(),
        ]
    )
    verdicts = {c.id: c.verdict for c in evaluate_claims(run)}
    assert verdicts["Q1.single.buffered"] == "reproduced"
    assert verdicts["Q1.single.mmap"] == "exceeded"
    assert verdicts["Q-r1.gain.buffered"] == "direction only"
    assert verdicts["Q1.multi.processes2"] == "not reproduced"
    assert verdicts["Q1.multi.one_writer"] == "inconclusive"
    assert verdicts["Q1.multi.processes4"] == "not measured"
    assert verdicts["G-r.gain_sum"] == "arithmetic error"
    assert set(verdicts.values()) == {
        "reproduced",
        "exceeded",
        "direction only",
        "not reproduced",
        "inconclusive",
        "not measured",
        "arithmetic error",
    }


def test_a_sync_that_reaches_no_disk_gets_no_verdict_and_what_never_syncs_does() -> None:
    whole = made_up.whole_run()
    in_memory = [m.model_copy(update={"file_system": "tmpfs"}) for m in whole.measurements]
    results = {
        result.id: result for result in evaluate_claims(whole.model_copy(update={"measurements": in_memory}))
    }
    assert results["G1.latency.sync"].verdict == "not measured"
    assert (
        "G.sync.batch1 was measured on tmpfs, where a sync reaches no disk"
        in results["G1.latency.sync"].reason
    )
    assert results["G3.latency.mmap"].verdict == "exceeded"


def test_a_noisy_control_turns_a_small_effect_inconclusive() -> None:
    quiet = [*made_up.control(), *_pair(1.4)]
    noisy = [made_up.control()[0], _spread_control(), *_pair(1.4)]
    assert noise_floor(made_up.run(quiet)) == 0.0
    assert (noise_floor(made_up.run(noisy)) or 0.0) > 0.3
    ratio = "Q-r1.gain.mmap"
    assert _claim(made_up.run(quiet), ratio).verdict == "direction only"
    assert _claim(made_up.run(noisy), ratio).verdict == "not reproduced"


def test_a_claim_is_held_against_the_control_of_its_path() -> None:
    quiet = made_up.control()
    generations = made_up.section_g()
    noisy = [*quiet[:3], quiet[3].model_copy(update={"samples": made_up.samples(20.0)})]
    strays = "the A/A control strays by 400%: a factor of 2 is within the noise"
    run = made_up.run([*noisy, *_pair(15.0), *_pair(15.0, "buffered"), *generations])
    assert _claim(run, "Q-r1.gain.mmap").verdict == "reproduced"
    assert _claim(run, "Q-r1.gain.buffered").reason == strays
    assert _claim(run, "G-r.gain.sync_over_mmap").reason == strays
    alone = made_up.run([*quiet[:2], *_pair(15.0), *_pair(15.0, "buffered")])
    assert _claim(alone, "Q-r1.gain.mmap").verdict == "reproduced"
    assert "held no A/A control" in _claim(alone, "Q-r1.gain.buffered").reason


def test_what_names_no_path_is_held_against_the_larger_noise() -> None:
    noises = {"mmap": 0.1, "buffered": 0.3}
    unnamed = made_up.measurement("T.presets.default", 100.0, subject="cometlog")
    stored = unnamed.model_copy(update={"config": {"write_path": "mmap"}})
    assert noise_of(noises, [unnamed]) == 0.3
    assert noise_of(noises, [stored]) == 0.1
    assert noise_of({**noises, "buffered": None}, [unnamed]) is None


def _pair(gain: float, path: str = "mmap") -> list[Measurement]:
    one, many = (f"Q.batch{batch}.{path}.processes1" for batch in (1, 1000))
    return [
        made_up.measurement(one, 100.0, subject=path),
        made_up.measurement(many, 1000 * 100.0 / gain, subject=path, batch=1000),
    ]


def _spread_control() -> Measurement:
    base = made_up.control()[1]
    values = [60.0, 150.0, 90.0, 140.0, 70.0]
    return base.model_copy(
        update={"samples": [Sample(round=n, order=0, values=[v]) for n, v in enumerate(values)]}
    )


def test_rates_count_all_writers_and_latency_one() -> None:
    run = made_up.run([made_up.measurement("Q.batch100.mmap.processes4", 5000.0, batch=100, processes=4)])
    latency, rate = _claim(run, "Q100.multi.processes4"), _claim(run, "Q100.multi_rate.processes4")
    assert latency.measured == pytest.approx(5000.0)
    assert rate.measured == pytest.approx(4 * 100 / 5000e-9)


def test_a_rate_never_contradicts_its_time() -> None:
    base = made_up.measurement("Q.batch1.mmap.processes1", 1.0)
    uneven = [Sample(round=n, order=0, values=[100.0, 1900.0]) for n in range(6)]
    run = made_up.run([base.model_copy(update={"samples": uneven})])
    assert _claim(run, "Q1.single.mmap").measured == pytest.approx(1000.0)
    assert _claim(run, "Q1.single_rate.mmap").measured == pytest.approx(1e6)


def test_an_absolute_result_carries_its_multiple_of_the_floor() -> None:
    run = made_up.run([made_up.measurement("Q.batch1.buffered.processes1", 1800.0, subject="buffered")])
    claim = _claim(run, "Q1.single.buffered")
    assert claim.floor == "floor.write_128"
    assert claim.floor_multiple == pytest.approx(2.0)


def test_a_failed_measurement_is_not_measured_and_says_why() -> None:
    broken = made_up.measurement("Q.batch1.mmap.processes1", 100.0).model_copy(
        update={"failure": "verification failed: entry 17 lost", "samples": []}
    )
    claim = _claim(made_up.run([broken]), "Q1.single.mmap")
    assert claim.verdict == "not measured"
    assert "entry 17 lost" in claim.reason


@pytest.mark.parametrize("found", [999, 1000, 1001])
def test_a_log_that_lost_altered_or_doubled_an_entry_breaks_the_same_log_claim(found: int) -> None:
    verification = Verification(
        status="failed", entries_expected=1000, entries_found=found, detail="entry 17"
    )
    broken = made_up.measurement("Q.batch1.mmap.processes4", 400.0, processes=4).model_copy(
        update={"verification": verification, "failure": "entry 17", "samples": []}
    )
    claim = _claim(made_up.run([broken]), "G-s.same_log.processes4")
    assert claim.verdict == "not reproduced"
    assert claim.measured == 1.0


def test_syscalls_of_the_hot_path_are_judged_by_count() -> None:
    free, busy = (
        made_up.measurement(
            "G.mmap.syscalls", count, experiment="G", metric="count_per_append", unit="syscalls"
        ).model_copy(update={"extra": {"appends": 1_000_000.0}})
        for count in (0.00002, 1.0)
    )
    assert _claim(made_up.run([free]), "G-s.syscalls.mmap").verdict == "reproduced"
    assert _claim(made_up.run([busy]), "G-s.syscalls.mmap").verdict == "not reproduced"


@pytest.mark.parametrize(
    ("low", "high", "workers", "side", "verdict"),
    [
        (91.0, 97.0, 5, "at_least", "reproduced"),
        (91.0, 97.0, 3, "at_least", "direction only"),
        (85.0, 97.0, 5, "at_least", "inconclusive"),
        (40.0, 60.0, 5, "at_least", "not reproduced"),
        (40.0, 60.0, 4, "at_least", "inconclusive"),
        (95.0, 95.0, 1, "at_least", "inconclusive"),
        (1.0, 2.0, 5, "at_most", "reproduced"),
        (91.0, 99.0, 5, "at_most", "not reproduced"),
    ],
)
def test_a_bound_is_kept_broken_or_spanned_by_the_whole_interval(low, high, workers, side, verdict):
    bound = 90.0 if side == "at_least" else 3.0
    assert judge_bound(Estimate((low + high) / 2, low, high, workers), bound, side).verdict == verdict
