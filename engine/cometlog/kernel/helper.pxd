"""The helper thread: grows and populates segments ahead of their writers, prepares the next, keeps the index."""

from libc.stdint cimport uint8_t, uint64_t

from cometlog.kernel.fork_guard cimport ForkGuard
from cometlog.kernel.mapping cimport Mapping

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass

cdef struct Watch:
    uint8_t *map
    uint64_t length               # bytes of the mapping
    uint64_t capacity             # units
    uint64_t populated            # bytes from the start of the file that this process has faulted in
    uint64_t last_units           # tail at the last look
    uint64_t lead                 # bytes that should be ready ahead of the tail
    uint64_t checkpoint_due_ns
    uint64_t *open_word           # guard word of the appender; NULL where there is none
    int fd
    int directory_fd
    bint populate
    bint prepare
    bint failed                   # the last growth failed; only a writer tries again
    int next_fd
    uint8_t *next_map
    uint64_t next_backed          # bytes ready in the prepared file
    char next_name[64]
    uint8_t *retired_map
    uint64_t retired_length
    void *index                   # IndexWriter of the segment; NULL where another process keeps the index
    void *retired_index
    uint64_t checkpoint_interval_ns
    Watch *following


cdef class Helper:
    cdef pthread_mutex_t mutex
    cdef pthread_cond_t woken
    cdef Watch *first
    cdef bint stopping
    cdef bint asleep
    cdef uint64_t file_counter
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
    cdef void drop_prepared(self) noexcept nogil
