"""A mapped file whose every access is bounds-checked, for all code off the hot path."""

from libc.stdint cimport uint8_t, uint64_t


cdef class Mapping:
    cdef uint8_t *base
    cdef readonly size_t length
    cdef readonly bint writable
    cdef Py_ssize_t exports
    cdef bint unmap_when_released

    cdef uint64_t *word_at(self, size_t offset) except NULL
    cdef int check_range(self, size_t offset, size_t length) except -1
    cdef int check_writable(self) except -1
    cdef int populate(self, size_t offset, size_t length, int advice) except -1
    cdef void unpin(self) noexcept
    cdef void unmap(self) noexcept


cdef Mapping adopt_mapping(uint8_t *address, size_t length)
cdef uint8_t *surrender_mapping(Mapping mapping, Py_ssize_t pins)
