"""Log-bucketed histograms: merging is adding, buckets are narrow, and thin percentiles are hidden."""

from __future__ import annotations

import random

import numpy as np
import pytest

from cometbench.histogram import Histogram, bucket_of, middle_of


def _samples(seed: int, count: int = 30_000) -> list[int]:
    source = random.Random(seed)
    return [int(source.lognormvariate(7, 2)) for _ in range(count)]


def test_merged_histograms_equal_the_histogram_of_all_samples() -> None:
    parts = [_samples(seed, 1000 * (seed + 1)) for seed in range(5)]
    merged = Histogram.merged(map(Histogram.of, parts))
    assert merged.counts == Histogram.of([value for part in parts for value in part]).counts
    assert merged.count == 15_000


def test_merging_is_not_averaging() -> None:
    quiet, busy = Histogram.of([100] * 90_000), Histogram.of([1_000_000] * 10_000)
    assert Histogram.merged([quiet, busy]).quantile(89) == pytest.approx(100, rel=0.02)
    assert Histogram.merged([quiet, busy]).quantile(99) == pytest.approx(1_000_000, rel=0.02)


@pytest.mark.parametrize("percent", [1, 50, 90, 99])
def test_a_percentile_is_that_of_the_samples_but_for_the_width_of_a_bucket(percent: float) -> None:
    samples = _samples(3)
    exact = float(np.percentile(samples, percent, method="inverted_cdf"))
    assert Histogram.of(samples).percentile(percent) == pytest.approx(exact, rel=0.016)


def test_every_value_lies_in_its_bucket_and_buckets_are_in_order() -> None:
    values = sorted(
        {edge + step for power in range(40) for edge in (1 << power,) for step in (-1, 0, 1, 7)}
        | set(range(300))
    )
    values = [value for value in values if value >= 0]
    buckets = [bucket_of(value) for value in values]
    assert buckets == sorted(buckets)
    assert all(
        abs(middle_of(bucket) - value) <= value / 62 for bucket, value in zip(buckets, values, strict=True)
    )
    assert [middle_of(bucket) for bucket in range(64)] == list(range(64))


@pytest.mark.parametrize(
    ("count", "shown"),
    [(199, ()), (200, (50,)), (9_999, (50, 90)), (10_000, (50, 90, 99)), (100_000, (50, 90, 99, 99.9))],
)
def test_a_percentile_with_fewer_than_a_hundred_samples_beyond_it_is_hidden(
    count: int, shown: tuple[float, ...]
) -> None:
    histogram = Histogram.of(range(count))
    assert (
        tuple(percent for percent in (50, 90, 99, 99.9) if histogram.percentile(percent) is not None) == shown
    )


def test_the_stored_text_holds_all_of_it() -> None:
    histogram = Histogram.of(_samples(9))
    assert Histogram.from_text(histogram.to_text()).counts == histogram.counts
    with pytest.raises(ValueError, match="without samples"):
        Histogram.from_text("").quantile(50)
