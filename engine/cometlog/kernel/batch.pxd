"""A batch as FORMAT.md lays it out."""

from libc.stdint cimport uint8_t

cdef extern from *:
    """
    #define prefetch_object(pointer) __builtin_prefetch((const char *)(pointer) + 32)
    """
    void prefetch_object(void *pointer) nogil

cdef enum:
    PREFETCH_DISTANCE = 8


cdef void copy_items(list items, uint8_t *offsets, uint8_t *data) noexcept
cpdef bytes encode_batch(list items)
cpdef bytes as_bytes(entry, Py_ssize_t position)
cpdef list as_list(entries)
cpdef tuple checked_items(entries)
