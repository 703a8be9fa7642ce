"""Log-bucketed histograms of nanoseconds: merged by adding counts, never by averaging percentiles.

Buckets are one nanosecond wide below 64 and then 32 to the octave, so that a percentile is off by at most 1.6 %. Layout: Tene,
"HdrHistogram" (2012). Standard library only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil

SAMPLES_BEYOND_MIN = 100
_EXACT_BELOW_BITS = 6
_PER_OCTAVE = 1 << (_EXACT_BELOW_BITS - 1)


def bucket_of(value: int) -> int:
    """Return the bucket that a value in nanoseconds, 0 or more, falls into."""
    octave = max(0, value.bit_length() - _EXACT_BELOW_BITS)
    return _PER_OCTAVE * octave + (value >> octave)


def middle_of(bucket: int) -> float:
    """Return the middle of a bucket in nanoseconds."""
    octave = max(0, bucket // _PER_OCTAVE - 1)
    return ((bucket - _PER_OCTAVE * octave) << octave) + ((1 << octave) - 1) / 2


def enough_beyond(count: int, percent: float) -> bool:
    """Return whether at least 100 of `count` samples lie beyond a percentile; with fewer it is hidden."""
    return round(count * (100 - percent) / 100, 6) >= SAMPLES_BEYOND_MIN


class Histogram:
    """Counts by bucket."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: Counter[int] = Counter(counts or {})

    @classmethod
    def of(cls, samples_ns: Iterable[int]) -> Histogram:
        """Return the histogram of samples in nanoseconds."""
        counts: Counter[int] = Counter()
        for value, count in Counter(samples_ns).items():
            counts[bucket_of(value)] += count
        return cls(counts)

    @classmethod
    def merged(cls, parts: Iterable[Histogram]) -> Histogram:
        """Return the histogram of all samples of several."""
        counts: Counter[int] = Counter()
        for part in parts:
            counts.update(part.counts)
        return cls(counts)

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.counts.total()

    def percentile(self, percent: float) -> float | None:
        """Return a percentile in nanoseconds, or None where fewer than 100 samples lie beyond it."""
        return self.quantile(percent) if enough_beyond(self.count, percent) else None

    def quantile(self, percent: float) -> float:
        """Return a percentile whatever it rests on. Raises ValueError without samples."""
        rank, seen = ceil(self.count * percent / 100), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return middle_of(bucket)
        raise ValueError("a histogram without samples has no percentile")

    def to_text(self) -> str:
        """Return `bucket:count` pairs in order, as stored in a run."""
        return " ".join(f"{bucket}:{count}" for bucket, count in sorted(self.counts.items()))

    @classmethod
    def from_text(cls, text: str) -> Histogram:
        """Return what `to_text` wrote. Raises ValueError for anything else."""
        pairs = (pair.split(":") for pair in text.split())
        return cls({int(bucket): int(count) for bucket, count in pairs})
