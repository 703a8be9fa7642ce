"""Latencies of appends, one in 64 measured, in histograms that every process adds to."""

cimport cython
from libc.stdint cimport uint64_t

from cometlog.kernel.layout cimport LATENCY_SAMPLING
from cometlog.kernel.mapping cimport Mapping

cdef extern from "clock.h" nogil:
    uint64_t monotonic_clock_ns()

cdef extern from *:
    """
    static inline int count_down(uint64_t *remaining) { return __builtin_expect(--*remaining == 0, 0); }
    """
    bint count_down(uint64_t *remaining) nogil


@cython.final
cdef class LatencySampler:
    cdef Mapping statistics
    cdef uint64_t remaining
    cdef uint64_t seen_next
    cdef uint64_t seen_own

    cdef void restart(self, uint64_t frames, uint64_t next_entry, uint64_t own) noexcept nogil
    cdef void record(self, uint64_t started_ns, uint64_t next_entry, uint64_t own) noexcept nogil


cdef inline bint is_sample(uint64_t *remaining) noexcept nogil:
    """Count an append that begins, and say whether it is a 64th, which is to be measured. ``remaining`` is a sampler's."""
    if count_down(remaining):
        remaining[0] = LATENCY_SAMPLING
        return True
    return False


cdef inline uint64_t begin_sample(uint64_t *remaining) noexcept nogil:
    """Count an append that begins; 0, or, of a 64th, the time at which it began."""
    return monotonic_clock_ns() if is_sample(remaining) else 0
