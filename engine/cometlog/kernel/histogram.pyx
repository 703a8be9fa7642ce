"""Latencies of appends, one in 64 measured, in histograms that every process adds to. Format: FORMAT.md, "The statistics".

Thread safety: a sampler belongs to one slot, and the GIL or the lock of its path serialises its calls; the words it adds to are every
process's. Invariant: nothing but reports rests on a histogram, so its words need no order, only that no addition is lost.
"""

cimport cython
from libc.stdint cimport uint8_t, uint64_t

from cometlog.kernel.atomics cimport fetch_add_relaxed, raise_to_at_least
from cometlog.kernel.layout cimport *
from cometlog.kernel.mapping cimport Mapping

cdef extern from *:
    """
    #define highest_bit(value) (63 - __builtin_clzll(value))
    """
    int highest_bit(uint64_t value) nogil

cdef enum:
    SUB_BUCKETS = 1 << LATENCY_SUB_BITS


cdef inline uint64_t bucket_of(uint64_t latency_ns) noexcept nogil:
    cdef int shift
    if latency_ns < SUB_BUCKETS:
        return latency_ns
    if latency_ns >> LATENCY_TOP_BIT:
        return LATENCY_BUCKETS - 1
    shift = highest_bit(latency_ns) - LATENCY_SUB_BITS
    return (<uint64_t>shift << LATENCY_SUB_BITS) + (latency_ns >> shift)


def bucket_index(uint64_t latency_ns):
    """Return the bucket that a latency counts in."""
    return bucket_of(latency_ns)


@cython.final
cdef class LatencySampler:
    """Chooses the appends of one slot that are measured, and counts them in a shard's statistics."""

    def __init__(self, Mapping statistics not None):
        self.bind(statistics)

    def bind(self, Mapping statistics not None):
        """Count in this file from now on."""
        statistics.check_writable()
        statistics.check_range(0, STATISTICS_SIZE_BYTES)
        self.statistics = statistics

    cdef void restart(self, uint64_t frames, uint64_t next_entry, uint64_t own) noexcept nogil:
        """Go on where the slot's former owner left after ``frames`` appends and ``own`` entries; ``next_entry`` is the log's end.

        A forked child, which takes another slot in the middle of its first append, counts on.
        """
        if self.remaining == 0:
            self.remaining = LATENCY_SAMPLING - frames % LATENCY_SAMPLING
        self.seen_next = next_entry
        self.seen_own = own

    cdef void record(self, uint64_t started_ns, uint64_t next_entry, uint64_t own) noexcept nogil:
        """Count an append that ended now; the log ended at ``next_entry`` after it, the slot has appended ``own`` entries in all."""
        cdef uint64_t elapsed_ns = monotonic_clock_ns() - started_ns
        cdef size_t histogram = STATISTICS_ALONE if next_entry - self.seen_next == own - self.seen_own else STATISTICS_SHARED
        cdef uint8_t *words = self.statistics.base
        self.seen_next = next_entry
        self.seen_own = own
        if words == NULL:
            return  # another thread closed the client between this append and here
        words += histogram
        fetch_add_relaxed(<uint64_t *>(words + HISTOGRAM_COUNTS) + bucket_of(elapsed_ns), 1)
        fetch_add_relaxed(<uint64_t *>(words + HISTOGRAM_SUM), elapsed_ns)
        raise_to_at_least(<uint64_t *>(words + HISTOGRAM_MAX), elapsed_ns)
