"""Writing frames by pwrite or io_uring, for the write paths that hold a lock (PROTOCOL H).

Thread safety: the caller holds the lock of its path (byte 4, or byte 0 and a mutex) from ``put`` to ``publish``.
Invariants: the frame is whole in the file before the tail is stored; the tail store (release) is the commit; a frame that was cut off
leaves a word behind the tail that is not zero, which the next holder of the lock sees. The lock orders every load of the tail here;
every order is argued in ARCHITECTURE.md, "Memory orders".
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

import os

from cometlog.kernel.atomics cimport load_acquire, load_relaxed, store_relaxed, store_release
from cometlog.kernel.batch cimport copy_items
from cometlog.kernel.checksum cimport CRC32C_START, crc32c_finish, crc32c_initialise, crc32c_update
from cometlog.kernel.histogram cimport LatencySampler, begin_sample
from cometlog.kernel.layout cimport *
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.ring cimport Ring
from cometlog.kernel.step cimport *

cdef extern from "invariant.h" nogil:
    void invariant(bint condition)

cdef extern from "clock.h" nogil:
    uint64_t wall_clock_ns()

cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int fd, const void *data, size_t length, long offset)

cdef uint64_t ENTRIES_MAX = 0xFFFFFFFF

crc32c_initialise()


@cython.final
cdef class FrameWriter:
    """Encodes one frame at a time into a buffer of its own and writes it behind the tail of the bound segment.

    With a ring the frame is written and synced in one submission, and ``ring.check_sync`` says whether it is durable; else by pwrite.
    """

    def __init__(self, Ring ring=None):
        self.ring = ring

    def __dealloc__(self):
        free(self.scratch)

    def bind_slot(self, Mapping control not None, uint64_t index, LatencySampler sampler not None):
        """Count what is appended in slot ``index``, which the caller holds; once, before the first segment is bound."""
        control.check_writable()
        if index >= <uint64_t>SLOT_COUNT:
            raise IndexError(f"slot {index} of {SLOT_COUNT}")
        control.check_range(0, CONTROL_SIZE_BYTES)
        self.control = control
        self.slot = control.base + CONTROL_SLOTS + index * SLOT_SIZE_BYTES
        self.sampler = sampler
        self.frame_count = load_relaxed(<uint64_t *>(self.slot + SLOT_FRAMES))
        self.entry_count = load_relaxed(<uint64_t *>(self.slot + SLOT_ENTRIES))
        self.byte_count = load_relaxed(<uint64_t *>(self.slot + SLOT_BYTES))
        self.sampler.restart(self.frame_count, 0, self.entry_count)

    def bind_segment(
        self, Mapping segment not None, int fd, uint64_t number, uint64_t base, uint64_t capacity_units, bytes uuid
    ):
        """Write into this segment from now on."""
        segment.check_writable()
        segment.check_range(0, SEGMENT_HEADER_BYTES + capacity_units * UNIT_BYTES)
        if self.slot == NULL:
            raise ValueError("a frame writer needs a slot before a segment")
        if self.segment is None:
            self.sampler.seen_next = base + tail_entries(load_acquire(<uint64_t *>(segment.base + SEGMENT_TAIL)))
        self.segment = segment
        self.fd = fd
        self.number = number
        self.base = base
        self.capacity = capacity_units
        self.seed = crc32c_update(CRC32C_START, PyBytes_AS_STRING(uuid), PyBytes_GET_SIZE(uuid))

    def put(self, list items not None, size_t data_bytes):
        """Write a batch of one or more bytes objects, ``data_bytes`` in all; return WRITTEN or what is in the way."""
        cdef uint64_t count = PyList_GET_SIZE(items)
        cdef size_t offsets_bytes = 4 * (count + 1) if count > 1 else 0
        cdef size_t length = offsets_bytes + data_bytes
        cdef uint64_t units = self.units_for(length)
        cdef uint8_t *payload
        cdef bytes only
        cdef int status = self.room_for(units, count)
        if status != WRITTEN:
            return status
        self.reserve(units * UNIT_BYTES)
        payload = self.scratch + FRAME_PAYLOAD
        if count == 1:
            only = items[0]
            memcpy(payload, PyBytes_AS_STRING(only), length)
        else:
            copy_items(items, payload, payload + offsets_bytes)
        return self.finish(units, count | self.pad_bits(units, length))

    def put_payload(self, bytes payload not None, uint64_t entries, uint64_t codec):
        """Write a batch that is encoded already."""
        cdef size_t length = PyBytes_GET_SIZE(payload)
        cdef uint64_t units = self.units_for(length)
        cdef int status = self.room_for(units, entries)
        if status != WRITTEN:
            return status
        self.reserve(units * UNIT_BYTES)
        memcpy(self.scratch + FRAME_PAYLOAD, PyBytes_AS_STRING(payload), length)
        return self.finish(units, entries | (codec << META_CODEC_SHIFT) | self.pad_bits(units, length))

    def publish(self):
        """Commit what ``put`` wrote; return the number of its first entry."""
        cdef uint64_t *tail = <uint64_t *>(self.segment.base + SEGMENT_TAIL)
        cdef uint64_t before = load_acquire(tail)
        if self.pending_units == 0:
            raise ValueError("nothing was put")
        invariant(not tail_sealed(before) and tail_units(before) + self.pending_units <= self.capacity)
        # release: who loads this tail (acquire) sees what pwrite put below it. No CAS: the lock keeps other writers of the tail out.
        store_release(tail, before + (self.pending_entries << TAIL_ENTRIES_SHIFT) + self.pending_units)
        step(STEP_PUBLISHED)
        self.frame_count += 1
        self.entry_count += self.pending_entries
        self.byte_count += self.pending_units * UNIT_BYTES
        store_relaxed(<uint64_t *>(self.slot + SLOT_FRAMES), self.frame_count)
        store_relaxed(<uint64_t *>(self.slot + SLOT_ENTRIES), self.entry_count)
        store_relaxed(<uint64_t *>(self.slot + SLOT_BYTES), self.byte_count)
        self.following = self.base + tail_entries(before) + self.pending_entries
        self.pending_units = 0
        return self.following - self.pending_entries

    def begin(self):
        """Return 0, or the time at which an append began that ``measure`` is to be told of: every 64th."""
        return begin_sample(&self.sampler.remaining)

    def measure(self, uint64_t started_ns):
        """Count the latency of the append that was published last and began at ``started_ns``."""
        self.sampler.record(started_ns, self.following, self.entry_count)

    @property
    def next_entry(self):
        """Entry number at the tail."""
        return self.base + tail_entries(load_acquire(<uint64_t *>(self.segment.base + SEGMENT_TAIL)))

    cdef uint64_t units_for(self, size_t length):
        return (FRAME_HEADER_BYTES + length + UNIT_BYTES - 1) // UNIT_BYTES

    cdef uint64_t pad_bits(self, uint64_t units, size_t length):
        return (units * UNIT_BYTES - FRAME_HEADER_BYTES - length) << META_PAD_SHIFT

    cdef int reserve(self, size_t length) except -1:
        cdef void *grown
        if length > self.scratch_bytes:
            grown = realloc(self.scratch, length)
            if grown == NULL:
                raise MemoryError(f"a frame of {length} bytes")
            self.scratch = <uint8_t *>grown
            self.scratch_bytes = length
        memset(self.scratch + length - UNIT_BYTES, 0, UNIT_BYTES)
        return 0

    cdef int room_for(self, uint64_t units, uint64_t entries):
        cdef uint64_t tail = load_acquire(<uint64_t *>(self.segment.base + SEGMENT_TAIL))
        cdef uint64_t unit = tail_units(tail)
        cdef uint64_t backed = load_acquire(<uint64_t *>(self.segment.base + SEGMENT_BACKED))
        if tail_sealed(tail) or unit + units > self.capacity or entries > ENTRIES_MAX - tail_entries(tail):
            return SEGMENT_ENDS
        if unit + units > backed:
            self.needed_units = unit + units
            return NOT_BACKED
        if load_acquire(<uint64_t *>(self.segment.base + SEGMENT_HEADER_BYTES + unit * UNIT_BYTES)) != 0:
            return TORN
        return WRITTEN

    cdef int finish(self, uint64_t units, uint64_t meta) except -1:
        """Complete the header and write the frame behind the tail."""
        cdef uint64_t tail = load_acquire(<uint64_t *>(self.segment.base + SEGMENT_TAIL))
        cdef uint64_t unit = tail_units(tail)
        cdef size_t length = units * UNIT_BYTES
        cdef size_t payload_bytes = length - FRAME_HEADER_BYTES - (meta >> META_PAD_SHIFT)
        cdef uint64_t trailer[4]
        cdef uint32_t state = crc32c_update(self.seed, self.scratch + FRAME_PAYLOAD, payload_bytes)
        trailer[0] = unit
        trailer[1] = make_word(tail_entries(tail), KIND_DATA, units)
        trailer[2] = wall_clock_ns()
        trailer[3] = meta
        state = crc32c_finish(crc32c_update(state, trailer, 28))
        (<uint64_t *>self.scratch)[0] = trailer[1]
        (<uint64_t *>(self.scratch + FRAME_CHECKSUM))[0] = state | (meta << 32)
        (<uint64_t *>(self.scratch + FRAME_TIMESTAMP))[0] = trailer[2]
        if self.ring is None:
            write_whole(self.fd, self.scratch, length, SEGMENT_HEADER_BYTES + unit * UNIT_BYTES)
        else:
            self.ring.write_frame(self.fd, self.scratch, length, SEGMENT_HEADER_BYTES + unit * UNIT_BYTES)
        step(STEP_WRITTEN)
        self.pending_units = units
        self.pending_entries = meta & META_ENTRIES_MASK
        return WRITTEN


cdef int write_whole(int fd, const uint8_t *data, size_t length, size_t offset) except -1:
    """Write all of a frame, in as many calls as it takes; raises OSError naming how far it got."""
    cdef size_t done = 0
    cdef ssize_t result
    while done < length:
        with nogil:
            result = pwrite(fd, data + done, length - done, <long>(offset + done))
        if result > 0:
            done += <size_t>result
        elif result == 0 or errno != EINTR:
            code = errno if result < 0 else EIO
            raise OSError(code, f"write of {length} bytes at {offset} stopped after {done}: {os.strerror(code)}")
    return 0
