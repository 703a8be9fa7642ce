# cython: binding=False
"""The append of the mmap write path: PROTOCOL steps B1 to B10, in one stretch without a Python call.

Thread safety: the GIL is held from the first step to the last, so one slot serves every thread of this process; ``resolve`` may
release it, and then the slot is IDLE. Other processes are kept apart by the CAS on the tail and on the frame's word.

Invariants: the slot says BUSY before the tail is read and MARKED before the first payload byte is stored; the commit is the last
store into the frame; nothing is stored at or beyond ``backed``; a lost CAS ends a range. Memory orders: ARCHITECTURE.md argues each.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cometlog.errors import BatchTooLargeError
from cometlog.kernel.atomics cimport (
    compare_and_swap_acq_rel, compare_and_swap_seq_cst, fence_release, load_acquire, load_relaxed, load_seq_cst,
    store_relaxed, store_release,
)
from cometlog.kernel.batch cimport (
    PREFETCH_DISTANCE_MEASURE, as_bytes, as_list, copy_items, encode_batch, prefetch_entry, prefetch_next_frame, prefetch_target,
)
from cometlog.kernel.checksum cimport CRC32C_START, crc32c_initialise, crc32c_update, crc32c_finish
from cometlog.kernel.fork_guard cimport GUARD_CLOSED, GUARD_OPEN, ForkGuard
from cometlog.kernel.histogram cimport LatencySampler, begin_sample, is_sample, monotonic_clock_ns
from cometlog.kernel.layout cimport *
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.step cimport *
from cometlog.kernel.waiting cimport wake_waiters
from cometlog.kernel.wall_clock cimport process_clock, sampled_wall_clock_ns

cdef extern from "invariant.h" nogil:
    void invariant(bint condition)

cdef extern from "entry_range.h":
    int entry_range_check() except -1
    object entry_range_new(unsigned long long first, unsigned long long count)

cdef uint64_t SEALED_BIT = <uint64_t>1 << TAIL_SEALED_SHIFT
cdef uint64_t ENTRIES_MAX = 0xFFFFFFFF

crc32c_initialise()
entry_range_check()


@cython.final
cdef class Appender:
    """Appends to one shard through one slot of its control file.

    ``resolve(status)`` is called without any claim held when an attempt could not go on; it arranges what is missing or raises.
    ``compress(payload)`` returns (payload, codec) for batches whose mean entry has ``compress_from_bytes`` or more.
    ``batch_bytes_max``: such a batch fits into an empty segment that ``resolve`` makes, whatever segment is bound now.
    """

    def __init__(self, str stream not None, ForkGuard guard not None, LatencySampler sampler not None, *, object resolve,
                 object compress, size_t compress_from_bytes, size_t batch_bytes_max):
        self.stream = stream
        self.guard = guard
        self.sampler = sampler
        self.remaining = &sampler.remaining
        self.open_word = guard.word
        self.clock = process_clock
        self.resolve = resolve
        self.compress = compress
        self.compress_from_bytes = compress_from_bytes
        self.batch_bytes_max = batch_bytes_max

    def bind_control(self, Mapping control not None):
        """Append under this control file from now on; a slot of it is bound next."""
        control.check_writable()
        control.check_range(0, CONTROL_SIZE_BYTES)
        self.slot = NULL
        self.control = control
        self.active = <uint64_t *>(control.base + CONTROL_ACTIVE)
        self.flags = <uint64_t *>(control.base + CONTROL_FLAGS)

    def bind_slot(self, uint64_t index):
        """Append through slot ``index`` from now on. The caller holds its lock and has made it IDLE (PROTOCOL A2)."""
        if index >= <uint64_t>SLOT_COUNT:
            raise IndexError(f"slot {index} of {SLOT_COUNT}")
        self.slot = self.control.base + CONTROL_SLOTS + index * SLOT_SIZE_BYTES
        self.operation = load_acquire(<uint64_t *>(self.slot + SLOT_STATE)) >> STATE_COUNTER_SHIFT
        self.frame_count = load_relaxed(<uint64_t *>(self.slot + SLOT_FRAMES))
        self.entry_count = load_relaxed(<uint64_t *>(self.slot + SLOT_ENTRIES))
        self.byte_count = load_relaxed(<uint64_t *>(self.slot + SLOT_BYTES))
        self.fenced_count = load_relaxed(<uint64_t *>(self.slot + SLOT_FENCED))
        self.retry_count = load_relaxed(<uint64_t *>(self.slot + SLOT_RETRIES))

    def bind_segment(self, Mapping segment not None, uint64_t number, uint64_t base, uint64_t capacity_units, bytes uuid):
        """Append into this segment from now on."""
        segment.check_writable()
        segment.check_range(0, SEGMENT_HEADER_BYTES + capacity_units * UNIT_BYTES)
        self.segment = segment
        self.tail = <uint64_t *>(segment.base + SEGMENT_TAIL)
        self.backed = <uint64_t *>(segment.base + SEGMENT_BACKED)
        self.frames = segment.base + SEGMENT_HEADER_BYTES
        self.number = number
        self.base = base
        self.capacity = capacity_units
        self.backed_known = 0
        self.seed = crc32c_update(CRC32C_START, PyBytes_AS_STRING(uuid), PyBytes_GET_SIZE(uuid))

    def open(self):
        """Let appends through; ``bind_slot`` and ``bind_segment`` came before."""
        if self.slot == NULL or self.segment is None:
            raise ValueError("an appender needs a slot and a segment before it opens")
        self.sampler.restart(self.frame_count, self.base + tail_entries(load_acquire(self.tail)), self.entry_count)
        store_release(self.open_word, GUARD_OPEN)

    def close(self):
        """Send every further append to ``resolve``."""
        store_release(self.open_word, GUARD_CLOSED)

    @property
    def guard_state(self):
        """Present value of the guard word: 0 closed or forked, 1 open, 2 the helper sleeps."""
        return load_acquire(self.open_word)

    @property
    def batch_bytes_limit(self):
        """Most bytes of a batch, offsets included."""
        return self.batch_bytes_max

    def append(self, entry):
        """Append one entry and return its number."""
        return self.append_one(entry)

    cdef uint64_t append_one(self, entry) except 0xFFFFFFFFFFFFFFFF:
        if not PyBytes_CheckExact(entry):
            entry = as_bytes(entry, 0)
        if <size_t>PyBytes_GET_SIZE(entry) >= self.compress_from_bytes:
            return self.append_compressed([entry])
        if is_sample(self.remaining):
            return self.append_measured(entry)
        return self.append_payload(<const uint8_t *>PyBytes_AS_STRING(entry), PyBytes_GET_SIZE(entry), 1, CODEC_NONE)

    cdef uint64_t append_measured(self, bytes entry) except 0xFFFFFFFFFFFFFFFF:
        cdef uint64_t started_ns = monotonic_clock_ns()
        cdef uint64_t number = self.append_payload(<const uint8_t *>PyBytes_AS_STRING(entry), PyBytes_GET_SIZE(entry), 1, CODEC_NONE)
        self.sampler.record(started_ns, number + 1, self.entry_count)
        return number

    cpdef extend(self, entries):
        """Append a batch that becomes visible as a whole; return the range of its entry numbers."""
        cdef list items = entries if type(entries) is list else as_list(entries)
        cdef Py_ssize_t position, count = PyList_GET_SIZE(items)
        cdef size_t data_bytes = 0
        cdef uint64_t first, started_ns
        cdef bint copied = items is not entries
        cdef uint8_t *target
        cdef void *item
        if count == 0:
            return entry_range_new(self.next_entry(), 0)
        if count > MAX_BATCH_ENTRIES:
            raise BatchTooLargeError(f"a batch has at most {MAX_BATCH_ENTRIES} entries, got {count}")
        target = self.next_frame()
        for position in range(count):
            # Meanwhile both ends of the copy that follows come into the cache.
            if position + PREFETCH_DISTANCE_MEASURE < count:
                prefetch_entry(<void *>PyList_GET_ITEM(items, position + PREFETCH_DISTANCE_MEASURE))
            if target != NULL:
                prefetch_target(target + data_bytes)
            # Borrowed: a reference of its own would be two stores into each object.
            item = <void *>PyList_GET_ITEM(items, position)
            if not PyBytes_CheckExact(<object>item):
                if not copied:
                    items = list(items)
                    copied = True
                items[position] = as_bytes(items[position], position)
                item = <void *>PyList_GET_ITEM(items, position)
            data_bytes += PyBytes_GET_SIZE(<object>item)
        if count == 1:
            first = self.append_one(items[0])
        elif data_bytes >= self.compress_from_bytes * <size_t>count:
            first = self.append_compressed(items)
        else:
            started_ns = begin_sample(self.remaining)
            first = self.append_items(items, data_bytes)
            if started_ns:
                self.sampler.record(started_ns, first + <uint64_t>count, self.entry_count)
        return entry_range_new(first, count)

    cdef uint8_t *next_frame(self) noexcept nogil:
        """Where the next frame will lie, or NULL where nobody can say: appends are not let through, or others append as well."""
        # Only the active segment is known to be mapped, in `claim` as well.
        if load_acquire(self.open_word) == GUARD_OPEN and load_acquire(self.active) == self.number:
            if tail_units(load_relaxed(self.tail)) == self.own_end:
                return self.frames + self.own_end * UNIT_BYTES
        return NULL

    def append_compressed(self, list items not None):
        """Append a batch whose mean entry is large enough to try compression; return its first number."""
        # The list may be the caller's, and other threads run while it is compressed: the count is that of the batch.
        cdef Py_ssize_t count = PyList_GET_SIZE(items)
        cdef uint64_t started_ns = begin_sample(self.remaining)
        cdef bytes batch = encode_batch(items)
        cdef bytes payload
        cdef uint64_t number
        cdef int codec
        self.check_batch_bytes(PyBytes_GET_SIZE(batch))
        payload, codec = self.compress(batch)
        number = self.append_payload(
            <const uint8_t *>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), count, codec
        )
        if started_ns:
            self.sampler.record(started_ns, number + <uint64_t>count, self.entry_count)
        return number

    def next_entry(self):
        """Return the number that the next entry gets if nobody else appends first."""
        if load_acquire(self.open_word) != GUARD_OPEN or load_acquire(self.active) != self.number:
            self.resolve(NOT_OPEN if load_acquire(self.open_word) != GUARD_OPEN else STALE)
        return self.base + tail_entries(load_acquire(self.tail))

    def check_batch_bytes(self, size_t length):
        """Raise BatchTooLargeError when a batch of ``length`` bytes does not fit the limits of this shard."""
        if length > self.batch_bytes_max:
            raise BatchTooLargeError(
                f"a batch for {self.stream} has at most {self.batch_bytes_max} bytes with its offsets, got {length}"
            )

    cdef void set_idle(self) noexcept nogil:
        store_release(<uint64_t *>(self.slot + SLOT_STATE), (self.operation << STATE_COUNTER_SHIFT) | STATE_IDLE)

    cdef int claim(self, uint64_t units, uint64_t entries, uint64_t *claimed) noexcept nogil:
        """Steps B2 to B7. On APPENDED ``claimed`` is the tail word before the claim, and the slot is MARKED."""
        cdef uint64_t tail, needed
        cdef uint64_t *state = <uint64_t *>(self.slot + SLOT_STATE)
        if load_acquire(self.active) != self.number:
            return STALE
        self.operation += 1
        store_relaxed(<uint64_t *>(self.slot + SLOT_SEGMENT), self.number)
        store_release(state, (self.operation << STATE_COUNTER_SHIFT) | STATE_BUSY)
        step(STEP_BUSY)
        while True:
            tail = load_acquire(self.tail)
            if tail & SEALED_BIT:
                self.set_idle()
                return SEALED
            needed = tail_units(tail) + units
            if needed > self.capacity or entries + tail_entries(tail) > ENTRIES_MAX:
                if compare_and_swap_acq_rel(self.tail, tail, tail | SEALED_BIT):
                    step(STEP_SEALED)
                    self.set_idle()
                    return SEALED
                continue
            if needed > self.backed_known:
                self.backed_known = load_acquire(self.backed)
                if needed > self.backed_known:
                    self.set_idle()
                    self.needed_units = needed
                    return UNBACKED
            # acq_rel: orders the BUSY store before the claim for whoever reads the new tail (PROTOCOL D1, D3).
            if compare_and_swap_acq_rel(self.tail, tail, tail + (entries << TAIL_ENTRIES_SHIFT) + units):
                break
            self.retry_count += 1
            store_relaxed(<uint64_t *>(self.slot + SLOT_RETRIES), self.retry_count)
        self.is_alone = tail_units(tail) == self.own_end
        self.own_end = needed
        step(STEP_ALLOCATED)
        invariant(needed <= self.capacity and needed <= load_acquire(self.backed))
        if not compare_and_swap_acq_rel(
            <uint64_t *>(self.frames + tail_units(tail) * UNIT_BYTES), 0,
            make_word(tail_entries(tail), KIND_CLAIMED, units),
        ):
            self.set_idle()
            return FENCED
        step(STEP_CLAIMED)
        store_relaxed(<uint64_t *>(self.slot + SLOT_CLAIM), tail_units(tail))
        store_release(state, (self.operation << STATE_COUNTER_SHIFT) | STATE_MARKED)
        # The marker precedes every payload byte: a repairer that sees a byte of this claim sees a non-zero word.
        fence_release()
        step(STEP_MARKED)
        claimed[0] = tail
        return APPENDED

    cdef int commit(
        self, uint64_t claimed, uint64_t units, uint64_t meta, uint64_t timestamp, uint32_t state
    ) noexcept nogil:
        """Steps B8 (the header) to B10. ``state`` is the checksum state after uuid and payload."""
        cdef uint64_t unit = tail_units(claimed)
        cdef uint8_t *frame = self.frames + unit * UNIT_BYTES
        cdef uint64_t trailer[4]
        step(STEP_COPIED)
        invariant(unit + units <= self.capacity and (meta & META_ENTRIES_MASK) != 0)
        invariant(load_acquire(<uint64_t *>(self.slot + SLOT_STATE)) & STATE_MASK == STATE_MARKED)
        trailer[0] = unit
        trailer[1] = make_word(tail_entries(claimed), KIND_DATA, units)
        trailer[2] = timestamp
        trailer[3] = meta
        state = crc32c_finish(crc32c_update(state, trailer, 28))
        (<uint64_t *>(frame + FRAME_CHECKSUM))[0] = state | (meta << 32)
        (<uint64_t *>(frame + FRAME_TIMESTAMP))[0] = timestamp
        if self.is_alone:
            prefetch_next_frame(frame + units * UNIT_BYTES)
        step(STEP_FINISHED)
        # seq_cst: the commit is the last store into the frame, and it precedes the load of the waiting flag below.
        if not compare_and_swap_seq_cst(
            <uint64_t *>frame, make_word(tail_entries(claimed), KIND_CLAIMED, units), trailer[1]
        ):
            self.set_idle()
            return FENCED
        step(STEP_COMMITTED)
        self.frame_count += 1
        self.entry_count += meta & META_ENTRIES_MASK
        self.byte_count += units * UNIT_BYTES
        store_relaxed(<uint64_t *>(self.slot + SLOT_FRAMES), self.frame_count)
        store_relaxed(<uint64_t *>(self.slot + SLOT_ENTRIES), self.entry_count)
        store_relaxed(<uint64_t *>(self.slot + SLOT_BYTES), self.byte_count)
        self.set_idle()
        step(STEP_IDLE)
        return APPENDED

    cdef int try_payload(
        self, const uint8_t *data, size_t length, uint64_t entries, uint64_t codec, uint64_t *claimed
    ) noexcept nogil:
        cdef uint64_t units = (FRAME_HEADER_BYTES + length + UNIT_BYTES - 1) // UNIT_BYTES
        cdef uint64_t pad = units * UNIT_BYTES - FRAME_HEADER_BYTES - length
        cdef uint64_t meta = entries | (codec << META_CODEC_SHIFT) | (pad << META_PAD_SHIFT)
        cdef uint64_t timestamp
        cdef uint32_t state
        cdef int status
        if load_acquire(self.open_word) != GUARD_OPEN:
            return NOT_OPEN
        timestamp = sampled_wall_clock_ns(self.clock)
        state = crc32c_update(self.seed, data, length)
        status = self.claim(units, entries, claimed)
        if status != APPENDED:
            return status
        memcpy(self.frames + tail_units(claimed[0]) * UNIT_BYTES + FRAME_PAYLOAD, data, length)
        return self.commit(claimed[0], units, meta, timestamp, state)

    cdef uint64_t append_payload(
        self, const uint8_t *data, size_t length, uint64_t entries, uint64_t codec
    ) except 0xFFFFFFFFFFFFFFFF:
        cdef uint64_t claimed = 0
        cdef int fences = 0
        cdef int status
        if length > self.batch_bytes_max:
            self.check_batch_bytes(length)
        while True:
            status = self.try_payload(data, length, entries, codec, &claimed)
            if status == APPENDED and load_seq_cst(self.flags) == 0:
                return self.base + tail_entries(claimed)
            if self.unblock(status, &fences):
                return self.base + tail_entries(claimed)

    cdef uint64_t append_items(self, list items, size_t data_bytes) except 0xFFFFFFFFFFFFFFFF:
        """Append two or more bytes objects, copied one by one into the map."""
        cdef uint64_t count = PyList_GET_SIZE(items)
        cdef size_t offsets_bytes = 4 * (count + 1)
        cdef size_t length = offsets_bytes + data_bytes
        cdef uint64_t units = (FRAME_HEADER_BYTES + length + UNIT_BYTES - 1) // UNIT_BYTES
        cdef uint64_t pad = units * UNIT_BYTES - FRAME_HEADER_BYTES - length
        cdef uint64_t meta = count | (pad << META_PAD_SHIFT)
        cdef uint64_t claimed = 0, timestamp
        cdef uint8_t *payload
        cdef bint kept = False
        cdef int fences = 0
        cdef int status
        if length > self.batch_bytes_max:
            self.check_batch_bytes(length)
        while True:
            if load_acquire(self.open_word) != GUARD_OPEN:
                status = NOT_OPEN
            else:
                timestamp = sampled_wall_clock_ns(self.clock)
                status = self.claim(units, count, &claimed)
            if status == APPENDED:
                payload = self.frames + tail_units(claimed) * UNIT_BYTES + FRAME_PAYLOAD
                copy_items(items, payload, payload + offsets_bytes)
                # The checksum runs over the copy, which the CPU's cache still holds, in lanes instead of piece by piece.
                status = self.commit(claimed, units, meta, timestamp, crc32c_update(self.seed, payload, length))
            if status == APPENDED and load_seq_cst(self.flags) == 0:
                return self.base + tail_entries(claimed)
            if status != APPENDED and not kept:
                # `resolve` lets other threads run, and the list may be theirs to change: what was measured stays.
                items = list(items)
                kept = True
            if self.unblock(status, &fences):
                return self.base + tail_entries(claimed)

    cdef int unblock(self, int status, int *fences) except -1:
        """Do what keeps an attempt from ending; 1 when the entry is appended and acknowledged, 0 to try again."""
        if status == FENCED:
            self.fenced_count += 1
            store_relaxed(<uint64_t *>(self.slot + SLOT_FENCED), self.fenced_count)
            fences[0] += 1
            if fences[0] < FENCES_MAX:
                return 0
        if status != APPENDED:
            self.resolve(status)
            return 0
        if load_acquire(self.flags) & FLAG_POISONED:
            self.close()
            self.resolve(NOT_OPEN)
        wake_waiters(self.control.base)
        return 1
