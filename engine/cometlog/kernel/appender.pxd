"""The append of the mmap write path: PROTOCOL steps B1 to B10."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cometlog.kernel.fork_guard cimport ForkGuard
from cometlog.kernel.histogram cimport LatencySampler
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.wall_clock cimport clock_sample

# Why an attempt did not append; the shard resolves it and the appender tries again.
cpdef enum:
    APPENDED = 0
    NOT_OPEN = 1      # closed, forked, or the helper sleeps
    STALE = 2         # the active segment is another one
    SEALED = 3        # the segment takes no more; help to rotate
    UNBACKED = 4      # the next bytes are not allocated yet
    FENCED = 5        # others gave this range up; resolved only after FENCES_MAX times
    FENCES_MAX = 3


@cython.final
cdef class Appender:
    cdef ForkGuard guard
    cdef LatencySampler sampler
    cdef Mapping control
    cdef Mapping segment
    cdef uint64_t *open_word
    cdef uint64_t *remaining
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
    # Where the last range claimed here ends, and whether it began where the one before ended: then nobody else appends, and what lies
    # behind may be fetched for writing. Beside others that would take from them the lines they write.
    cdef uint64_t own_end
    cdef bint is_alone
    cdef uint64_t operation
    cdef uint64_t frame_count
    cdef uint64_t entry_count
    cdef uint64_t byte_count
    cdef uint64_t fenced_count
    cdef uint64_t retry_count
    cdef uint32_t seed
    cdef size_t batch_bytes_max
    cdef size_t compress_from_bytes
    cdef object resolve
    cdef object compress
    cdef readonly str stream
    cdef readonly uint64_t needed_units

    cpdef extend(self, entries)
    # These return an entry number, which is below 2**56.
    cdef uint64_t append_one(self, entry) except 0xFFFFFFFFFFFFFFFF
    cdef uint8_t *next_frame(self) noexcept nogil
    cdef void set_idle(self) noexcept nogil
    cdef int claim(self, uint64_t units, uint64_t entries, uint64_t *claimed) noexcept nogil
    cdef int commit(
        self, uint64_t claimed, uint64_t units, uint64_t meta, uint64_t timestamp, uint32_t state
    ) noexcept nogil
    cdef int try_payload(
        self, const uint8_t *data, size_t length, uint64_t entries, uint64_t codec, uint64_t *claimed
    ) noexcept nogil
    cdef uint64_t append_measured(self, bytes entry) except 0xFFFFFFFFFFFFFFFF
    cdef uint64_t append_payload(
        self, const uint8_t *data, size_t length, uint64_t entries, uint64_t codec
    ) except 0xFFFFFFFFFFFFFFFF
    cdef uint64_t append_items(self, list items, size_t data_bytes) except 0xFFFFFFFFFFFFFFFF
    cdef int unblock(self, int status, int *fences) except -1
