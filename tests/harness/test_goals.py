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
    first, second = made_up.control()
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
