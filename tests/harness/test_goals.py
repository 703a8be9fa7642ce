"""The project's own goals: met, missed, or inconclusive by the whole interval."""

from __future__ import annotations

import pytest

import made_up
from cometbench.goals import GOALS, GoalResult, evaluate_goals
from cometbench.model import Measurement, Run, Sample


def _goal(run: Run, goal_id: str) -> GoalResult:
    return next(result for result in evaluate_goals(run) if result.goal.id == goal_id)


def _with_values(measurement: Measurement, values: list[float]) -> Measurement:
    samples = [Sample(round=number, order=0, values=[value]) for number, value in enumerate(values)]
    return measurement.model_copy(update={"samples": samples})


def test_every_goal_has_a_result_and_says_what_is_missing() -> None:
    results = evaluate_goals(made_up.run())
    assert [result.goal for result in results] == list(GOALS)
    assert {result.verdict for result in results} == {"not measured"}
    assert results[0].reason == "goal.writer_append.mmap is not part of this run"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([100.0, 101.0, 99.0, 100.0, 102.0], "met"),
        ([300.0, 301.0, 299.0, 300.0, 302.0], "missed"),
        ([140.0, 120.0, 160.0, 190.0, 100.0], "inconclusive"),
        ([100.0, 101.0, 99.0, 100.0], "inconclusive"),
    ],
)
def test_the_whole_interval_decides(values: list[float], verdict: str) -> None:
    append = _with_values(made_up.measurement("goal.writer_append.mmap", 1.0, experiment="goal"), values)
    write = _with_values(made_up.measurement("goal.os_write", 1.0, experiment="goal"), [1050.0] * len(values))
    assert _goal(made_up.run([append, write]), "single.os_write").verdict == verdict


def test_a_run_as_noisy_as_a_factor_of_two_neither_meets_nor_misses() -> None:
    first, second, *_ = made_up.control()
    strays = _with_values(second, [40.0, 100.0, 110.0, 100.0, 45.0])
    pair = [
        made_up.measurement("goal.writer_append.mmap", 100.0, experiment="goal"),
        made_up.measurement("goal.os_write", 1050.0, experiment="goal"),
    ]
    assert _goal(made_up.run([*pair, first, second]), "single.os_write").verdict == "met"
    noisy = _goal(made_up.run([*pair, first, strays]), "single.os_write")
    assert (noisy.verdict, noisy.reason) == ("inconclusive", "the A/A control strays by 150%")


def test_the_difference_to_an_empty_call_is_paired() -> None:
    append = _with_values(made_up.measurement("goal.writer_append.mmap", 1.0, experiment="goal"),
                          [100.0, 200.0, 300.0, 400.0, 500.0])  # fmt: skip
    empty = _with_values(made_up.measurement("goal.empty_c_call", 1.0, experiment="goal"),
                         [60.0, 160.0, 260.0, 360.0, 460.0])  # fmt: skip
    result = _goal(made_up.run([append, empty]), "single.c_call")
    assert result.estimate == (40.0, 40.0, 40.0, 5)
    assert (result.unit, result.verdict) == ("ns", "met")


@pytest.mark.parametrize(
    ("bandwidth", "verdict"), [(7.9e9, "inconclusive"), (8.0e9, "met"), (None, "inconclusive")]
)
def test_the_goal_per_entry_holds_only_where_memory_is_that_fast(
    bandwidth: float | None, verdict: str
) -> None:
    batch = made_up.measurement("goal.batch1000.mmap", 22_000.0, batch=1000, experiment="goal")
    floors = [
        made_up.measurement("floor.memcpy_hot", bandwidth, metric="bandwidth", unit="bytes_per_second")
        .model_copy(update={"samples": [Sample(round=0, order=0, values=[bandwidth])]})
    ] if bandwidth is not None else []  # fmt: skip
    run = made_up.run([batch], with_floors=False).model_copy(update={"floors": floors})
    result = _goal(run, "batch1000.per_entry")
    assert result.verdict == verdict
    assert result.estimate is not None
    assert result.estimate.value == pytest.approx(22.0)


def test_a_failed_side_is_named() -> None:
    append = made_up.measurement("goal.writer_append.mmap", 1.0, experiment="goal")
    write = made_up.measurement("goal.os_write", 1.0, experiment="goal").model_copy(
        update={"samples": [], "failure": "exit code 1"}
    )
    result = _goal(made_up.run([append, write]), "single.os_write")
    assert (result.verdict, result.reason) == ("not measured", "goal.os_write failed: exit code 1")


def test_a_value_alone_is_judged_and_compared_with_its_peer_in_the_same_rounds() -> None:
    ack = _with_values(made_up.measurement("goal.ack.ack", 1.0, metric="ack", experiment="goal"),
                       [40.0, 60.0, 50.0, 42.0, 48.0])  # fmt: skip
    call = _with_values(made_up.measurement("goal.ack.empty_call", 1.0, metric="empty_call", experiment="goal"),
                        [20.0, 30.0, 25.0, 21.0, 24.0])  # fmt: skip
    result = _goal(made_up.run([ack, call]), "ack.time")
    assert (result.unit, result.verdict) == ("ns", "met")
    assert result.estimate is not None
    assert result.estimate.value == 48.0
    assert (
        result.reason
        == "the whole interval keeps the bound; 2.00x (2.00\N{EN DASH}2.00x) goal.ack.empty_call"
    )
    assert _goal(made_up.run([ack]), "ack.time").verdict == "not measured"


def test_what_a_probe_counts_keeps_its_unit_and_zero_is_a_bound() -> None:
    blocks = made_up.measurement("goal.ack.blocks", 1.0, metric="blocks", unit="blocks", experiment="goal")
    none = _goal(made_up.run([_with_values(blocks, [0.0] * 5)]), "ack.blocks")
    assert (none.unit, none.verdict) == ("blocks", "met")
    some = _goal(made_up.run([_with_values(blocks, [1.0] * 5)]), "ack.blocks")
    assert (some.verdict, some.reason) == ("missed", "the whole interval is above the bound")
