"""A mapped file whose every access is bounds-checked, for all code off the hot path.

Thread safety: the words may be changed by other processes at any time; each method names its memory order. Closing while
another thread is inside a method is prevented by the GIL, which only ``populate_write``, ``populate_read`` and ``sync`` release:
they pin the mapping as a view would.

Invariants: a mapping never moves and never grows. The caller guarantees that the file backs every byte it touches: the
length of the mapping says nothing about the length of the file.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, EINVAL, ENOSYS, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

import os

from cometlog.kernel.atomics cimport (
    compare_and_swap_seq_cst, fence_seq_cst, fetch_add_relaxed, fetch_and_acq_rel, fetch_or_acq_rel, load_acquire,
    load_acquire_u32, raise_to_at_least, store_release,
)

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int madvise(void *address, size_t length, int advice)
    int msync(void *address, size_t length, int flags)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MS_SYNC
    void *MAP_FAILED

cdef extern from *:
    """
    #ifndef MADV_POPULATE_READ
    #define MADV_POPULATE_READ 22
    #endif
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
    """
    int MADV_POPULATE_READ, MADV_POPULATE_WRITE

cdef size_t HOST_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


cdef class Mapping:
    """``length`` bytes of an open file, shared with every process that maps it.

    ``fd`` may be closed afterwards. Raises OSError when the kernel refuses the mapping.
    """

    def __init__(self, int fd, size_t length, bint writable=False):
        cdef int protection = PROT_READ | PROT_WRITE if writable else PROT_READ
        cdef void *address
        self.close()
        if length == 0:
            raise ValueError("a mapping needs at least 1 byte, got 0")
        address = mmap(NULL, length, protection, MAP_SHARED, fd, 0)
        if address == MAP_FAILED:
            raise OSError(errno, f"mmap of {length} bytes: {os.strerror(errno)}")
        self.base = <uint8_t *>address
        self.length = length
        self.writable = writable

    def __dealloc__(self):
        self.unmap()

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.base == NULL:
            raise ValueError("the mapping is closed")
        if flags & PyBUF_WRITABLE:
            raise BufferError("a mapped log is exported read-only")
        PyBuffer_FillInfo(buffer, self, self.base, self.length, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.unpin()

    cdef void unpin(self) noexcept:
        """Give back one pin; the last one unmaps what was closed meanwhile. An exception may be on its way."""
        self.exports -= 1
        if self.exports == 0 and self.unmap_when_released:
            self.unmap()

    cdef void unmap(self) noexcept:
        if self.base != NULL:
            munmap(self.base, self.length)
            self.base = NULL

    def close(self):
        """Unmap now, or when the last exported view is released. Closing twice is harmless."""
        if self.exports > 0:
            self.unmap_when_released = True
        else:
            self.unmap()

    @property
    def closed(self):
        """True once unmapped."""
        return self.base == NULL

    cdef int check_range(self, size_t offset, size_t length) except -1:
        if self.base == NULL:
            raise ValueError("the mapping is closed")
        if offset > self.length or length > self.length - offset:
            raise IndexError(f"bytes {offset}..{offset + length} lie outside a mapping of {self.length} bytes")
        return 0

    cdef uint64_t *word_at(self, size_t offset) except NULL:
        self.check_range(offset, 8)
        if offset & 7:
            raise ValueError(f"offset {offset} is not a multiple of 8")
        return <uint64_t *>(self.base + offset)

    cdef int check_writable(self) except -1:
        if not self.writable:
            raise ValueError("the mapping is read-only")
        return 0

    def load_acquire(self, size_t offset):
        """Return the u64 at ``offset`` (bytes, multiple of 8)."""
        return load_acquire(self.word_at(offset))

    def load_acquire_u32(self, size_t offset):
        """Return the u32 at ``offset`` (bytes, multiple of 4)."""
        self.check_range(offset, 4)
        return load_acquire_u32(<uint32_t *>(self.base + offset))

    def store_release(self, size_t offset, uint64_t value):
        """Store a u64 at ``offset`` (bytes, multiple of 8)."""
        self.check_writable()
        store_release(self.word_at(offset), value)

    def compare_and_swap(self, size_t offset, uint64_t expected, uint64_t desired):
        """Replace the u64 at ``offset`` if it equals ``expected``; sequentially consistent. True if replaced."""
        self.check_writable()
        return bool(compare_and_swap_seq_cst(self.word_at(offset), expected, desired))

    def set_bits(self, size_t offset, uint64_t bits):
        """Set bits in the u64 at ``offset`` and return the value before; acquire and release."""
        self.check_writable()
        return fetch_or_acq_rel(self.word_at(offset), bits)

    def clear_bits(self, size_t offset, uint64_t bits):
        """Clear bits in the u64 at ``offset`` and return the value before; acquire and release."""
        self.check_writable()
        return fetch_and_acq_rel(self.word_at(offset), ~bits)

    def raise_to_at_least(self, size_t offset, uint64_t value):
        """Raise the u64 at ``offset`` to ``value`` unless it is there already."""
        self.check_writable()
        raise_to_at_least(self.word_at(offset), value)

    def add(self, size_t offset, uint64_t amount):
        """Raise the counter at ``offset`` by ``amount``; no raise of several at once is lost, and none orders anything."""
        self.check_writable()
        fetch_add_relaxed(self.word_at(offset), amount)

    def fence(self):
        """Order everything before against everything after, sequentially consistent."""
        fence_seq_cst()

    def read(self, size_t offset, size_t length):
        """Return ``length`` bytes from ``offset`` as a copy."""
        self.check_range(offset, length)
        return PyBytes_FromStringAndSize(<char *>self.base + offset, length)

    def write(self, size_t offset, const uint8_t[::1] data):
        """Store bytes at ``offset`` by plain stores: only into memory that nobody else reads yet or that a lock guards."""
        self.check_writable()
        self.check_range(offset, data.shape[0])
        if data.shape[0]:
            memcpy(self.base + offset, &data[0], data.shape[0])

    def populate_write(self, size_t offset, size_t length):
        """Fault pages in for writing; raises OSError instead of the SIGBUS a store would be. Releases the GIL."""
        self.check_writable()
        self.populate(offset, length, MADV_POPULATE_WRITE)

    def populate_read(self, size_t offset, size_t length):
        """Fault pages in for reading; raises OSError where the file does not reach that far. Releases the GIL."""
        self.populate(offset, length, MADV_POPULATE_READ)

    cdef int populate(self, size_t offset, size_t length, int advice) except -1:
        cdef size_t start, stop
        cdef uint8_t *address
        cdef int result, error
        self.check_range(offset, length)
        if length == 0:
            return 0
        start = offset & ~(HOST_PAGE_BYTES - 1)
        stop = offset + length
        address = self.base + start
        self.exports += 1
        with nogil:
            result = madvise(address, stop - start, advice)
            while result != 0 and (errno == EAGAIN or errno == EINTR):
                result = madvise(address, stop - start, advice)
            error = errno
        self.unpin()
        if result != 0 and error != EINVAL and error != ENOSYS:
            raise OSError(error, f"populate of bytes {start}..{stop}: {os.strerror(error)}")
        return 0

    def sync(self, size_t offset, size_t length):
        """Have the pages of these bytes, and what finding them needs, on stable storage: fdatasync of a part of the file.

        Raises OSError. Releases the GIL.
        """
        cdef size_t start
        cdef uint8_t *address
        cdef int result, error
        self.check_range(offset, length)
        start = offset & ~(HOST_PAGE_BYTES - 1)
        address = self.base + start
        self.exports += 1
        with nogil:
            result = msync(address, offset + length - start, MS_SYNC)
            while result != 0 and errno == EINTR:
                result = msync(address, offset + length - start, MS_SYNC)
            error = errno
        self.unpin()
        if result != 0:
            raise OSError(error, f"sync of bytes {start}..{offset + length}: {os.strerror(error)}")


cdef Mapping adopt_mapping(uint8_t *address, size_t length):
    """Return a writable Mapping that owns memory mapped elsewhere."""
    cdef Mapping mapping = Mapping.__new__(Mapping)
    mapping.base = address
    mapping.length = length
    mapping.writable = True
    return mapping


cdef uint8_t *surrender_mapping(Mapping mapping, Py_ssize_t pins):
    """Take the memory out of a Mapping, for the caller to unmap, although ``pins`` views of its own are still out.

    NULL while other views are out: then the last of them unmaps it.
    """
    cdef uint8_t *address = mapping.base
    if mapping.exports > pins:
        mapping.close()
        return NULL
    mapping.base = NULL
    return address
