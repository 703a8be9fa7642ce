"""Cutting the payload of collected frames into entries, by copy or as views into the map.

Thread safety: the functions read what a Frames object pins and hold the GIL. Invariants: offsets are
validated whole before an entry is cut, and each is loaded once and checked again where it is used, so that
even bytes that change underneath lead nowhere outside the payload.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.list cimport PyList_GET_ITEM, PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from cometlog.kernel.layout cimport CODEC_NONE, FRAME_PAYLOAD, SEGMENT_HEADER_BYTES, UNIT_BYTES
from cometlog.kernel.scan cimport Frame, Frames

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(void *tracked)

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

    #include "arena_anchor.h"

    /* Puts a copy of some bytes into a new list, whose places are empty. */
    static inline int put_bytes(PyObject *entries, Py_ssize_t position, const uint8_t *start, size_t length)
    {
        PyObject *item = PyBytes_FromStringAndSize((const char *)start, (Py_ssize_t)length);
        if (item == NULL)
            return -1;
        PyList_SET_ITEM(entries, position, item);
        arena_anchor_count(sizeof(PyBytesObject) + length);
        return 0;
    }

    /* Fetches what a loop over frames copies a little later: about one line log. No address faults here. */
    #define PREFETCH_FRAMES 8
    static inline void prefetch_payload(const uint8_t *payload)
    {
        __builtin_prefetch(payload);
        __builtin_prefetch(payload + 64);
    }

    /* What tuple.__new__(kind, values) does, without the look-ups that it makes each time; `kind` is a subclass of tuple. */
    static inline PyObject *named_tuple(PyObject *kind, PyObject *values)
    {
        PyObject *arguments = PyTuple_Pack(1, values);
        PyObject *made = arguments ? PyTuple_Type.tp_new((PyTypeObject *)kind, arguments, NULL) : NULL;
        Py_XDECREF(arguments);
        return made;
    }
    """
    enum: PREFETCH_FRAMES
    int put_bytes(list entries, Py_ssize_t position, const uint8_t *start, size_t length) except -1
    void prefetch_payload(const uint8_t *payload) nogil
    object named_tuple(object kind, object values)
    int32_t load_offset(const void *offsets, size_t position) nogil
    bint offsets_are_valid(const void *offsets, size_t entries, size_t data_bytes) nogil


class DamagedBatchError(ValueError):
    """A payload with a true checksum is no batch: ``unit`` of the frame, ``index`` of its first entry."""

    def __init__(self, what, unit, index):
        super().__init__(what)
        self.unit = unit
        self.index = index


cdef inline const uint8_t *payload_of(Frames frames, Frame *frame) noexcept:
    return <const uint8_t *>frames.view.buf + SEGMENT_HEADER_BYTES + <size_t>frame.unit * UNIT_BYTES + FRAME_PAYLOAD


cdef int check_offsets(const uint8_t *payload, size_t length, Frame *frame) except -1:
    cdef size_t offsets_bytes = 4 * (<size_t>frame.entries + 1)
    if length < offsets_bytes or not offsets_are_valid(payload, frame.entries, length - offsets_bytes):
        raise DamagedBatchError(
            f"offsets of {frame.entries} entries in {length} bytes do not start at 0, fall, or miss the end",
            frame.unit, frame.first_index,
        )
    return 0


cdef inline int cut(
    list entries, Py_ssize_t position, const uint8_t *payload, size_t length, Frame *frame
) except -1:
    """Put copies of the taken entries of one batch into ``entries`` from ``position`` on."""
    cdef size_t data_bytes, entry
    cdef int32_t start, stop
    cdef const uint8_t *data
    if frame.entries == 1:
        put_bytes(entries, position, payload, length)
        return 0
    check_offsets(payload, length, frame)
    data_bytes = length - 4 * (<size_t>frame.entries + 1)
    data = payload + (length - data_bytes)
    start = load_offset(payload, frame.skip)
    for entry in range(frame.skip, frame.skip + frame.take):
        stop = load_offset(payload, entry + 1)
        if start < 0 or start > stop or <size_t>stop > data_bytes:
            raise DamagedBatchError("offsets changed while they were read", frame.unit, frame.first_index)
        put_bytes(entries, position, data + start, stop - start)
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
        if number + PREFETCH_FRAMES < stop:
            prefetch_payload(payload_of(frames, frame + PREFETCH_FRAMES))
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


def spans(Frames frames not None, inflate):
    """Return the entries taken as tuples (data, starts, stops) without a copy: entry ``i`` is ``data[starts[i]:stops[i]]``.

    One tuple for each stretch of frames that are not compressed, and one for each that is. ``data`` is a read-only view that pins the
    map, or what a compressed payload was decompressed into; ``starts`` and ``stops`` are int64.
    """
    cdef list found = []
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t stop, low, high
    cdef uint64_t total
    mapped = memoryview(frames.mapping)
    while first < frames.count:
        total = frames.items[first].take
        stop = first + 1
        if frames.items[first].codec == CODEC_NONE:
            while stop < frames.count and frames.items[stop].codec == CODEC_NONE:
                total += frames.items[stop].take
                stop += 1
            low = payload_of(frames, &frames.items[first]) - <const uint8_t *>frames.view.buf
            high = payload_of(frames, &frames.items[stop - 1]) - <const uint8_t *>frames.view.buf
            data = mapped[low:high + <Py_ssize_t>frames.items[stop - 1].payload_bytes]
        else:
            data = memoryview(inflated(frames, &frames.items[first], inflate))
        starts = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t>(8 * total))
        stops = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t>(8 * total))
        measure_between(frames, first, stop, data, starts, stops)
        found.append((data, memoryview(starts).cast("q"), memoryview(stops).cast("q")))
        first = stop
    return found


cdef int measure_between(
    Frames frames, Py_ssize_t first, Py_ssize_t stop, data, bytearray starts, bytearray stops
) except -1:
    """Store where in ``data`` each entry taken of the frames ``first`` to ``stop - 1`` begins and ends."""
    cdef Py_buffer whole
    cdef Py_ssize_t number
    cdef int64_t begin
    cdef int64_t *start_places = <int64_t *>PyByteArray_AS_STRING(starts)
    cdef int64_t *stop_places = <int64_t *>PyByteArray_AS_STRING(stops)
    cdef size_t length
    cdef Frame *frame
    cdef uint32_t first_unit = frames.items[first].unit
    PyObject_GetBuffer(data, &whole, PyBUF_SIMPLE)
    try:
        for number in range(first, stop):
            frame = &frames.items[number]
            begin = <int64_t>(frame.unit - first_unit) * UNIT_BYTES
            length = frame.payload_bytes if frame.codec == CODEC_NONE else <size_t>whole.len
            if frame.entries == 1:
                start_places[0] = begin
                stop_places[0] = begin + <int64_t>length
            else:
                measure(<const uint8_t *>whole.buf + begin, length, frame, begin, start_places, stop_places)
            start_places += frame.take
            stop_places += frame.take
    finally:
        PyBuffer_Release(&whole)
    return 0


cdef int measure(
    const uint8_t *payload, size_t length, Frame *frame, int64_t begin, int64_t *starts, int64_t *stops
) except -1:
    """Store the bounds of the taken entries of a batch of several, whose payload lies ``begin`` bytes behind their origin."""
    cdef size_t offsets_bytes = 4 * (<size_t>frame.entries + 1)
    cdef size_t position
    cdef int32_t start, stop
    check_offsets(payload, length, frame)
    begin += offsets_bytes
    start = load_offset(payload, frame.skip)
    for position in range(frame.take):
        stop = load_offset(payload, frame.skip + position + 1)
        if start < 0 or start > stop or <size_t>stop > length - offsets_bytes:
            raise DamagedBatchError("offsets changed while they were read", frame.unit, frame.first_index)
        starts[position] = begin + start
        stops[position] = begin + stop
        start = stop
    return 0


def entries_of(kind, str stream not None, Frames frames not None, Py_ssize_t first, Py_ssize_t stop, list payloads not None):
    """Return ``kind(stream, number, timestamp_ns, payload)`` for each entry taken of the frames ``first`` to ``stop - 1``, as a list.

    ``kind`` is a named tuple of these four. ``payloads`` are the entries' bytes.
    """
    cdef list found = PyList_New(len(payloads))
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t number
    cdef uint64_t entry
    cdef Frame *frame
    if not issubclass(kind, tuple):
        raise TypeError(f"entries are made as named tuples, got {kind!r}")
    if not 0 <= first <= stop <= frames.count:
        raise IndexError(f"frames {first} to {stop} of {frames.count}")
    for number in range(first, stop):
        frame = &frames.items[number]
        if position + <Py_ssize_t>frame.take > len(payloads):
            raise IndexError(f"{len(payloads)} payloads for more entries than that")
        timestamp_ns = frame.timestamp_ns
        entry = frames.base + frame.first_index + frame.skip
        for entry in range(entry, entry + frame.take):
            made = named_tuple(kind, (stream, entry, timestamp_ns, <object>PyList_GET_ITEM(payloads, position)))
            # Text, numbers and bytes make no cycle, and many tracked objects make the collector look at them again and again.
            PyObject_GC_UnTrack(<void *>made)
            Py_INCREF(made)
            PyList_SET_ITEM(found, position, made)
            position += 1
    if position != len(payloads):
        raise IndexError(f"{len(payloads)} payloads for {position} entries")
    return found


def numbers(Frames frames not None):
    """Return the entry numbers of the entries taken, ascending: a view of uint64, shape (entries,)."""
    cdef bytearray found = bytearray(8 * frames.entries)
    cdef uint64_t *following = <uint64_t *>PyByteArray_AS_STRING(found)
    cdef Py_ssize_t number
    cdef uint64_t first
    cdef uint32_t position
    for number in range(frames.count):
        first = frames.base + frames.items[number].first_index + frames.items[number].skip
        for position in range(frames.items[number].take):
            following[position] = first + position
        following += frames.items[number].take
    return memoryview(found).cast("Q")


def timestamps(Frames frames not None):
    """Return the timestamp of each entry taken, ns since 1970: a view of uint64, shape (entries,)."""
    cdef bytearray found = bytearray(8 * frames.entries)
    cdef uint64_t *following = <uint64_t *>PyByteArray_AS_STRING(found)
    cdef Py_ssize_t number
    cdef uint32_t position
    for number in range(frames.count):
        for position in range(frames.items[number].take):
            following[position] = frames.items[number].timestamp_ns
        following += frames.items[number].take
    return memoryview(found).cast("Q")
