"""Walking the frames of a mapped segment and collecting those a read asks for.

Thread safety: a Walk and a Frames belong to one thread at a time; the segment may be appended to meanwhile. A
tail is loaded (acquire) by the caller before the walk, so that every word below it is a claim; each word is
loaded with acquire, so that what it commits is seen whole. The GIL is released while frames are walked; both
objects pin their mapping as long as they live.

Invariants: no byte at or beyond ``readable_units`` is touched; each step moves forward by at least one unit
or stops, so no bytes make a walk run for ever.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from cometlog.kernel.atomics cimport load_acquire
from cometlog.kernel.checksum cimport (
    CRC32C_START, crc32c_finish, crc32c_initialise, crc32c_update, crc32c_update_frame,
)
from cometlog.kernel.layout cimport (
    CODEC_NONE, CODEC_ZSTD_DICTIONARY, FRAME_CHECKSUM, FRAME_HEADER_BYTES, FRAME_META, FRAME_PAYLOAD,
    FRAME_TIMESTAMP, KIND_CLAIMED, KIND_DATA, KIND_PAD, KIND_SEAL, META_CODEC_SHIFT, META_ENTRIES_MASK,
    META_PAD_SHIFT, META_ZERO_MASK,
    SEGMENT_HEADER_BYTES, UNIT_BYTES, tail_entries, tail_units, word_index, word_kind, word_units,
)
from cometlog.kernel.mapping cimport Mapping

cdef extern from "invariant.h" nogil:
    void invariant(bint condition)

cdef extern from *:
    """
    /* What a walk comes to next: the CPU fetches ahead by itself within a page, and not where a walk crosses into another. No address
     * faults here. */
    #define PREFETCH_BYTES 1024
    static inline void prefetch_frames(const uint8_t *start)
    {
        __builtin_prefetch(start + PREFETCH_BYTES);
        __builtin_prefetch(start + PREFETCH_BYTES + 64);
    }
    """
    void prefetch_frames(const uint8_t *start) nogil

cdef enum:
    FRAME_HEADER_UNITS = FRAME_HEADER_BYTES // UNIT_BYTES
    FRAMES_MIN = 8

WRONG_TEXTS = {
    WRONG_KIND: "unknown kind of frame",
    WRONG_LENGTH: "frame length is zero, too short or past the tail",
    WRONG_CHECKSUM: "checksum does not match",
    WRONG_META: "frame states an impossible count, codec or padding",
    WRONG_INDEX: "entry index does not follow on the frame before or passes the tail",
    WRONG_TAIL: "tail does not agree with the frames before it",
}

crc32c_initialise()


cdef uint32_t uuid_seed(const uint8_t *uuid) noexcept nogil:
    """Return the checksum state that every checksum of a segment goes on from."""
    return crc32c_update(CRC32C_START, uuid, 16)


cdef inline uint32_t marker_checksum(uint32_t seed, uint64_t unit, uint32_t low) noexcept nogil:
    cdef uint8_t covered[12]
    memcpy(covered, &unit, 8)
    memcpy(covered + 8, &low, 4)
    return crc32c_finish(crc32c_update(seed, covered, 12))


cdef inline int stop_corrupt(WalkState *walk, int wrong) noexcept nogil:
    walk.wrong = wrong
    return STOP_CORRUPT


cdef inline int stop_window(WalkState *walk, uint64_t needed_units) noexcept nogil:
    walk.needed_units = needed_units
    return STOP_WINDOW


cdef int walk_step(WalkState *walk, Frame *frame) noexcept nogil:
    """Pass one frame. Returns STEP_DATA with ``frame`` filled, STEP_PAD, or why the walk stops where it
    stands.

    A stop changes nothing, so the same step can be tried again with a later tail or more readable units.
    """
    return pass_frame(walk, frame)


cdef inline int pass_frame(WalkState *walk, Frame *frame) noexcept nogil:
    """Do what ``walk_step`` says."""
    cdef uint64_t unit = walk.unit
    cdef uint64_t word, units
    cdef uint32_t kind
    if unit >= walk.tail_units:
        if unit > walk.tail_units or (walk.exact and walk.next_index != walk.tail_entries):
            return stop_corrupt(walk, WRONG_TAIL)
        return STOP_TAIL
    if unit >= walk.readable_units:
        return stop_window(walk, unit + 1)
    # acquire, with the commit's release: the payload below is what was there when the word became DATA.
    word = load_acquire(<const uint64_t *>(walk.units + unit * UNIT_BYTES))
    kind = word_kind(word)
    if word == 0 or kind == KIND_CLAIMED:
        # Each claim holds an entry, so a claim after the last allocated entry is a damaged tail, not a writer
        # on its way.
        return STOP_BLOCKED if walk.next_index < walk.tail_entries else stop_corrupt(walk, WRONG_TAIL)
    if kind == KIND_DATA:
        return pass_data(walk, frame, word)
    if kind != KIND_PAD and kind != KIND_SEAL:
        return stop_corrupt(walk, WRONG_KIND)
    if marker_checksum(walk.seed, unit, <uint32_t>word) != word_index(word):
        return stop_corrupt(walk, WRONG_CHECKSUM)
    if kind == KIND_SEAL:
        return STOP_SEAL
    units = word_units(word)
    if units == 0 or units > walk.tail_units - unit:
        return stop_corrupt(walk, WRONG_LENGTH)
    walk.unit = unit + units
    walk.exact = False
    return STEP_PAD


cdef inline int pass_data(WalkState *walk, Frame *frame, uint64_t word) noexcept nogil:
    cdef uint64_t unit = walk.unit
    cdef uint64_t units = word_units(word)
    cdef uint64_t timestamp_ns, index, payload_bytes
    cdef uint32_t stored, actual, meta, entries, codec, pad
    cdef const uint8_t *start = walk.units + unit * UNIT_BYTES
    if units < FRAME_HEADER_UNITS or units > walk.tail_units - unit:
        return stop_corrupt(walk, WRONG_LENGTH)
    if unit + units > walk.readable_units:
        return stop_window(walk, unit + units)
    invariant(unit + units <= walk.readable_units and unit + units <= walk.tail_units)
    prefetch_frames(start)
    memcpy(&stored, start + FRAME_CHECKSUM, 4)
    memcpy(&meta, start + FRAME_META, 4)
    memcpy(&timestamp_ns, start + FRAME_TIMESTAMP, 8)
    pad = meta >> META_PAD_SHIFT
    payload_bytes = units * UNIT_BYTES - FRAME_HEADER_BYTES
    if pad > payload_bytes:
        return stop_corrupt(walk, WRONG_META)
    payload_bytes -= pad
    if walk.verify and unit != walk.verified_unit:
        actual = crc32c_update_frame(
            walk.seed, start + FRAME_PAYLOAD, payload_bytes, unit, word, timestamp_ns, meta
        )
        if crc32c_finish(actual) != stored:
            return stop_corrupt(walk, WRONG_CHECKSUM)
    entries = meta & META_ENTRIES_MASK
    codec = (meta >> META_CODEC_SHIFT) & 7
    if entries == 0 or codec > CODEC_ZSTD_DICTIONARY or meta & META_ZERO_MASK:
        return stop_corrupt(walk, WRONG_META)
    if codec == CODEC_NONE and entries > 1 and payload_bytes < 4 * (<uint64_t>entries + 1):
        return stop_corrupt(walk, WRONG_META)
    index = word_index(word)
    # A claim takes units and entries in one step of the tail, so numbers are missing only where a PAD burnt them.
    if index < walk.next_index or (walk.exact and index != walk.next_index):
        return stop_corrupt(walk, WRONG_INDEX)
    if index + entries > walk.tail_entries:
        return stop_corrupt(walk, WRONG_INDEX)
    frame.unit = <uint32_t>unit
    frame.timestamp_ns = timestamp_ns
    frame.payload_bytes = <uint32_t>payload_bytes
    frame.first_index = <uint32_t>index
    frame.entries = entries
    frame.codec = codec
    frame.skip = 0
    frame.take = entries
    walk.unit = unit + units
    walk.next_index = index + entries
    walk.live_entries += entries
    walk.data_frames += 1
    walk.exact = True
    return STEP_DATA


cdef int collect_frames(
    WalkState *walk, Frames frames, uint64_t first_index, uint64_t entries_max
) except -1 nogil:
    """Pass frames and add those with entries from ``first_index`` on, until there are ``entries_max``; see ``Walk.collect``."""
    cdef WalkState here = walk[0]
    cdef uint64_t entries = frames.entries
    cdef Frame *frame
    cdef int step = STEP_DATA
    while step <= STEP_PAD:
        if entries >= entries_max:
            step = STOP_FULL
            break
        if frames.count == frames.allocated:
            frames.grow()
        frame = &frames.items[frames.count]
        step = pass_frame(&here, frame)
        if step != STEP_DATA or frame.first_index + <uint64_t>frame.entries <= first_index:
            continue
        if frame.first_index < first_index:
            frame.skip = <uint32_t>(first_index - frame.first_index)
            frame.take -= frame.skip
        frames.count += 1
        entries += frame.take
    frames.entries = entries
    walk[0] = here
    return step


cdef class Walk:
    """A cursor over the frames of one segment: ``unit`` is the next word, ``next_index`` the lowest index it
    may have.

    ``mapping`` covers the segment from byte 0; ``uuid`` is the segment's, 16 bytes. ``live_entries`` counts
    entries in DATA frames and goes on from the value given. Start at a frame boundary: elsewhere the walk
    ends in STOP_CORRUPT.
    """

    def __cinit__(
        self, Mapping mapping, const uint8_t[::1] uuid, uint64_t unit=0, uint64_t next_index=0,
        uint64_t live_entries=0
    ):
        if uuid.shape[0] != 16:
            raise ValueError(f"a segment uuid has 16 bytes, got {uuid.shape[0]}")
        PyObject_GetBuffer(mapping, &self.view, PyBUF_SIMPLE)
        self.state.units = <const uint8_t *>self.view.buf + SEGMENT_HEADER_BYTES
        self.state.seed = uuid_seed(&uuid[0])
        self.state.unit = unit
        self.state.next_index = next_index
        self.state.live_entries = live_entries
        self.state.verified_unit = NO_UNIT
        self.stop = STOP_TAIL

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    @property
    def unit(self):
        """Unit of the next word."""
        return self.state.unit

    @property
    def next_index(self):
        """Lowest entry index that a frame at ``unit`` may have."""
        return self.state.next_index

    @property
    def live_entries(self):
        """Entries in the DATA frames before ``unit``."""
        return self.state.live_entries

    @property
    def data_frames(self):
        """DATA frames passed by this walk."""
        return self.state.data_frames

    @property
    def needed_units(self):
        """After STOP_WINDOW: how many units must be readable to go on."""
        return self.state.needed_units

    @property
    def wrong(self):
        """After STOP_CORRUPT: what is wrong, one of the WRONG_ constants."""
        return self.state.wrong

    def skip_to(self, uint64_t unit):
        """Go on at a later unit, as over a PAD; ValueError backwards."""
        if unit < self.state.unit:
            raise ValueError(f"a walk at unit {self.state.unit} does not go back to {unit}")
        self.state.unit = unit
        self.state.exact = False

    def advance(self, uint64_t tail, uint64_t readable_units, bint verify=True):
        """Pass every resolved frame, return why the walk stopped; ``tail`` is a tail word, loaded before."""
        cdef Frame frame
        cdef int step = STEP_DATA
        self.set_limits(tail, readable_units)
        self.state.verify = verify
        with nogil:
            while step <= STEP_PAD:
                step = walk_step(&self.state, &frame)
        self.stop = step
        return step

    def collect(
        self, Frames frames not None, uint64_t tail, uint64_t readable_units, uint64_t first_index,
        uint64_t entries_max, uint64_t verified_unit=NO_UNIT
    ):
        """Pass frames, add those with entries from ``first_index`` on until ``entries_max`` are there.

        Returns why the walk stopped: STOP_FULL once nothing more is wanted. Every frame passed is verified
        whole, but for one at ``verified_unit``, which an earlier walk verified. The last is added whole:
        ``frames`` may end up with more than ``entries_max``.
        """
        cdef int reason
        if frames.view.buf != self.view.buf:
            raise ValueError("the frames belong to another mapping")
        self.set_limits(tail, readable_units)
        self.state.verify = True
        self.state.verified_unit = verified_unit
        with nogil:
            reason = collect_frames(&self.state, frames, first_index, entries_max)
        self.stop = reason
        return reason

    cdef int set_limits(self, uint64_t tail, uint64_t readable_units) except -1:
        cdef uint64_t mapped_units = (self.view.len - SEGMENT_HEADER_BYTES) // UNIT_BYTES
        if tail_units(tail) > mapped_units or readable_units > mapped_units:
            raise IndexError(
                f"tail at unit {tail_units(tail)}, {readable_units} readable, in a map of {mapped_units}"
            )
        self.state.tail_units = tail_units(tail)
        self.state.tail_entries = tail_entries(tail)
        self.state.readable_units = readable_units
        self.state.wrong = WRONG_NOTHING
        return 0


cdef class Frames:
    """The DATA frames of one segment that a read collected. ``base`` is the entry number of the segment's
    first entry.

    ``entries`` counts the entries taken. The mapping stays mapped as long as this object lives.
    """

    def __cinit__(self, Mapping mapping, uint64_t base):
        PyObject_GetBuffer(mapping, &self.view, PyBUF_SIMPLE)
        self.mapping = mapping
        self.base = base

    def __dealloc__(self):
        free(self.items)
        PyBuffer_Release(&self.view)

    def __len__(self):
        return self.count

    cdef int grow(self) except -1 nogil:
        """Have room for one frame more."""
        cdef Py_ssize_t larger = max(4 * self.allocated, FRAMES_MIN)
        cdef void *grown = realloc(self.items, <size_t>larger * sizeof(Frame))
        if grown == NULL:
            with gil:
                raise MemoryError()
        self.items = <Frame *>grown
        self.allocated = larger
        return 0

    @property
    def last_unit(self):
        """Unit of the last frame, or -1."""
        return <int64_t>self.items[self.count - 1].unit if self.count else -1

    @property
    def last_index(self):
        """Index in the segment of the last frame's first entry, taken or not; -1 without a frame."""
        return <int64_t>self.items[self.count - 1].first_index if self.count else -1

    @property
    def start_number(self):
        """Entry number of the first one taken, or ``base``."""
        return self.base + self.items[0].first_index + self.items[0].skip if self.count else self.base

    @property
    def stop_number(self):
        """Entry number after the last one taken, or ``base``."""
        cdef Frame *last
        if self.count == 0:
            return self.base
        last = &self.items[self.count - 1]
        return self.base + last.first_index + last.skip + last.take

    def keep_first(self, uint64_t entries):
        """Leave out all but the first ``entries`` entries."""
        cdef uint64_t excess
        cdef Frame *last
        while self.entries > entries:
            last = &self.items[self.count - 1]
            excess = min(self.entries - entries, last.take)
            last.take -= <uint32_t>excess
            self.entries -= excess
            if last.take == 0:
                self.count -= 1

    def drop_first(self, uint64_t entries):
        """Leave out the first ``entries`` entries, or all."""
        cdef Py_ssize_t kept = 0
        cdef uint64_t dropped
        cdef Py_ssize_t position
        for position in range(self.count):
            dropped = min(entries, self.items[position].take)
            self.items[position].skip += <uint32_t>dropped
            self.items[position].take -= <uint32_t>dropped
            self.entries -= dropped
            entries -= dropped
            if self.items[position].take:
                self.items[kept] = self.items[position]
                kept += 1
        self.count = kept
