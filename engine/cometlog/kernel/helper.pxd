"""The helper thread: grows and populates segments ahead of their writers, prepares the next, keeps the index."""

from libc.stdint cimport uint64_t

from cometlog.kernel.fork_guard cimport ForkGuard
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.watch cimport Watch

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass

cdef class Helper:
    cdef pthread_mutex_t mutex
    cdef pthread_cond_t woken
    cdef Watch *first
    cdef bint stopping
    cdef bint asleep
    cdef uint64_t process

    cdef bint tend_all(self) noexcept nogil
    cdef void doze(self, int idle_rounds) noexcept nogil
    cdef void wake(self) noexcept nogil


cdef class ShardWatch:
    cdef Helper helper
    cdef Watch *watch
    cdef Mapping mapping
    cdef ForkGuard guard
    cdef object index
    cdef list retired_indexes
    cdef readonly bint closed

    cdef int lock(self) except -1
    cdef void note_failure(self, bint failed) noexcept nogil
    cdef void unlink(self) noexcept nogil
