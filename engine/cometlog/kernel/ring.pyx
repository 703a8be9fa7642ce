"""A ring of io_uring: writes to one file, and a sync linked behind them, in one system call.

Thread safety: one thread at a time, which the lock of a write path sees to; the GIL is released while the kernel works.
Invariants: a call returns when all that it asked for is complete, so that the rings are empty between calls: the completion queue is
longer than the requests of one call and cannot overflow, and closing finds nothing to cancel. A sync counts only where every write
before it was whole and the kernel took both in one call, because only then it ran behind them. A failed sync is not tried again.
A forked child shares the rings with its parent and must not touch them: the descriptor is guarded, and each call looks for its owner.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.errno cimport EAGAIN, EBUSY, EINTR, EIO, ENOSYS, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

import os

from cometlog.kernel.fork_guard import guard_descriptor, release_descriptor

from cometlog.kernel.atomics cimport load_acquire_u32, store_release_u32
from cometlog.kernel.fork_guard cimport this_process

cdef extern from "<errno.h>" nogil:
    int ECANCELED

cdef extern from "<linux/io_uring.h>" nogil:
    struct io_sqring_offsets:
        uint32_t head
        uint32_t tail
        uint32_t ring_mask
        uint32_t array

    struct io_cqring_offsets:
        uint32_t head
        uint32_t tail
        uint32_t ring_mask
        uint32_t cqes

    struct io_uring_params:
        uint32_t sq_entries
        uint32_t cq_entries
        uint32_t features
        io_sqring_offsets sq_off
        io_cqring_offsets cq_off

    int IORING_OP_WRITE, IORING_OP_FSYNC, IORING_FSYNC_DATASYNC, IOSQE_IO_LINK
    int IORING_ENTER_GETEVENTS, IORING_FEAT_SINGLE_MMAP
    long IORING_OFF_SQ_RING, IORING_OFF_SQES

cdef extern from "<sys/syscall.h>" nogil:
    long SYS_io_uring_setup, SYS_io_uring_enter

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)
    int close(int fd)

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_POPULATE
    void *MAP_FAILED

cdef enum:
    REQUESTS_MAX = 64             # a power of two above WRITES_MAX and a sync
    BYTES_MAX = 1 << 30           # of one request; the kernel's own limit is a page short of 2 GiB
    SYNC = 1 << 16                # the user data of a sync; that of a write is its piece


@cython.final
cdef class Ring:
    """One ring of this process. Raises OSError where the kernel refuses: EPERM, ENOSYS, or what else it says."""

    def __cinit__(self):
        cdef io_uring_params parameters
        self.fd = -1
        memset(&parameters, 0, sizeof(parameters))
        fd = <int>syscall(SYS_io_uring_setup, <unsigned int>REQUESTS_MAX, &parameters)
        if fd < 0:
            raise os_error(errno, "io_uring_setup")
        try:
            guard_descriptor(fd)
        except BaseException:
            close(fd)
            raise
        self.fd = fd
        self.owner = this_process()
        if not parameters.features & IORING_FEAT_SINGLE_MMAP:
            raise os_error(ENOSYS, "io_uring_setup (Linux 5.6 or later)")
        self.rings_bytes = max(
            parameters.sq_off.array + parameters.sq_entries * sizeof(uint32_t),
            parameters.cq_off.cqes + parameters.cq_entries * sizeof(io_uring_cqe),
        )
        self.rings = map_ring(fd, self.rings_bytes, IORING_OFF_SQ_RING)
        self.requests_bytes = parameters.sq_entries * sizeof(io_uring_sqe)
        self.requests = <io_uring_sqe *>map_ring(fd, self.requests_bytes, IORING_OFF_SQES)
        base = <uint8_t *>self.rings
        self.request_head = <uint32_t *>(base + parameters.sq_off.head)
        self.request_tail = <uint32_t *>(base + parameters.sq_off.tail)
        self.request_index = <uint32_t *>(base + parameters.sq_off.array)
        self.request_mask = (<uint32_t *>(base + parameters.sq_off.ring_mask))[0]
        self.completion_head = <uint32_t *>(base + parameters.cq_off.head)
        self.completion_tail = <uint32_t *>(base + parameters.cq_off.tail)
        self.completion_mask = (<uint32_t *>(base + parameters.cq_off.ring_mask))[0]
        self.completions = <io_uring_cqe *>(base + parameters.cq_off.cqes)

    def __dealloc__(self):
        self.close()

    def close(self):
        """Give the ring back; closing twice is harmless. A forked child gives up its view of it alone."""
        if self.requests != NULL:
            munmap(self.requests, self.requests_bytes)
            self.requests = NULL
        if self.rings != NULL:
            munmap(self.rings, self.rings_bytes)
            self.rings = NULL
        fd, self.fd = self.fd, -1
        # In a forked child the handler closed it, and its number may be another ring's by now.
        if fd >= 0 and self.owner == this_process() and release_descriptor(fd):
            close(fd)

    def write(self, int fd, list pieces not None, uint64_t offset, *, bint sync=False):
        """Write up to WRITES_MAX bytes objects one behind the other from ``offset`` on, in one submission, then sync where told.

        Without ``sync`` the writes run side by side. Raises OSError when a write or the sync failed.
        """
        cdef uint32_t count = PyList_GET_SIZE(pieces)
        cdef uint32_t place
        cdef bytes piece
        if PyList_GET_SIZE(pieces) > WRITES_MAX:
            raise ValueError(f"a submission has at most {WRITES_MAX} writes, got {len(pieces)}")
        for place in range(count):
            piece = pieces[place]
            self.pieces[place] = Piece(<const uint8_t *>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), offset)
            offset += PyBytes_GET_SIZE(piece)
        kept = tuple(pieces)  # the caller's list may change while the GIL is released
        self.run(fd, count, sync)
        del kept
        self.check_sync()

    def check_sync(self):
        """Raise OSError if the sync of the last call failed, or if nobody can know whether it did."""
        if self.sync_errno:
            raise os_error(self.sync_errno, "sync in io_uring")

    cdef int write_frame(self, int fd, const uint8_t *data, size_t length, uint64_t offset) except -1:
        """Write a frame and sync the file's data; what ``check_sync`` says counts, unless this raises."""
        self.pieces[0] = Piece(data, length, offset)
        return self.run(fd, 1, True)

    cdef int run(self, int fd, uint32_t count, bint sync) except -1:
        """Write the first ``count`` pieces, and sync: as many submissions as it takes, hardly ever more than one."""
        cdef bint unsynced = sync
        cdef uint32_t asked
        cdef int code
        if self.fd < 0 or self.lost or self.owner != this_process():
            raise ValueError("this ring is closed, lost, or another process's")
        self.write_errno = self.sync_errno = 0
        while True:
            with nogil:
                asked = self.push(fd, count, unsynced)
                code = self.submit_and_wait(asked)
            if code and not self.lost:
                raise os_error(code, "io_uring_enter")
            if code:
                self.sync_errno = code
                return 0
            self.reap(asked)
            if self.write_errno:
                raise os_error(self.write_errno, f"write in io_uring, {self.pieces[0].left} bytes before its end")
            if self.sync_errno:
                return 0
            written = self.is_written(count)
            unsynced = unsynced and not (self.synced and self.in_one_call and written)
            if written and not unsynced:
                return 0

    cdef uint32_t push(self, int fd, uint32_t count, bint sync) noexcept nogil:
        """Make requests of what is left of the pieces, each linked to what follows where a sync comes last; return how many."""
        cdef uint32_t before = self.pushed
        cdef uint32_t place
        cdef io_uring_sqe *request
        for place in range(count):
            if self.pieces[place].left:
                request = self.next_request(IORING_OP_WRITE, fd, place)
                request.addr = <uint64_t>self.pieces[place].data
                request.len = <uint32_t>min(self.pieces[place].left, <size_t>BYTES_MAX)
                request.off = self.pieces[place].offset
                if sync:
                    request.flags = IOSQE_IO_LINK
        if sync:
            request = self.next_request(IORING_OP_FSYNC, fd, SYNC)
            request.fsync_flags = IORING_FSYNC_DATASYNC
        store_release_u32(self.request_tail, self.pushed)
        return self.pushed - before

    cdef io_uring_sqe *next_request(self, uint8_t opcode, int fd, uint64_t user_data) noexcept nogil:
        cdef uint32_t place = self.pushed & self.request_mask
        cdef io_uring_sqe *request = self.requests + place
        memset(request, 0, sizeof(io_uring_sqe))
        request.opcode = opcode
        request.fd = fd
        request.user_data = user_data
        self.request_index[place] = place
        self.pushed += 1
        return request

    cdef int submit_and_wait(self, uint32_t count) noexcept nogil:
        """Return 0 when ``count`` requests are complete, or why the kernel took none of them, or why it went silent (``lost``)."""
        cdef uint32_t begin = self.pushed - count
        cdef uint32_t taken
        cdef long result
        self.in_one_call = True
        while load_acquire_u32(self.completion_tail) - self.reaped < count:
            taken = load_acquire_u32(self.request_head) - begin
            if taken and taken < count:
                self.in_one_call = False
            result = syscall(SYS_io_uring_enter, self.fd, count - taken, count, IORING_ENTER_GETEVENTS, NULL, 0)
            if result >= 0 or errno == EINTR:
                continue
            if load_acquire_u32(self.request_head) == begin:
                self.pushed = begin
                store_release_u32(self.request_tail, begin)
                return errno
            if errno != EAGAIN and errno != EBUSY:
                self.lost = True
                return errno
            sched_yield()
        return 0

    cdef void reap(self, uint32_t count) noexcept nogil:
        """Take the completions of one submission. What was cut short or interrupted, or cancelled behind such, is asked for again."""
        cdef io_uring_cqe *completion
        cdef Piece *piece
        self.synced = False
        for _ in range(count):
            completion = self.completions + (self.reaped & self.completion_mask)
            self.reaped += 1
            if completion.user_data == SYNC:
                self.synced = completion.res >= 0
                if completion.res < 0 and completion.res != -ECANCELED and completion.res != -EINTR:
                    self.sync_errno = -completion.res
            elif completion.res > 0:
                piece = &self.pieces[completion.user_data]
                piece.data += completion.res
                piece.offset += <uint32_t>completion.res
                piece.left -= <uint32_t>completion.res
            elif completion.res == 0:
                self.write_errno = EIO
            elif completion.res != -ECANCELED and completion.res != -EINTR:
                self.write_errno = -completion.res
        store_release_u32(self.completion_head, self.reaped)

    cdef bint is_written(self, uint32_t count) noexcept nogil:
        cdef uint32_t place
        for place in range(count):
            if self.pieces[place].left:
                return False
        return True


cdef void *map_ring(int fd, size_t length, long offset) except NULL:
    cdef void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset)
    if address == MAP_FAILED:
        raise os_error(errno, f"mmap of {length} bytes of an io_uring")
    return address


cdef object os_error(int code, str what):
    return OSError(code, f"{what}: {os.strerror(code)}")
