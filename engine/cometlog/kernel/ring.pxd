"""A ring of io_uring: writes to one file, and a sync linked behind them, in one system call."""

cimport cython
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cpdef enum:
    WRITES_MAX = 32       # writes of one submission; a sync may follow them


cdef extern from "<linux/io_uring.h>" nogil:
    struct io_uring_sqe:
        uint8_t opcode
        uint8_t flags
        int32_t fd
        uint64_t off
        uint64_t addr
        uint32_t len
        uint32_t fsync_flags
        uint64_t user_data

    struct io_uring_cqe:
        uint64_t user_data
        int32_t res


cdef struct Piece:
    const uint8_t *data
    size_t left
    uint64_t offset


@cython.final
cdef class Ring:
    cdef int fd
    cdef uint64_t owner               # the process that may use the ring
    cdef bint lost                    # the kernel went silent with requests under way: nothing is known of them
    cdef void *rings
    cdef size_t rings_bytes
    cdef io_uring_sqe *requests
    cdef size_t requests_bytes
    cdef io_uring_cqe *completions
    cdef uint32_t *request_head
    cdef uint32_t *request_tail
    cdef uint32_t *request_index
    cdef uint32_t request_mask
    cdef uint32_t *completion_head
    cdef uint32_t *completion_tail
    cdef uint32_t completion_mask
    cdef uint32_t pushed              # end of the requests that were made; the kernel's copy is request_tail
    cdef uint32_t reaped              # end of the completions that were looked at; the kernel's copy is completion_head
    cdef bint in_one_call             # the last submission was taken whole, so its links hold
    cdef bint synced
    cdef int write_errno
    cdef int sync_errno
    cdef Piece pieces[WRITES_MAX]

    cdef int write_frame(self, int fd, const uint8_t *data, size_t length, uint64_t offset) except -1
    cdef int run(self, int fd, uint32_t count, bint sync) except -1
    cdef uint32_t push(self, int fd, uint32_t count, bint sync) noexcept nogil
    cdef io_uring_sqe *next_request(self, uint8_t opcode, int fd, uint64_t user_data) noexcept nogil
    cdef int submit_and_wait(self, uint32_t count) noexcept nogil
    cdef void reap(self, uint32_t count) noexcept nogil
    cdef bint is_written(self, uint32_t count) noexcept nogil
