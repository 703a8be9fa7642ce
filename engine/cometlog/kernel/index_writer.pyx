"""Keeping the ``.idx`` file of a segment up to its resolved prefix. Format: FORMAT.md, "The index".

Thread safety: ``IndexWriter.checkpoint`` may be called by any thread, with or without the GIL; a mutex
orders the calls. Across processes the caller holds the index writer's lock as long as it uses one
IndexWriter, and makes a new one when it gets the lock again. Readers take no lock: they check every checksum
and read again.

Invariants: the records are written before the header that counts them; only resolved frames below the tail
and below ``backed`` are looked at, so a boundary never moves.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EBADF, EBADMSG, EEXIST, EINTR, EIO, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memset

import os

from cometlog.kernel.atomics cimport fetch_add_relaxed, load_acquire
from cometlog.kernel.boundary cimport CHUNK_RECORDS, Boundary, decode_record, encode_record, find_chunk
from cometlog.kernel.checksum cimport CRC32C_START, crc32c_finish, crc32c_initialise, crc32c_update
from cometlog.kernel.fork_guard cimport this_process
from cometlog.kernel.layout cimport (
    BOUNDARY_SIZE_BYTES, FORMAT_VERSION, INDEX_CHECKSUM, INDEX_COUNT, INDEX_COVERED_ENTRIES,
    INDEX_COVERED_LIVE, INDEX_COVERED_UNIT, INDEX_FORMAT, INDEX_HEADER_BYTES, INDEX_INTERVAL, INDEX_MAGIC,
    INDEX_UUID, SEGMENT_BACKED, SEGMENT_HEADER_BYTES, SEGMENT_TAIL, STATISTICS_CHECKPOINTS, UNIT_BYTES, tail_entries,
    tail_units,
)
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.scan cimport NO_UNIT, STOP_FULL, WalkState, uuid_seed

cdef extern from "<fcntl.h>" nogil:
    int openat(int directory_fd, const char *path, int flags, ...)
    int O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_CLOEXEC, O_NONBLOCK

cdef extern from "files.h" nogil:
    int is_own_regular_file(int fd)
    int set_exact_mode(int fd, int mode)

cdef extern from "<unistd.h>" nogil:
    Py_ssize_t pread(int fd, void *data, size_t length, long offset)
    Py_ssize_t pwrite(int fd, const void *data, size_t length, long offset)
    int c_close "close"(int fd)
    int c_fdatasync "fdatasync"(int fd)
    int unlinkat(int directory_fd, const char *path, int flags)

cdef extern from "<stdio.h>" nogil:
    int renameat(int old_directory_fd, const char *old_path, int new_directory_fd, const char *new_path)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *time)
    int CLOCK_MONOTONIC

cdef enum:
    CHUNK_BYTES = CHUNK_RECORDS * BOUNDARY_SIZE_BYTES
    FILE_NAME_BYTES_MAX = 200
    TEMPORARY_TRIES = 100

cdef const char *MAGIC = "COMETIDX"

crc32c_initialise()


cdef int transfer(int fd, uint8_t *data, size_t length, long offset, bint writing) noexcept nogil:
    """Read or write a whole range at ``offset``; returns 0 or errno, EIO for a file that ends before."""
    cdef Py_ssize_t done
    while length > 0:
        done = pwrite(fd, data, length, offset) if writing else pread(fd, data, length, offset)
        if done < 0:
            if errno == EINTR:
                continue
            return errno
        if done == 0:
            return EIO
        data += done
        length -= done
        offset += done
    return 0


cdef inline long record_offset(uint32_t number) noexcept nogil:
    return INDEX_HEADER_BYTES + <long>number * BOUNDARY_SIZE_BYTES


cdef class IndexWriter:
    """Keeps the ``.idx`` of one segment up to its resolved prefix; the file is opened, or made, by the first
    checkpoint.

    ``mapping`` covers the segment; ``interval`` is in entries; ``directory_fd`` stays the caller's and
    outlives this object; checkpoints are counted in ``statistics``, where given. A file that is there and
    true is continued; any other is replaced.
    """

    def __cinit__(
        self, Mapping mapping, const uint8_t[::1] uuid, uint32_t interval, int directory_fd, str file_name,
        int mode=0o600, Mapping statistics=None
    ):
        self.process = this_process()
        self.fd = -1
        pthread_mutex_init(&self.mutex, NULL)
        encoded = os.fsencode(file_name)
        if uuid.shape[0] != 16:
            raise ValueError(f"a segment uuid has 16 bytes, got {uuid.shape[0]}")
        if interval < 1:
            raise ValueError("the interval between boundaries is at least 1 entry, got 0")
        if not encoded or len(encoded) > FILE_NAME_BYTES_MAX or b"/" in encoded or b"\0" in encoded:
            raise ValueError(f"not a plain file name of at most {FILE_NAME_BYTES_MAX} bytes: {file_name!r}")
        PyObject_GetBuffer(mapping, &self.view, PyBUF_SIMPLE)
        self.mapping = mapping
        if statistics is not None:
            statistics.check_writable()
            self.checkpoints = statistics.word_at(STATISTICS_CHECKPOINTS)
            PyObject_GetBuffer(statistics, &self.counters, PyBUF_SIMPLE)
        self.file_name = encoded
        self.path = encoded
        self.directory_fd = directory_fd
        self.mode = mode
        self.interval = interval
        memcpy(self.uuid, &uuid[0], 16)
        memset(&self.walk, 0, sizeof(WalkState))
        self.walk.units = <const uint8_t *>self.view.buf + SEGMENT_HEADER_BYTES
        self.walk.seed = uuid_seed(self.uuid)
        self.walk.verified_unit = NO_UNIT
        self.reset()

    def __dealloc__(self):
        # Only in the process that made it: the helper thread may have been opening the file while the parent forked, and then
        # the child has the number in memory, but not the descriptor, and the number is soon one of its own.
        if self.fd >= 0 and self.process == this_process():
            c_close(self.fd)
        PyBuffer_Release(&self.view)
        PyBuffer_Release(&self.counters)
        pthread_mutex_destroy(&self.mutex)

    cdef void reset(self) noexcept nogil:
        """Stand at the start of the segment, nothing covered; the limits of the walk stay."""
        self.walk.unit = 0
        self.walk.next_index = 0
        self.walk.live_entries = 0
        self.walk.exact = False
        self.count = 0
        self.next_entry = 0

    cdef int checkpoint(self) noexcept nogil:
        """Cover what is resolved by now. Returns 0 or errno (EBADF once closed); after an error the next tries again.

        Damage in the segment is not this function's matter: it covers what lies before.
        """
        cdef int result
        pthread_mutex_lock(&self.mutex)
        result = EBADF if self.closed else self.checkpoint_locked()
        pthread_mutex_unlock(&self.mutex)
        return result

    cdef int checkpoint_locked(self) noexcept nogil:
        cdef Boundary found[CHUNK_RECORDS]
        cdef uint32_t count
        cdef WalkState before
        cdef uint64_t next_entry
        cdef int error
        cdef int stop = STOP_FULL
        cdef const uint8_t *page = <const uint8_t *>self.view.buf
        cdef uint64_t tail = load_acquire(<const uint64_t *>(page + SEGMENT_TAIL))
        cdef uint64_t backed = load_acquire(<const uint64_t *>(page + SEGMENT_BACKED))
        cdef uint64_t covered
        if tail_units(tail) > (<uint64_t>self.view.len - SEGMENT_HEADER_BYTES) // UNIT_BYTES:
            return EBADMSG
        self.walk.tail_units = tail_units(tail)
        self.walk.tail_entries = tail_entries(tail)
        self.walk.readable_units = min(tail_units(tail), backed)
        self.walk.verify = self.fd < 0
        if self.fd < 0:
            # What lies there already may have been damaged at rest: a count taken from a frame that does not hold would
            # be believed for ever. What is appended from now on was just written.
            error = self.attach_file()
            if error != 0:
                return error
        covered = self.walk.unit
        while stop == STOP_FULL:
            before = self.walk
            next_entry = self.next_entry
            stop = find_chunk(&self.walk, self.interval, &self.next_entry, found, CHUNK_RECORDS, &count)
            error = self.write_records(found, count)
            if error != 0:
                self.walk = before
                self.next_entry = next_entry
                return error
            self.count += count
        if self.walk.unit == covered:
            return 0
        error = self.write_header(self.fd)
        if error != 0:
            # Begin anew from what the file says: a header that may be half there decides nothing.
            c_close(self.fd)
            self.fd = -1
        elif self.checkpoints != NULL:
            fetch_add_relaxed(self.checkpoints, 1)
        return error

    cdef int attach_file(self) noexcept nogil:
        """Open the file and go on from it, or replace it; returns 0 or errno."""
        self.reset()
        self.fd = openat(self.directory_fd, self.path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        if self.fd >= 0:
            if is_own_regular_file(self.fd) and self.resume() == 0:
                return 0
            c_close(self.fd)
            self.fd = -1
            self.reset()
        return self.create()

    cdef int resume(self) noexcept nogil:
        """Go on from the open file; nonzero if it is not a true index of this segment and interval."""
        cdef uint8_t header[INDEX_HEADER_BYTES]
        cdef uint32_t stored, interval, version
        cdef uint32_t covered_unit, covered_entries, covered_live
        if transfer(self.fd, header, INDEX_HEADER_BYTES, 0, False) != 0:
            return 1
        memcpy(&stored, header + INDEX_CHECKSUM, 4)
        memcpy(&version, header + INDEX_FORMAT, 4)
        memcpy(&interval, header + INDEX_INTERVAL, 4)
        if (
            memcmp(header + INDEX_MAGIC, MAGIC, 8) != 0
            or memcmp(header + INDEX_UUID, self.uuid, 16) != 0
            or crc32c_finish(crc32c_update(CRC32C_START, header, INDEX_CHECKSUM)) != stored
            or version != FORMAT_VERSION
            or interval != self.interval
        ):
            return 1
        memcpy(&self.count, header + INDEX_COUNT, 4)
        memcpy(&covered_unit, header + INDEX_COVERED_UNIT, 4)
        memcpy(&covered_entries, header + INDEX_COVERED_ENTRIES, 4)
        memcpy(&covered_live, header + INDEX_COVERED_LIVE, 4)
        if (
            covered_unit > self.walk.tail_units
            or covered_entries > self.walk.tail_entries
            or covered_live > covered_entries
        ):
            return 1
        self.walk.unit = covered_unit
        self.walk.next_index = covered_entries
        self.walk.live_entries = covered_live
        return self.check_records()

    cdef int check_records(self) noexcept nogil:
        """Read the records that the header counts; nonzero if one is not true. Sets ``next_entry``."""
        cdef uint8_t chunk[CHUNK_BYTES]
        cdef Boundary boundary
        cdef uint32_t number = 0
        cdef uint32_t position, records
        cdef uint32_t chunk_records = CHUNK_RECORDS
        while number < self.count:
            records = min(self.count - number, chunk_records)
            if transfer(self.fd, chunk, records * BOUNDARY_SIZE_BYTES, record_offset(number), False) != 0:
                return 1
            for position in range(records):
                if (
                    not decode_record(
                        chunk + position * BOUNDARY_SIZE_BYTES, self.walk.seed, number + position, &boundary
                    )
                    or boundary.entry < self.next_entry
                    or boundary.unit >= self.walk.unit
                ):
                    return 1
                self.next_entry = <uint64_t>boundary.entry + self.interval
            number += records
        return 0

    cdef int create(self) noexcept nogil:
        """Put an empty index in place by temporary and rename; returns 0 or errno."""
        cdef timespec now
        cdef int error = EEXIST
        cdef int attempt
        for attempt in range(TEMPORARY_TRIES):
            clock_gettime(CLOCK_MONOTONIC, &now)
            snprintf(
                self.temporary, sizeof(self.temporary), "%s.tmp.%d.%lx",
                self.path, <int>this_process(), now.tv_nsec + attempt
            )
            self.fd = openat(
                self.directory_fd, self.temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                self.mode
            )
            error = 0 if self.fd >= 0 else errno
            if error != EEXIST:
                break
        if self.fd < 0:
            return error
        error = set_exact_mode(self.fd, self.mode)
        if error == 0:
            error = self.write_header(self.fd)
        if error == 0 and renameat(self.directory_fd, self.temporary, self.directory_fd, self.path) != 0:
            error = errno
        if error != 0:
            unlinkat(self.directory_fd, self.temporary, 0)
            c_close(self.fd)
            self.fd = -1
        return error

    cdef int write_records(self, const Boundary *found, uint32_t count) noexcept nogil:
        cdef uint8_t chunk[CHUNK_BYTES]
        cdef uint32_t position
        for position in range(count):
            encode_record(
                chunk + position * BOUNDARY_SIZE_BYTES, self.walk.seed, self.count + position,
                &found[position]
            )
        return transfer(self.fd, chunk, count * BOUNDARY_SIZE_BYTES, record_offset(self.count), True)

    cdef int write_header(self, int fd) noexcept nogil:
        cdef uint8_t header[INDEX_HEADER_BYTES]
        cdef uint32_t version = FORMAT_VERSION
        cdef uint32_t covered_unit = <uint32_t>self.walk.unit
        cdef uint32_t covered_entries = <uint32_t>self.walk.next_index
        cdef uint32_t covered_live = <uint32_t>self.walk.live_entries
        cdef uint32_t checksum
        memset(header, 0, INDEX_HEADER_BYTES)
        memcpy(header + INDEX_MAGIC, MAGIC, 8)
        memcpy(header + INDEX_FORMAT, &version, 4)
        memcpy(header + INDEX_INTERVAL, &self.interval, 4)
        memcpy(header + INDEX_UUID, self.uuid, 16)
        memcpy(header + INDEX_COUNT, &self.count, 4)
        memcpy(header + INDEX_COVERED_UNIT, &covered_unit, 4)
        memcpy(header + INDEX_COVERED_ENTRIES, &covered_entries, 4)
        memcpy(header + INDEX_COVERED_LIVE, &covered_live, 4)
        checksum = crc32c_finish(crc32c_update(CRC32C_START, header, INDEX_CHECKSUM))
        memcpy(header + INDEX_CHECKSUM, &checksum, 4)
        return transfer(fd, header, INDEX_HEADER_BYTES, 0, True)

    def write_checkpoint(self):
        """Cover what is resolved by now, return the units covered; OSError if the file cannot be written."""
        cdef int error
        with nogil:
            error = self.checkpoint()
        if error != 0:
            raise OSError(error, f"index checkpoint: {os.strerror(error)}", os.fsdecode(self.file_name))
        return self.covered_units

    def sync(self):
        """Make what the last checkpoint wrote durable; OSError if the file system does not."""
        cdef int result = 0
        cdef int error = 0
        with nogil:
            pthread_mutex_lock(&self.mutex)
            if self.fd >= 0:
                result = c_fdatasync(self.fd)
                error = errno
            pthread_mutex_unlock(&self.mutex)
        if result != 0:
            raise OSError(error, f"index sync: {os.strerror(error)}", os.fsdecode(self.file_name))

    def close(self):
        """Close the file and let go of the mapping, without a checkpoint. Closing twice is harmless."""
        if self.process != this_process():
            # Inherited through a fork: the thread that may have held the mutex then does not exist here.
            self.fd = -1
            self.closed = True
        else:
            with nogil:
                pthread_mutex_lock(&self.mutex)
                if self.fd >= 0:
                    c_close(self.fd)
                self.fd = -1
                self.closed = True
                pthread_mutex_unlock(&self.mutex)
        # No checkpoint looks at the mapping any more: one that ran has left the mutex, a later one finds `closed`.
        PyBuffer_Release(&self.view)
        PyBuffer_Release(&self.counters)
        self.mapping = None

    @property
    def covered_units(self):
        """Units before which everything is resolved, counted and in the index."""
        return self.walk.unit if self.fd >= 0 else 0

    @property
    def covered_entries(self):
        """Lowest entry index that a frame at ``covered_units`` may have."""
        return self.walk.next_index if self.fd >= 0 else 0

    @property
    def covered_live(self):
        """Live entries before ``covered_units``."""
        return self.walk.live_entries if self.fd >= 0 else 0
