"""Latency histograms as any process reads them: counts of log-linear buckets. Format: FORMAT.md, "The statistics"."""

from dataclasses import dataclass, field
from typing import Self

from cometlog.kernel import layout

SAMPLING = layout.LATENCY_SAMPLING
"""One append in so many is measured."""
_SUB_BUCKETS = 1 << layout.LATENCY_SUB_BITS


def bucket_bounds_ns(index: int) -> tuple[int, int]:
    """Return the lowest latency that counts in a bucket, and the lowest that counts in the next, in ns."""
    shift = max(0, index // _SUB_BUCKETS - 1)
    low = index - shift * _SUB_BUCKETS
    return low << shift, low + 1 << shift


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """Latencies of appends, of which one in 64 was measured.

    ``counts``: samples in each of 592 buckets; ``sum_ns`` of the samples, ``max_ns`` the longest of them (0: none). Histograms of
    several shards add up.
    """

    counts: tuple[int, ...] = field(default=(0,) * layout.LATENCY_BUCKETS, repr=False)
    sum_ns: int = 0
    max_ns: int = 0

    @property
    def sample_count(self) -> int:
        """Appends that were measured."""
        return sum(self.counts)

    @property
    def mean_ns(self) -> float | None:
        """Mean of the samples; None where there are none."""
        return self.sum_ns / self.sample_count if self.sample_count else None

    def percentile_ns(self, percent: float) -> int | None:
        """Return a latency that ``percent`` of the samples do not exceed, to within 1/16 above, or None where there is no sample.

        Raises ValueError for a percentage outside 0 to 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile is 0 to 100, got {percent!r}")
        wanted = max(1.0, self.sample_count * percent / 100)
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                low, end = bucket_bounds_ns(index)
                return min(end - 1, max(low, self.max_ns))
        return None

    def __add__(self, other: Self) -> Self:
        counts = tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        return type(self)(counts, self.sum_ns + other.sum_ns, max(self.max_ns, other.max_ns))

    def since(self, before: Self) -> Self:
        """Return what came after an earlier look at the same histogram; ``max_ns`` stays that of all its samples."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return type(self)(counts, self.sum_ns - before.sum_ns, self.max_ns)
