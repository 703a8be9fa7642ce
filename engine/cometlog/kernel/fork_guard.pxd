"""What a forked child must not inherit."""

from libc.stdint cimport uint64_t

# States of a guard word. A forked child finds CLOSED, because the kernel hands it a zeroed page.
cdef enum:
    GUARD_CLOSED = 0
    GUARD_OPEN = 1
    GUARD_HELPER_ASLEEP = 2


cdef class ForkGuard:
    cdef uint64_t *word


cdef uint64_t this_process() noexcept nogil
