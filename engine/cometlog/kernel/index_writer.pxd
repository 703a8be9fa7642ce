"""Keeping the ``.idx`` file of a segment up to its resolved prefix."""

from libc.stdint cimport uint32_t, uint64_t

from cometlog.kernel.boundary cimport Boundary
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.scan cimport WalkState

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)


cdef class IndexWriter:
    # Everything below is guarded by `mutex`; walk and count mean nothing while `fd` is -1.
    cdef pthread_mutex_t mutex
    cdef Mapping mapping
    cdef Py_buffer view
    cdef Py_buffer counters
    cdef uint64_t *checkpoints
    cdef object file_name
    cdef const char *path
    cdef char temporary[256]
    cdef int directory_fd
    cdef int fd
    cdef uint64_t process
    cdef bint closed
    cdef int mode
    cdef uint32_t interval
    cdef uint32_t count
    cdef uint64_t next_entry
    cdef unsigned char uuid[16]
    cdef WalkState walk

    cdef void reset(self) noexcept nogil
    cdef int checkpoint(self) noexcept nogil
    cdef int checkpoint_locked(self) noexcept nogil
    cdef int attach_file(self) noexcept nogil
    cdef int resume(self) noexcept nogil
    cdef int check_records(self) noexcept nogil
    cdef int create(self) noexcept nogil
    cdef int write_records(self, const Boundary *found, uint32_t count) noexcept nogil
    cdef int write_header(self, int fd) noexcept nogil
