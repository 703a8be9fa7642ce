"""Where the last read of a segment ended, and the short way on from there."""

cimport cython
from libc.stdint cimport uint64_t

from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.scan cimport Frames, WalkState


@cython.final
cdef class Follower:
    cdef Mapping mapping
    cdef Py_buffer view
    cdef WalkState start            # of a walk from here: what does not change
    cdef uint64_t mapped_units
    cdef int fd
    cdef uint64_t tail              # the last tail word that was read up to, or checked otherwise
    cdef uint64_t readable_units    # faulted in from `unit` on
    cdef uint64_t base
    cdef readonly uint64_t unit
    cdef readonly uint64_t index
    cdef readonly uint64_t cut_unit
    cdef readonly uint64_t next_entry

    cdef bint is_later(self, uint64_t tail) noexcept
    cdef int move(self, WalkState *state, Frames frames, uint64_t entries_max) except -1
