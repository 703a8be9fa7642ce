"""The position of a consumer group in one shard, and the acknowledgement that raises it."""

cimport cython
from libc.stdint cimport uint64_t

from cometlog.kernel.mapping cimport Mapping


@cython.final
cdef class GroupPosition:
    cdef Mapping mapping
    cdef uint64_t *word
    cdef uint64_t *checkpoint_word
    cdef uint64_t seen              # the position word as this handle last stored or found it
    cdef uint64_t floor             # the number in it; only a reset goes below
    cdef uint64_t plain_stop        # an acknowledgement that reaches beyond it is settled by `settle`
    cdef readonly uint64_t following
    cdef readonly bint moved_back
    cdef object settle

    cdef int check_open(self) except -1
    cdef int raise_to(self, uint64_t number) except -1
