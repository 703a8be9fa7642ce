"""The wall clock of this process, sampled by the helper thread."""

from libc.stdint cimport uint64_t

cdef extern from "clock.h" nogil:
    ctypedef struct clock_sample:
        pass
    uint64_t sampled_wall_clock_ns(const clock_sample *sample)
    void take_clock_sample(clock_sample *sample)

cdef clock_sample *process_clock
cdef bint counter_is_steady
