"""One shard in the care of the helper thread."""

from libc.stdint cimport uint8_t, uint64_t

cdef struct Watch:
    uint8_t *map
    uint64_t length               # bytes of the mapping
    uint64_t capacity             # units
    uint64_t populated            # bytes from the start of the file that this process has faulted in
    uint64_t allocated            # bytes up to which this process has seen to blocks, ahead of `backed` perhaps; 0 before it has
    uint64_t last_units           # tail at the last look
    uint64_t lead                 # bytes that should be ready ahead of the tail
    uint64_t checkpoint_due_ns
    uint64_t *open_word           # guard word of the appender; NULL where there is none
    int fd
    int directory_fd
    int file_mode
    bint populate
    bint keeper                   # this process grows the file and prepares the next for all
    bint cramped                  # there was no room to allocate ahead: no more than a step is asked for in this segment
    bint failed                   # the last growth failed; only a writer tries again
    int next_fd
    uint8_t *next_map
    uint64_t next_length          # bytes of its mapping
    uint64_t next_backed          # bytes ready in the prepared file
    uint64_t next_device          # with the inode: which file it is
    uint64_t next_inode
    char next_name[64]
    uint8_t *retired_map
    uint64_t retired_length
    void *index                   # IndexWriter of the segment; NULL where another process keeps the index
    void *retired_index
    uint64_t checkpoint_interval_ns
    Watch *following


cdef uint64_t page_start(uint64_t position) noexcept nogil
cdef void pass_over_backed(Watch *watch) noexcept nogil
cdef int grow_step(Watch *watch, uint64_t wanted) noexcept nogil
cdef bint tend_growth(Watch *watch) noexcept nogil
cdef bint tend_next(Watch *watch) noexcept nogil
cdef void tend_checkpoint(Watch *watch, uint64_t now_ns) noexcept nogil
cdef bint tend_retired(Watch *watch) noexcept nogil
cdef void drop_prepared(Watch *watch) noexcept nogil
