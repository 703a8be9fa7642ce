"""A batch as FORMAT.md lays it out: one entry's bytes, or Arrow offsets and the bytes of several."""

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport uint8_t

from cometlog.errors import BatchTooLargeError, EntryTypeError
from cometlog.kernel.layout cimport MAX_BATCH_BYTES

cdef extern from "copy_entries.h":
    void copy_entries(object items, uint8_t *offsets, uint8_t *data) noexcept
    void copy_entries_choose(bint portable) noexcept

copy_entries_choose(False)


def choose_portable_copy(bint portable):
    """Copy entries as on a CPU without AVX2, or as fast as this one can: for tests."""
    copy_entries_choose(portable)


cdef void copy_items(list items, uint8_t *offsets, uint8_t *data) noexcept:
    """Write Arrow offsets and then the bytes of every item; the caller knows that they are bytes and fit."""
    copy_entries(items, offsets, data)


cpdef bytes encode_batch(list items):
    """Return the batch of FORMAT.md for a list of bytes: the bytes of one entry, or offsets and bytes of several."""
    cdef Py_ssize_t count = PyList_GET_SIZE(items)
    cdef size_t data_bytes = 0
    cdef bytearray batch
    cdef uint8_t *start
    for item in items:
        if not PyBytes_CheckExact(item):
            raise EntryTypeError(f"an entry is bytes, got {type(item).__name__}")
        data_bytes += PyBytes_GET_SIZE(item)
    if count == 1:
        return items[0]
    if data_bytes > MAX_BATCH_BYTES:
        raise BatchTooLargeError(f"a batch has at most {MAX_BATCH_BYTES} bytes, got {data_bytes}")
    batch = bytearray(4 * (count + 1) + data_bytes)
    start = <uint8_t *>batch
    copy_items(items, start, start + 4 * (count + 1))
    return bytes(batch)


cpdef list as_list(entries):
    """Return the entries of a batch as a new list; raises EntryTypeError for what cannot be iterated."""
    try:
        iterator = iter(entries)
    except TypeError:
        raise EntryTypeError(f"a batch is an iterable of bytes, got {type(entries).__name__}") from None
    return list(iterator)


cpdef bytes as_bytes(entry, Py_ssize_t position):
    """Return a bytes-like entry as bytes; raises EntryTypeError naming its place in the batch."""
    if isinstance(entry, (bytes, bytearray, memoryview)):
        return bytes(entry)
    raise EntryTypeError(f"entry {position} of the batch is {type(entry).__name__}; entries are bytes")


cpdef tuple checked_items(entries):
    """Return the batch as a list of its own and its bytes in all; raises EntryTypeError naming the place of what is not bytes."""
    cdef list items = as_list(entries)
    cdef Py_ssize_t position
    cdef size_t data_bytes = 0
    cdef object item
    for position in range(PyList_GET_SIZE(items)):
        item = items[position]
        if not PyBytes_CheckExact(item):
            item = items[position] = as_bytes(item, position)
        data_bytes += PyBytes_GET_SIZE(item)
    return items, data_bytes
