"""Statistics over worker processes and paired rounds: medians and seeded bootstrap intervals.

The worker process (or the paired round) is the unit, never the single value: spread between workers far
exceeds spread within one, so intervals over values would be too narrow. Method: percentile bootstrap (Efron
1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cometbench.histogram import Histogram, middle_of
from cometbench.model import Sample

RESAMPLES = 4000
CONFIDENCE = 0.95
DEFAULT_SEED = 20250131


class Interval(NamedTuple):
    """A two-sided 95 % interval."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A headline value with its 95 % interval and the number of workers (or paired rounds) behind it."""

    value: float
    low: float
    high: float
    workers: int


def worker_medians(samples: Sequence[Sample]) -> list[float]:
    """Return the median of each worker's values, in the order given."""
    return [float(np.median(sample.values)) for sample in samples]


def median_of_worker_medians(samples: Sequence[Sample]) -> float:
    """Return the headline of a measurement. Raises ValueError without samples."""
    if not samples:
        raise ValueError("no samples: a median needs at least one worker")
    return float(np.median(worker_medians(samples)))


def bootstrap_interval(values: Sequence[float], seed: int = DEFAULT_SEED) -> Interval:
    """95 % percentile-bootstrap interval of the median over `values`, one value per worker.

    The same values and seed give the same interval. One value gives the empty interval (value, value): it
    says nothing about noise, which is why verdicts also ask for the number of workers. Raises ValueError
    without values.
    """
    if not len(values):
        raise ValueError("no values: an interval needs at least one worker")
    data: npt.NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(data), size=(RESAMPLES, len(data)))
    medians = np.median(data[picks], axis=1)
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(medians, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def estimate(samples: Sequence[Sample], seed: int = DEFAULT_SEED) -> Estimate:
    """Median of worker medians with its interval over workers."""
    interval = bootstrap_interval(worker_medians(samples), seed)
    return Estimate(median_of_worker_medians(samples), interval.low, interval.high, len(samples))


def percentile_of_rounds(rounds: Sequence[Histogram], percent: float, seed: int = DEFAULT_SEED) -> Estimate:
    """Return a percentile of the samples of all rounds together, with its bootstrap interval over rounds.

    A resample draws rounds and adds their counts; percentiles are never averaged. Raises ValueError where fewer than
    100 samples lie beyond the percentile.
    """
    merged = Histogram.merged(rounds)
    value = merged.percentile(percent)
    if value is None:
        raise ValueError(
            f"fewer than 100 of {merged.count:,} samples lie beyond the {percent:g}th percentile"
        )
    buckets = sorted(merged.counts)
    counts = np.array([[one.counts[bucket] for bucket in buckets] for one in rounds])
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(rounds), [1 / len(rounds)] * len(rounds), size=RESAMPLES)
    seen = np.cumsum(draws @ counts, axis=1)
    ranks = np.ceil(seen[:, -1:] * percent / 100)
    values = np.array([middle_of(bucket) for bucket in buckets])[np.argmax(seen >= ranks, axis=1)]
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high), len(rounds))


def round_medians(samples: Sequence[Sample]) -> dict[int, float]:
    """Median of the worker medians of each round."""
    rounds: dict[int, list[float]] = {}
    for sample in samples:
        rounds.setdefault(sample.round, []).append(float(np.median(sample.values)))
    return {number: float(np.median(medians)) for number, medians in sorted(rounds.items())}


def paired_ratio(
    numerator_samples: Sequence[Sample], denominator_samples: Sequence[Sample], seed: int = DEFAULT_SEED
) -> Estimate:
    """Median over rounds of numerator / denominator, paired within each round, with its interval.

    Pairing removes what drifts between rounds (frequency, other tenants). `workers` counts paired rounds.
    Raises ValueError when no round has both sides or a denominator is not positive.
    """
    pairs = _pair_rounds(numerator_samples, denominator_samples)
    if any(denominator <= 0 for _, denominator in pairs):
        raise ValueError("a ratio needs a positive denominator in every round")
    return _over_rounds([numerator / denominator for numerator, denominator in pairs], seed)


def paired_difference(
    first: Sequence[Sample], second: Sequence[Sample], seed: int = DEFAULT_SEED
) -> Estimate:
    """Median over rounds of first - second, paired like `paired_ratio`.

    Raises ValueError when no round has both.
    """
    return _over_rounds([left - right for left, right in _pair_rounds(first, second)], seed)


def _pair_rounds(first: Sequence[Sample], second: Sequence[Sample]) -> list[tuple[float, float]]:
    left, right = round_medians(first), round_medians(second)
    common = sorted(left.keys() & right.keys())
    if not common:
        raise ValueError("no round holds both sides of the comparison")
    return [(left[number], right[number]) for number in common]


def _over_rounds(values: list[float], seed: int) -> Estimate:
    interval = bootstrap_interval(values, seed)
    return Estimate(float(np.median(values)), interval.low, interval.high, len(values))


def independent_ratio(
    numerator: Sequence[float], denominator: Sequence[float], seed: int = DEFAULT_SEED
) -> Estimate:
    """Ratio of two medians whose values have nothing to do with one another, with its interval.

    Both sides are resampled on their own, so the interval is wider than a paired one. `workers` counts the
    smaller side. Raises ValueError where a side is empty or a denominator is not positive.
    """
    if not len(numerator) or not len(denominator):
        raise ValueError("a ratio needs values on both sides")
    if min(denominator) <= 0:
        raise ValueError("a ratio needs positive denominators")
    generator = np.random.default_rng(seed)
    sides = []
    for values in (numerator, denominator):
        data: npt.NDArray[np.float64] = np.asarray(values, dtype=np.float64)
        sides.append(np.median(data[generator.integers(0, len(data), size=(RESAMPLES, len(data)))], axis=1))
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(sides[0] / sides[1], [tail, 1.0 - tail])
    value = float(np.median(numerator) / np.median(denominator))
    return Estimate(value, float(low), float(high), min(len(numerator), len(denominator)))
