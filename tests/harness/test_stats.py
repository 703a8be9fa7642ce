"""The worker is the unit, ratios pair within rounds, intervals are seeded."""

from __future__ import annotations

import numpy as np
import pytest

from cometbench import stats
from cometbench.model import Sample


def _samples(*workers: list[float]) -> list[Sample]:
    return [Sample(round=number, order=0, values=values) for number, values in enumerate(workers)]


def test_headline_is_the_median_of_worker_medians_not_of_values() -> None:
    samples = _samples([1.0, 1.0, 100.0], [2.0, 2.0, 2.0], [9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0])
    assert stats.worker_medians(samples) == [1.0, 2.0, 9.0]
    assert stats.median_of_worker_medians(samples) == 2.0


def test_interval_is_the_same_for_the_same_seed_and_the_seed_matters() -> None:
    values = [float(value) for value in np.random.default_rng(3).normal(100, 10, 20)]
    assert stats.bootstrap_interval(values, 1) == stats.bootstrap_interval(values, 1)
    assert len({stats.bootstrap_interval(values, seed) for seed in range(30)}) > 1


def test_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    hits = 0
    for trial in range(200):
        interval = stats.bootstrap_interval([float(v) for v in generator.normal(50, 5, 20)], trial)
        hits += interval.low <= 50 <= interval.high
    assert 180 <= hits <= 200


def test_more_values_in_one_worker_do_not_narrow_the_interval() -> None:
    few = stats.estimate(_samples([1.0], [2.0], [3.0], [4.0], [5.0]), 7)
    many = stats.estimate(_samples(*([float(n)] * 1000 for n in range(1, 6))), 7)
    assert (few.low, few.high, few.workers) == (many.low, many.high, many.workers)


def test_one_worker_gives_an_empty_interval() -> None:
    assert stats.estimate(_samples([3.0, 5.0, 4.0])) == (4.0, 4.0, 4.0, 1)


def test_ratio_pairs_by_round_so_that_drift_cancels() -> None:
    drift = [1.0, 2.0, 4.0, 8.0, 16.0]
    numerator = [Sample(round=n, order=1, values=[10.0 * d]) for n, d in enumerate(drift)]
    denominator = [Sample(round=n, order=0, values=[2.0 * d]) for n, d in reversed(list(enumerate(drift)))]
    assert stats.paired_ratio(numerator, denominator) == (5.0, 5.0, 5.0, 5)


def test_ratio_uses_only_rounds_that_hold_both_sides() -> None:
    numerator = _samples([10.0], [20.0], [30.0])
    denominator = [Sample(round=1, order=0, values=[4.0]), Sample(round=9, order=0, values=[1.0])]
    assert stats.paired_ratio(numerator, denominator) == (5.0, 5.0, 5.0, 1)


def test_difference_pairs_like_the_ratio() -> None:
    assert stats.paired_difference(_samples([10.0], [12.0]), _samples([4.0], [6.0])) == (6.0, 6.0, 6.0, 2)


def test_sides_without_a_common_round_are_refused() -> None:
    with pytest.raises(ValueError, match="no round holds both sides"):
        stats.paired_ratio(_samples([1.0]), [Sample(round=5, order=0, values=[1.0])])


def test_zero_denominator_is_refused() -> None:
    with pytest.raises(ValueError, match="positive denominator"):
        stats.paired_ratio(_samples([1.0]), _samples([0.0]))


def test_nothing_has_no_median_and_no_interval() -> None:
    with pytest.raises(ValueError, match="no samples"):
        stats.median_of_worker_medians([])
    with pytest.raises(ValueError, match="no values"):
        stats.bootstrap_interval([])
