"""The append of the mmap write path: PROTOCOL steps B1 to B10."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cometlog.kernel.fork_guard cimport ForkGuard
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.wall_clock cimport clock_sample

# Why an attempt did not append; the shard resolves it and the appender tries again.
cpdef enum:
    APPENDED = 0
    NOT_OPEN = 1      # closed, forked, or the helper sleeps
    STALE = 2         # the active segment is another one
    SEALED = 3        # the segment takes no more; help to rotate
    UNBACKED = 4      # the next bytes are not allocated yet
    FENCED = 5        # others gave this range up


@cython.final
cdef class Appender:
    cdef ForkGuard guard
    cdef Mapping control
    cdef Mapping segment
    cdef uint64_t *open_word
    cdef clock_sample *clock
    cdef uint8_t *slot
    cdef uint64_t *active
    cdef uint64_t *flags
    cdef uint64_t *tail
    cdef uint64_t *backed
    cdef uint8_t *frames
    cdef uint64_t number
    cdef uint64_t base
    cdef uint64_t capacity
    cdef uint64_t backed_known
    cdef uint64_t operation
    cdef uint64_t frame_count
    cdef uint64_t entry_count
    cdef uint64_t byte_count
    cdef uint64_t fenced_count
    cdef uint32_t seed
    cdef size_t batch_bytes_max
    cdef size_t compress_from_bytes
    cdef object resolve
    cdef object compress
    cdef readonly str stream
    cdef readonly uint64_t needed_units

    cpdef extend(self, entries)
    cdef object append_one(self, entry)
    cdef void set_idle(self) noexcept nogil
    cdef int claim(self, uint64_t units, uint64_t entries, uint64_t *claimed) noexcept nogil
    cdef int commit(
        self, uint64_t claimed, uint64_t units, uint64_t meta, uint64_t timestamp, uint32_t state
    ) noexcept nogil
    cdef int try_payload(
        self, const uint8_t *data, size_t length, uint64_t entries, uint64_t codec, uint64_t *claimed
    ) noexcept nogil
    cdef object append_payload(self, const uint8_t *data, size_t length, uint64_t entries, uint64_t codec)
    cdef object append_items(self, list items, size_t data_bytes)
    cdef int unblock(self, int status, int *fences) except -1
