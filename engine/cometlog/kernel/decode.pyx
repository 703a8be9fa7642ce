"""Cutting the payload of collected frames into entries, by copy or as views into the map.

Thread safety: the functions read what a Frames object pins and hold the GIL. Invariants: offsets are
validated whole before an entry is cut, and each is loaded once and checked again where it is used, so that
even bytes that change underneath lead nowhere outside the payload.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int32_t, uint8_t, uint64_t

from cometlog.kernel.layout cimport CODEC_NONE, FRAME_PAYLOAD, SEGMENT_HEADER_BYTES, UNIT_BYTES
from cometlog.kernel.scan cimport Frame, Frames

cdef extern from *:
    """
    static inline int32_t load_offset(const void *offsets, size_t position)
    {
        return __atomic_load_n((const int32_t *)offsets + position, __ATOMIC_RELAXED);
    }

    static inline int offsets_are_valid(const void *offsets, size_t entries, size_t data_bytes)
    {
        const int32_t *values = offsets;
        int falls = 0;
        for (size_t position = 0; position < entries; position++)
            falls |= values[position] > values[position + 1];
        return !falls && values[0] == 0 && (size_t)values[entries] == data_bytes;
    }
    """
    int32_t load_offset(const void *offsets, size_t position) nogil
    bint offsets_are_valid(const void *offsets, size_t entries, size_t data_bytes) nogil


class DamagedBatchError(ValueError):
    """A payload with a true checksum is no batch: ``unit`` of the frame, ``index`` of its first entry."""

    def __init__(self, what, unit, index):
        super().__init__(what)
        self.unit = unit
        self.index = index


cdef inline const uint8_t *payload_of(Frames frames, Frame *frame) noexcept:
    return <const uint8_t *>frames.view.buf + SEGMENT_HEADER_BYTES + frame.unit * UNIT_BYTES + FRAME_PAYLOAD


cdef int check_offsets(const uint8_t *payload, size_t length, Frame *frame) except -1:
    cdef size_t offsets_bytes = 4 * (<size_t>frame.entries + 1)
    if length < offsets_bytes or not offsets_are_valid(payload, frame.entries, length - offsets_bytes):
        raise DamagedBatchError(
            f"offsets of {frame.entries} entries in {length} bytes do not start at 0, fall, or miss the end",
            frame.unit, frame.first_index,
        )
    return 0


cdef int cut(
    list entries, Py_ssize_t position, const uint8_t *payload, size_t length, Frame *frame
) except -1:
    """Put copies of the taken entries of one batch into ``entries`` from ``position`` on."""
    cdef size_t data_bytes, entry
    cdef int32_t start, stop
    cdef const char *data
    cdef bytes item
    if frame.entries == 1:
        item = PyBytes_FromStringAndSize(<const char *>payload, length)
        Py_INCREF(item)
        PyList_SET_ITEM(entries, position, item)
        return 0
    check_offsets(payload, length, frame)
    data_bytes = length - 4 * (<size_t>frame.entries + 1)
    data = <const char *>payload + (length - data_bytes)
    start = load_offset(payload, frame.skip)
    for entry in range(frame.skip, frame.skip + frame.take):
        stop = load_offset(payload, entry + 1)
        if start < 0 or start > stop or <size_t>stop > data_bytes:
            raise DamagedBatchError("offsets changed while they were read", frame.unit, frame.first_index)
        item = PyBytes_FromStringAndSize(data + start, stop - start)
        Py_INCREF(item)
        PyList_SET_ITEM(entries, position, item)
        position += 1
        start = stop
    return 0


cdef object inflated(Frames frames, Frame *frame, inflate):
    """Return a frame's payload uncompressed; ``inflate(view, codec)`` raises ValueError for damage."""
    cdef Py_ssize_t start = payload_of(frames, frame) - <const uint8_t *>frames.view.buf
    try:
        return inflate(memoryview(frames.mapping)[start:start + frame.payload_bytes], frame.codec)
    except ValueError as error:
        raise DamagedBatchError(str(error), frame.unit, frame.first_index) from error


cdef list payloads_between(Frames frames, Py_ssize_t first, Py_ssize_t stop, uint64_t total, inflate):
    """Return the ``total`` entries taken of the frames ``first`` to ``stop - 1``, as a list of bytes in order."""
    cdef list entries = PyList_New(<Py_ssize_t>total)
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t number
    cdef Frame *frame
    cdef Py_buffer whole
    for number in range(first, stop):
        frame = &frames.items[number]
        if frame.codec == CODEC_NONE:
            cut(entries, position, payload_of(frames, frame), frame.payload_bytes, frame)
        else:
            PyObject_GetBuffer(inflated(frames, frame, inflate), &whole, PyBUF_SIMPLE)
            try:
                cut(entries, position, <const uint8_t *>whole.buf, whole.len, frame)
            finally:
                PyBuffer_Release(&whole)
        position += frame.take
    return entries


def payloads(Frames frames not None, inflate):
    """Return the entries taken, as a list of bytes in order."""
    return payloads_between(frames, 0, frames.count, frames.entries, inflate)


def payloads_from(Frames frames not None, Py_ssize_t first, inflate):
    """Return (entries, next frame) of the frames from ``first`` on, up to and with the first compressed one.

    A few bytes may hold 128 MiB, so whoever goes through many frames has one of those in memory at a time.
    """
    cdef uint64_t total = 0
    cdef Py_ssize_t stop = first
    if first < 0:
        raise IndexError(f"a frame has a number from 0 on, got {first}")
    while stop < frames.count:
        total += frames.items[stop].take
        stop += 1
        if frames.items[stop - 1].codec != CODEC_NONE:
            break
    return payloads_between(frames, first, stop, total, inflate), stop


def check(Frames frames not None, inflate):
    """Raise DamagedBatchError at the first frame whose payload is not the batch that the frame states."""
    cdef Py_ssize_t number
    cdef Frame *frame
    cdef Py_buffer whole
    for number in range(frames.count):
        frame = &frames.items[number]
        if frame.codec != CODEC_NONE:
            PyObject_GetBuffer(inflated(frames, frame, inflate), &whole, PyBUF_SIMPLE)
            try:
                if frame.entries > 1:
                    check_offsets(<const uint8_t *>whole.buf, whole.len, frame)
            finally:
                PyBuffer_Release(&whole)
        elif frame.entries > 1:
            check_offsets(payload_of(frames, frame), frame.payload_bytes, frame)


def batches(Frames frames not None, inflate):
    """Return one tuple (first number, skip, take, entries, timestamp_ns, offsets, data) for each frame,
    without a copy.

    ``data`` holds the bytes of the whole batch; ``offsets`` its ``entries + 1`` bounds (int32), or None for a
    single entry. Both are read-only views that pin the map, or what a compressed payload was decompressed
    into.
    """
    cdef list found = []
    cdef Py_ssize_t number, start, offsets_bytes
    cdef Frame *frame
    cdef Py_buffer whole
    mapped = memoryview(frames.mapping)
    for number in range(frames.count):
        frame = &frames.items[number]
        if frame.codec == CODEC_NONE:
            start = payload_of(frames, frame) - <const uint8_t *>frames.view.buf
            payload = mapped[start:start + frame.payload_bytes]
        else:
            payload = memoryview(inflated(frames, frame, inflate))
        offsets = None
        if frame.entries > 1:
            PyObject_GetBuffer(payload, &whole, PyBUF_SIMPLE)
            try:
                check_offsets(<const uint8_t *>whole.buf, whole.len, frame)
            finally:
                PyBuffer_Release(&whole)
            offsets_bytes = 4 * (<Py_ssize_t>frame.entries + 1)
            offsets = payload[:offsets_bytes].cast("i")
            payload = payload[offsets_bytes:]
        found.append((
            frames.base + frame.first_index + frame.skip, frame.skip, frame.take, frame.entries,
            frame.timestamp_ns, offsets, payload,
        ))
    return found


def numbers(Frames frames not None):
    """Return the entry numbers of the entries taken, ascending."""
    cdef list found = []
    cdef Py_ssize_t number
    cdef uint64_t first, entry
    for number in range(frames.count):
        first = frames.base + frames.items[number].first_index + frames.items[number].skip
        for entry in range(first, first + frames.items[number].take):
            found.append(entry)
    return found


def timestamps(Frames frames not None):
    """Return the timestamp of each entry taken, ns since 1970."""
    cdef list found = []
    cdef Py_ssize_t number
    for number in range(frames.count):
        found.extend([frames.items[number].timestamp_ns] * frames.items[number].take)
    return found
