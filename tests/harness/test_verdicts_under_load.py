"""Made-up loads, races and recipes through to their verdicts; percentiles come from all rounds together."""

from __future__ import annotations

import pytest

import made_up
from cometbench import stats
from cometbench.evaluate import evaluate_claims, find_check, promise_of
from cometbench.goals import GoalResult, evaluate_goals
from cometbench.histogram import Histogram
from cometbench.model import ClaimResult, Measurement, Run, Sample, Verification
from cometbench.tables_latency import table_latency
from cometbench.views import ViewError, estimate_per


def _claim(run: Run, claim_id: str) -> ClaimResult:
    return next(claim for claim in evaluate_claims(run) if claim.id == claim_id)


def _values(name: str, values: list[float], unit: str = "x", **extra: float) -> Measurement:
    samples = [Sample(round=number, order=0, values=[value]) for number, value in enumerate(values)]
    one = made_up.measurement(name, 1.0, experiment=name[0], metric="value", unit=unit)
    return one.model_copy(update={"samples": samples, "extra": dict(extra)})


def _single(name: str, rounds: list[Histogram]) -> Run:
    return made_up.run([made_up.timed(name, rounds)])


def test_a_percentile_is_that_of_all_rounds_and_not_a_mean_of_theirs() -> None:
    rounds = [Histogram.of([100] * 30_000)] * 4 + [Histogram.of([100] * 20_000 + [9_000] * 10_000)]
    claim = _claim(_single("S.mmap.load50_response", rounds), "S2.p99.mmap")
    assert claim.measured == pytest.approx(
        9_000, rel=0.02
    )  # 10,000 of 150,000 lie there; the median of the rounds is 100
    assert claim.interval is not None
    assert claim.interval[0] == pytest.approx(100, rel=0.02)
    assert claim.interval[1] == pytest.approx(9_000, rel=0.02)
    assert claim.workers == 5


def test_the_interval_of_equal_rounds_is_a_point_and_repeats() -> None:
    rounds = [made_up.around(150, 3_000)] * 6
    first = stats.percentile_of_rounds(rounds, 99, 1)
    assert first == stats.percentile_of_rounds(rounds, 99, 1)
    assert first.low == first.value == first.high == pytest.approx(3_000, rel=0.02)


@pytest.mark.parametrize(
    ("typical_ns", "verdict"),
    [(150, "exceeded"), (4_000, "reproduced"), (9_000, "reproduced"), (20_000, "not reproduced")],
)
def test_a_service_level_is_judged_by_its_good_limit(typical_ns: int, verdict: str) -> None:
    run = _single("S.mmap.load50_response", [made_up.around(typical_ns, typical_ns)] * 5)
    assert _claim(run, "S1.p50.mmap").verdict == verdict


def test_what_doing_nothing_misses_too_is_the_platforms() -> None:
    stalled = made_up.run(made_up.under_load("S.mmap", 150, 400_000, idle_ns=300_000))
    slow = made_up.run(made_up.under_load("S.mmap", 150, 400_000, idle_ns=900))
    assert _claim(slow, "S2.p99.mmap").verdict == "not reproduced"
    claim = _claim(stalled, "S2.p99.mmap")
    assert claim.verdict == "inconclusive"
    assert "doing nothing at that pace waits" in claim.reason
    assert _claim(stalled, "S2.p99.mmap_service").verdict == "exceeded"
    assert _claim(stalled, "S1.p50.mmap").verdict == "exceeded"


def test_a_percentile_on_too_few_samples_is_no_number() -> None:
    claim = _claim(_single("S.mmap.load50_response", [made_up.around(150, 3_000, 1_000)] * 5), "S2.p99.mmap")
    assert claim.verdict == "inconclusive"
    assert claim.measured is None
    assert "fewer than 100 of 5,000 samples" in claim.reason


def test_a_measurement_without_histograms_has_no_percentiles() -> None:
    with pytest.raises(ViewError, match="holds no histograms"):
        estimate_per(made_up.measurement("S.mmap.load50_response", 1.0), "p99", 1)


def _goal(run: Run, goal_id: str) -> GoalResult:
    return next(result for result in evaluate_goals(run) if result.goal.id == goal_id)


@pytest.mark.parametrize(
    ("rare_ns", "idle_ns", "verdict"),
    [(1_900, 900, "met"), (2_500, 900, "missed"), (2_500, 2_600, "inconclusive")],
)
def test_the_goal_of_the_99th_percentile(rare_ns: int, idle_ns: int, verdict: str) -> None:
    run = made_up.run(made_up.under_load("S.mmap", 150, rare_ns, idle_ns))
    assert _goal(run, "single.p99.response").verdict == verdict
    assert _goal(run, "single.p99.service").verdict == "met"


def test_one_bad_round_breaks_a_promise() -> None:
    good = made_up.run([_values("R.index.violations", [0.0, 0.0, 0.0], "per lookup", trials=500.0)])
    bad = made_up.run([_values("R.index.violations", [0.0, 0.004, 0.0], "per lookup", trials=500.0)])
    assert _claim(good, "R2.retries.lookups").verdict == "reproduced"
    claim = _claim(bad, "R2.retries.lookups")
    assert (claim.verdict, claim.measured) == ("not reproduced", 0.004)
    assert "2 in 500 checked operations" in claim.reason


def test_a_lost_entry_under_contention_breaks_the_claim() -> None:
    lost = Verification(
        status="failed", entries_expected=480_000, entries_found=479_999, detail="entry 17 lost"
    )
    run = made_up.run(
        [
            _values("R.contention.entries", [1.0]).model_copy(
                update={"verification": lost, "failure": "entry 17 lost", "samples": []}
            )
        ]
    )
    assert _claim(run, "R1.consistency.processes8").verdict == "not reproduced"


def test_races_that_cost_throughput_are_said_to() -> None:
    quiet = [1e6, 1.01e6, 0.99e6, 1e6, 1.02e6]
    free, dear = (
        made_up.run(
            [
                _values("R.impact.together", quiet),
                _values("R.impact.races", [v * share for v in quiet]),
                *made_up.control(),
            ]
        )
        for share in (0.99, 0.7)
    )
    assert _claim(free, "R3.impact.index").verdict == "reproduced"
    assert _claim(dear, "R3.impact.index").verdict == "not reproduced"
    assert _claim(free, "R3.impact.contention").verdict == "not measured"


@pytest.mark.parametrize(("short", "verdict"), [(0.0, "reproduced"), (1 / 60, "not reproduced")])
def test_every_second_of_the_million_counts(short: float, verdict: str) -> None:
    run = made_up.run([_values("K.million.short_seconds", [short], trials=60.0)])
    claim = _claim(run, "K1.sustained.seconds")
    assert claim.verdict == verdict
    assert claim.reason.endswith("in 60 checked operations, of one long run by design")


def test_a_minute_that_was_cut_short_is_no_minute() -> None:
    run = made_up.run([_values("K.million.short_seconds", [0.0], trials=6.0)])
    claim = _claim(run, "K1.sustained.seconds")
    assert (claim.verdict, claim.reason) == (
        "inconclusive",
        "no violation in 6 checked operations; the one run that is judged holds 60",
    )


@pytest.mark.parametrize(
    ("rounds", "verdict"),
    [
        ([0.25], "inconclusive"),
        ([0.25] * 4, "inconclusive"),
        ([0.25] * 5, "not reproduced"),
        ([0.0] * 4, "inconclusive"),
        ([0.0] * 5, "reproduced"),
        ([0.0, 0.0, 0.0, 0.25, 0.25], "inconclusive"),
    ],
)
def test_a_measured_share_takes_the_rounds_of_any_verdict(rounds: list[float], verdict: str) -> None:
    shares = _values("Y.batches_buffered.encoding_shrinks", rounds, "share", trials=4.0)
    claim = _claim(made_up.run([shares]), "Y2.encoding.buffered")
    assert claim.verdict == verdict
    if len(rounds) < 5:
        said = f"measured in {len(rounds)} round{'s' if len(rounds) > 1 else ''}, 5 are needed"
        assert claim.reason == said


def test_a_measured_share_is_said_by_the_value_that_is_judged() -> None:
    shares = _values("Y.reads.wait_on_cpu", [0.02, 0.03, 0.04, 0.03, 0.9], "share", trials=1000.0)
    claim, check = _claim(made_up.run([shares]), "Y4.cpu.waiting"), find_check("Y4.cpu.waiting")
    assert check is not None
    assert claim.measured == promise_of(check, shares).each == 0.03


def test_a_count_is_judged_from_one_round() -> None:
    counts = _values("Y.calls.read_bytes_not_stat", [1.5], "syscalls", trials=200.0)
    assert _claim(made_up.run([counts]), "Y4.calls.bytes").verdict == "not reproduced"


def test_an_allocation_per_acknowledgement_breaks_the_claim() -> None:
    none, each = (
        made_up.run([_values("Q.ack.allocations_one", [count] * 3, "allocations", trials=1000.0)])
        for count in (0.0, 1.0)
    )
    assert _claim(none, "Q-ack.allocations.one").verdict == "reproduced"
    assert _claim(each, "Q-ack.allocations.one").verdict == "not reproduced"


def test_the_latency_table_has_the_stall_meter_first_and_hides_what_rests_on_little() -> None:
    table = table_latency(made_up.under_load("S.mmap", 150, 3_000, 900, workers=1))
    assert [row[1] for row in table.rows] == ["stall meter", "10 %", "25 %", "50 %", "80 %"]
    row = dict(zip(table.columns, table.rows[3], strict=True))
    assert (row["response p50"], row["service p99"], row["n"]) == ("150 ns", "300 ns", "20,000")
    assert row["response p99.9"] == "\N{EN DASH}"
    assert "70 to 70 ns" in table.note
