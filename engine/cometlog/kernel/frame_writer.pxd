"""Writing frames by pwrite or io_uring, for the write paths that hold a lock."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cometlog.kernel.histogram cimport LatencySampler
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.ring cimport Ring

cpdef enum:
    WRITTEN = 0
    SEGMENT_ENDS = 1      # sealed, or the frame does not fit: rotate
    NOT_BACKED = 2        # allocate first
    TORN = 3              # an earlier append was cut off behind the tail: seal and rotate


@cython.final
cdef class FrameWriter:
    cdef Ring ring
    cdef Mapping segment
    cdef int fd
    cdef readonly uint64_t number
    cdef readonly uint64_t base
    cdef uint64_t capacity
    cdef uint32_t seed
    cdef uint8_t *scratch
    cdef size_t scratch_bytes
    cdef uint64_t pending_units
    cdef uint64_t pending_entries
    cdef uint8_t *slot
    cdef Mapping control
    cdef LatencySampler sampler
    cdef uint64_t frame_count
    cdef uint64_t entry_count
    cdef uint64_t byte_count
    cdef uint64_t following
    cdef readonly uint64_t needed_units

    cdef uint64_t units_for(self, size_t length)
    cdef uint64_t pad_bits(self, uint64_t units, size_t length)
    cdef int reserve(self, size_t length) except -1
    cdef int room_for(self, uint64_t units, uint64_t entries)
    cdef int finish(self, uint64_t units, uint64_t meta) except -1
