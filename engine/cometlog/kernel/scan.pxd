"""Walking the frames of a mapped segment: one step, and the cursor that Python sees."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cometlog.kernel.mapping cimport Mapping

# Why a walk stopped, or what a step passed.
cpdef enum:
    STEP_DATA = 0
    STEP_PAD = 1
    STOP_TAIL = 2
    STOP_BLOCKED = 3
    STOP_SEAL = 4
    STOP_WINDOW = 5
    STOP_FULL = 6
    STOP_CORRUPT = 7

# What is wrong where a walk stopped with STOP_CORRUPT, in the order of the checks.
cpdef enum:
    WRONG_NOTHING = 0
    WRONG_KIND = 1
    WRONG_LENGTH = 2
    WRONG_CHECKSUM = 3
    WRONG_META = 4
    WRONG_INDEX = 5
    WRONG_TAIL = 6


cpdef enum:
    # No frame starts at the largest capacity.
    NO_UNIT = 0x7FFFFFFF


cdef extern from *:
    """
    #ifndef COMETLOG_SCANNED_FRAME
    #define COMETLOG_SCANNED_FRAME
    #include <stdint.h>

    /* What is known of a frame once it is verified. A read of short entries keeps one for each of them: half a cache line. */
    typedef struct {
        uint64_t timestamp_ns;
        uint32_t unit;
        uint32_t payload_bytes;
        uint32_t first_index;
        uint32_t entries : 24;
        uint32_t codec : 8;
        uint32_t skip;
        uint32_t take;
    } scanned_frame;
    #endif
    """
    ctypedef struct Frame "scanned_frame":
        uint64_t timestamp_ns
        uint32_t unit
        uint32_t payload_bytes
        uint32_t first_index
        uint32_t entries
        uint32_t codec
        # The entries of the batch that were asked for: `take` of them after the first `skip`.
        uint32_t skip
        uint32_t take


cdef struct WalkState:
    # Given: unit 0 in memory, the checksum state after the segment's uuid, and how far memory may be touched.
    const uint8_t *units
    uint32_t seed
    bint verify
    # A frame whose checksum is known to hold, or NO_UNIT.
    uint64_t verified_unit
    uint64_t tail_units
    uint64_t tail_entries
    uint64_t readable_units
    # Moving: the next word to look at, the lowest index a frame there may have, what was passed.
    uint64_t unit
    uint64_t next_index
    uint64_t live_entries
    uint64_t data_frames
    # True where the frame before `unit` was DATA, so that `next_index` is exact.
    bint exact
    # Set by a stop: the unit that must be readable to go on, and what is wrong.
    uint64_t needed_units
    int wrong


cdef uint32_t uuid_seed(const uint8_t *uuid) noexcept nogil
cdef int walk_step(WalkState *walk, Frame *frame) noexcept nogil


cdef class Walk:
    cdef WalkState state
    cdef Py_buffer view
    cdef readonly int stop

    cdef int set_limits(self, uint64_t tail, uint64_t readable_units) except -1


cdef class Frames:
    cdef Py_buffer view
    cdef Mapping mapping
    cdef Frame *items
    cdef Py_ssize_t count
    cdef Py_ssize_t allocated
    cdef readonly uint64_t base
    cdef readonly uint64_t entries

    cdef int grow(self) except -1 nogil


cdef int collect_frames(
    WalkState *walk, Frames frames, uint64_t first_index, uint64_t entries_max
) except -1 nogil
