"""What a forked child must not inherit: handles that could append, and descriptors that hold locks.

An open-file-description lock lives as long as any descriptor of its description, in any process. A child that kept the
parent's descriptor would keep a dead parent looking alive, so the child closes them before ``fork`` returns to it, also when C
code forked. The guard word lies on a page that the kernel zeroes in the child (MADV_WIPEONFORK), which covers children made
without running handlers: the first descriptor that such a child guards has it close what it inherited.

Thread safety: the table is changed under the GIL; the child handler runs while the child has a single thread.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t

import os

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int getpid()

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int madvise(void *address, size_t length, int advice)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS
    void *MAP_FAILED

cdef extern from *:
    """
    #ifndef MADV_WIPEONFORK
    #define MADV_WIPEONFORK 18
    #endif
    """
    int MADV_WIPEONFORK

cdef unsigned char guarded[65536]
cdef int guarded_highest = -1
cdef uint64_t guarded_by = 0        # the process whose descriptors the table holds
cdef size_t GUARD_BYTES = os.sysconf("SC_PAGE_SIZE")


cdef void close_guarded_in_child() noexcept nogil:
    global guarded_highest
    cdef int fd
    for fd in range(guarded_highest + 1):
        if guarded[fd]:
            guarded[fd] = 0
            close(fd)
    guarded_highest = -1


if pthread_atfork(NULL, NULL, close_guarded_in_child) != 0:
    raise MemoryError("pthread_atfork could not register")


def guard_descriptor(int fd):
    """Have a forked child close ``fd`` at once. Raises ValueError above 65535."""
    global guarded_highest, guarded_by
    if not 0 <= fd < 65536:
        raise ValueError(f"descriptor {fd} is outside 0..65535; lower RLIMIT_NOFILE or close descriptors")
    if guarded_by != this_process():
        # A child of a bare clone(2) still holds what the numbers in the table name, but for this one, which it just opened.
        guarded[fd] = 0
        close_guarded_in_child()
        guarded_by = this_process()
    guarded[fd] = 1
    guarded_highest = max(guarded_highest, fd)


def release_descriptor(int fd):
    """Forget ``fd``. True if this process still owned it: False in a child that the fork handler closed it for."""
    cdef bint owned = 0 <= fd < 65536 and guarded[fd] and guarded_by == this_process()
    if owned:
        guarded[fd] = 0
    return owned


cdef uint64_t *wiped_page() except NULL:
    """Return a new page that a forked child finds zeroed."""
    cdef void *page = mmap(NULL, GUARD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if page == MAP_FAILED:
        raise OSError(errno, f"mmap of {GUARD_BYTES} bytes: {os.strerror(errno)}")
    while madvise(page, GUARD_BYTES, MADV_WIPEONFORK) != 0:
        if errno != EINTR:
            code = errno
            munmap(page, GUARD_BYTES)
            raise OSError(code, f"MADV_WIPEONFORK (Linux 4.14 or later): {os.strerror(code)}")
    return <uint64_t *>page


cdef uint64_t *known_process_id = wiped_page()


cdef uint64_t this_process() noexcept nogil:
    """Return the id of this process, by a system call only the first time in each; threads that race store the same."""
    if known_process_id[0] == 0:
        known_process_id[0] = getpid()
    return known_process_id[0]


def process_id():
    """Return what ``os.getpid`` does, by a system call only the first time in each process."""
    return this_process()


cdef class ForkGuard:
    """One word that says whether a handle may append; it reads CLOSED in every forked child."""

    def __cinit__(self):
        self.word = wiped_page()

    def __dealloc__(self):
        if self.word != NULL:
            munmap(self.word, GUARD_BYTES)
