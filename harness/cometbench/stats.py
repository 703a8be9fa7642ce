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
