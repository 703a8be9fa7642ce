"""Going on where the last read of a segment ended, without the steps that most reads do not need.

Thread safety: a Follower belongs to the one reader that owns it; writers may append meanwhile. The GIL is released while many
frames are walked.

Invariants: what ``go_on`` returns, a read that looks at everything would return as well; where that is not certain, or nothing is new,
it returns None and changes nothing. As there, the tail is loaded before the file's length and before any word, and no byte is touched
that the length does not cover or that was not faulted in.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint64_t

from cometlog.kernel.atomics cimport load_acquire
from cometlog.kernel.layout cimport (
    SEGMENT_HEADER_BYTES, SEGMENT_TAIL, UNIT_BYTES, tail_entries, tail_sealed, tail_units,
)
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.scan cimport NO_UNIT, STOP_FULL, STOP_TAIL, Frames, WalkState, collect_frames, uuid_seed

cdef extern from "<sys/stat.h>" nogil:
    struct stat_t "stat":
        long st_size
    int fstat(int fd, stat_t *status)


cdef enum:
    # What is walked in a few microseconds: letting go of the GIL and taking it again costs as much where caches are cold.
    UNITS_WITH_GIL = 4096


@cython.final
cdef class Follower:
    """Where the last read of a segment ended: ``unit`` and ``index`` are the place from which a walk goes on.

    ``cut_unit`` is the unit of a frame that the read took in part, and verified; ``next_entry`` the number it goes on from. ``fd`` and
    ``mapping`` are the segment's, ``uuid`` has 16 bytes.
    """

    def __cinit__(self, Mapping mapping not None, int fd, const uint8_t[::1] uuid, uint64_t base):
        if uuid.shape[0] != 16:
            raise ValueError(f"a segment uuid has 16 bytes, got {uuid.shape[0]}")
        PyObject_GetBuffer(mapping, &self.view, PyBUF_SIMPLE)
        self.mapping = mapping
        self.fd = fd
        self.base = self.next_entry = base
        self.cut_unit = NO_UNIT
        self.mapped_units = (self.view.len - SEGMENT_HEADER_BYTES) // UNIT_BYTES
        self.start.units = <const uint8_t *>self.view.buf + SEGMENT_HEADER_BYTES
        self.start.seed = uuid_seed(&uuid[0])
        self.start.verify = True

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    def close(self):
        """Go on no more, and let go of the map: the segment is about to be closed."""
        self.fd = -1
        PyBuffer_Release(&self.view)

    def stand_at(
        self, uint64_t unit, uint64_t index, uint64_t cut_unit, uint64_t next_index, uint64_t tail, uint64_t readable_units
    ):
        """Say where a read ended that looked at everything, under which tail word, and up to which unit memory was faulted in."""
        self.unit = unit
        self.index = index
        self.cut_unit = cut_unit
        self.next_entry = self.base + next_index
        self.tail = tail
        self.readable_units = min(readable_units, self.mapped_units)

    def go_on(self, uint64_t entries_max):
        """Return Frames of up to ``entries_max`` entries from ``next_entry`` on, or None: then a read must look at everything.

        There are fewer than ``entries_max`` only where the segment, which is not sealed, ends for now.
        """
        cdef WalkState state
        cdef stat_t status
        cdef Frames frames
        cdef uint64_t tail
        cdef int reason
        if self.fd < 0 or entries_max == 0 or self.readable_units <= self.unit:
            return None
        tail = load_acquire(<const uint64_t *>(<const uint8_t *>self.view.buf + SEGMENT_TAIL))
        if tail_sealed(tail) or not self.is_later(tail):
            return None
        # After the tail, whose units it must cover.
        if fstat(self.fd, &status) != 0:
            return None
        if status.st_size < 0 or <uint64_t>status.st_size < SEGMENT_HEADER_BYTES + tail_units(tail) * UNIT_BYTES:
            return None
        state = self.start
        state.tail_units = tail_units(tail)
        state.tail_entries = tail_entries(tail)
        state.readable_units = min(self.readable_units, state.tail_units)
        state.unit = self.unit
        state.next_index = self.index
        state.verified_unit = self.cut_unit
        frames = Frames(self.mapping, self.base)
        if state.tail_units - state.unit < UNITS_WITH_GIL:
            reason = collect_frames(&state, frames, self.next_entry - self.base, entries_max)
        else:
            with nogil:
                reason = collect_frames(&state, frames, self.next_entry - self.base, entries_max)
        if frames.count == 0 or (
            reason != STOP_FULL and (reason != STOP_TAIL or state.next_index != state.tail_entries)
        ):
            return None
        self.tail = tail
        self.move(&state, frames, entries_max)
        return frames

    cdef bint is_later(self, uint64_t tail) noexcept:
        """Whether a tail has an entry that was not read, and nothing less than the tail before."""
        return (
            self.base + tail_entries(tail) > self.next_entry
            and tail_units(tail) >= tail_units(self.tail)
            and tail_entries(tail) >= tail_entries(self.tail)
        )

    cdef int move(self, WalkState *state, Frames frames, uint64_t entries_max) except -1:
        self.unit = state.unit
        self.index = state.next_index
        self.cut_unit = NO_UNIT
        if frames.entries > entries_max:
            self.unit = self.cut_unit = frames.items[frames.count - 1].unit
            self.index = frames.items[frames.count - 1].first_index
            frames.keep_first(entries_max)
            self.next_entry = frames.stop_number
        else:
            self.next_entry = self.base + state.next_index
        return 0
