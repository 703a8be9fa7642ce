"""CRC32C (Castagnoli) of bytes-like objects, by the implementation the kernel selected for this CPU."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.number cimport PyNumber_Index
from libc.stdint cimport uint32_t, uint64_t

__all__ = ["available", "crc32c", "crc32c_frame", "implementation", "use"]

cdef object CHECKSUM_MAX = 0xFFFFFFFF

crc32c_initialise()


def crc32c(data, state=0):
    """Return the CRC32C of ``data``, an integer of 32 bits, as RFC 3720 defines it.

    ``data`` is any object with a contiguous buffer; TypeError or BufferError otherwise. ``state`` is the
    CRC32C of the bytes that go before, so that ``crc32c(b, crc32c(a)) == crc32c(a + b)``; TypeError unless
    it is an integer, ValueError outside 0..2**32-1.
    """
    cdef Py_buffer view
    cdef uint32_t raw
    state = PyNumber_Index(state)
    if not 0 <= state <= CHECKSUM_MAX:
        raise ValueError(f"state must be 0..{CHECKSUM_MAX}, got {state}")
    raw = ~<uint32_t>state
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    raw = crc32c_update(raw, view.buf, <size_t>view.len)
    PyBuffer_Release(&view)
    return crc32c_finish(raw)


def crc32c_frame(data, uint64_t unit, uint64_t word, uint64_t timestamp_ns, uint32_t meta):
    """Return the CRC32C of ``data`` and the four fields of a frame behind it, little-endian, as a walk takes it: at once."""
    cdef Py_buffer view
    cdef uint32_t raw
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    raw = crc32c_update_frame(CRC32C_START, view.buf, <size_t>view.len, unit, word, timestamp_ns, meta)
    PyBuffer_Release(&view)
    return crc32c_finish(raw)


def implementation():
    """Return the name of the implementation in use by this module, one of ``available()``."""
    return crc32c_implementation().decode("ascii")


def available():
    """Return the names of the implementations this CPU can run, fastest first, ``table`` last."""
    cdef size_t index = 0
    names = []
    while crc32c_available(index) != NULL:
        names.append(crc32c_available(index).decode("ascii"))
        index += 1
    return tuple(names)


def use(str name not None):
    """Select an implementation of this module by name, for tests and benchmarks.

    ValueError, with nothing changed, unless the name is one of ``available()``. The other modules of the
    kernel hold their own copy and keep what they chose.
    """
    if crc32c_force(name.encode()) != 0:
        raise ValueError(f"implementation must be one of {available()}, got {name!r}")
