"""Open loop: the schedule does not wait for the subject, so a stall shows in response time and not in service time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cometbench.open_loop import drive, poisson_schedule, timer_overhead_ns


class Clock:
    """Nanoseconds that pass only where the test says so: 10 with each reading, and what a call takes."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 10
        return self.now


def _stalled(clock: Clock, stalls: dict[int, int]):
    def call(item: int) -> int:
        clock.now += stalls.get(item, 100)
        return item

    return call


def test_a_stalled_subject_shows_in_response_and_not_in_service() -> None:
    clock = Clock()
    offsets = [1_000 * position for position in range(100)]
    operations = drive(_stalled(clock, {10: 50_000}), list(range(100)), offsets, clock)
    service, response = operations.service(), operations.response()
    assert service.quantile(100) == pytest.approx(50_000, rel=0.02)
    assert sum(count for bucket, count in service.counts.items() if bucket > 300) == 1
    late = [end - due for end, due in zip(operations.ended, operations.intended, strict=True)]
    # Behind the stall an append takes 120 ns and 1,000 pass until the next is due: the wait shrinks by 880 with each.
    assert sum(one > 1_000 for one in late) == 1 + (50_020 - 1_000) // 880
    assert late[9] < 200
    assert late[99] < 200
    assert response.count == 100
    assert operations.last_result == 99


def test_nothing_starts_before_it_is_due_and_what_is_late_starts_at_once() -> None:
    clock = Clock()
    operations = drive(_stalled(clock, {0: 5_000}), [0, 1, 2], [0, 100, 20_000], clock)
    started = [start - due for start, due in zip(operations.started, operations.intended, strict=True)]
    assert min(started) >= 0
    assert 0 <= started[0] <= 10
    assert 4_900 <= started[1] <= 5_000
    assert 0 <= started[2] <= 10


def test_a_schedule_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    first = poisson_schedule(100_000, 0.5, "7/load/50/0")
    assert first == poisson_schedule(100_000, 0.5, "7/load/50/0")
    assert first != poisson_schedule(100_000, 0.5, "7/load/50/1")
    assert list(first) == sorted(first)
    assert first[-1] < 0.5e9


def test_a_schedule_has_the_rate_that_was_asked_for_and_gaps_as_chance_makes_them() -> None:
    offsets = poisson_schedule(100_000, 1.0, 3)
    assert abs(len(offsets) - 100_000) < 5 * 100_000**0.5
    gaps = [after - before for before, after in pairwise(offsets)]
    above_mean = sum(gap > 10_000 for gap in gaps) / len(gaps)
    assert above_mean == pytest.approx(0.368, abs=0.01)  # 1/e of them, for exponential gaps


def test_the_price_of_the_clock_is_more_than_nothing() -> None:
    assert 0 < timer_overhead_ns() < 100_000
