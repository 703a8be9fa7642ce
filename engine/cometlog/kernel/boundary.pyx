"""Boundaries of the sparse index: found by a walk, written to an ``.idx`` file. Format: FORMAT.md, "The index".

Thread safety: ``IndexWriter.checkpoint`` may be called by any thread, with or without the GIL; a mutex orders the calls. Across
processes the caller holds the index writer's lock as long as it uses one IndexWriter, and makes a new one when it gets the
lock again. Readers take no lock: they check every checksum and read again.

Invariants: the records are written before the header that counts them; only resolved frames below the tail and below
``backed`` are looked at, so a boundary never moves.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EBADMSG, EEXIST, EINTR, EIO, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memset

import os

from cometlog.kernel.atomics cimport load_acquire
from cometlog.kernel.checksum cimport CRC32C_START, crc32c_finish, crc32c_initialise, crc32c_update
from cometlog.kernel.layout cimport (
    BOUNDARY_CHECKSUM, BOUNDARY_ENTRY, BOUNDARY_LIVE, BOUNDARY_SIZE_BYTES, BOUNDARY_TIMESTAMP, BOUNDARY_UNIT,
    FORMAT_VERSION, INDEX_CHECKSUM, INDEX_COUNT, INDEX_COVERED_ENTRIES, INDEX_COVERED_LIVE, INDEX_COVERED_UNIT,
    INDEX_FORMAT, INDEX_HEADER_BYTES, INDEX_INTERVAL, INDEX_MAGIC, INDEX_UUID, SEGMENT_BACKED, SEGMENT_HEADER_BYTES,
    SEGMENT_TAIL, UNIT_BYTES, tail_entries, tail_units,
)
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.scan cimport STEP_DATA, STEP_PAD, STOP_FULL, Frame, Walk, WalkState, uuid_seed, walk_step

cdef extern from "<fcntl.h>" nogil:
    int openat(int directory_fd, const char *path, int flags, ...)
    int O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_CLOEXEC, O_NONBLOCK

cdef extern from "<unistd.h>" nogil:
    Py_ssize_t pread(int fd, void *data, size_t length, long offset)
    Py_ssize_t pwrite(int fd, const void *data, size_t length, long offset)
    int c_close "close"(int fd)
    int c_fdatasync "fdatasync"(int fd)
    int getpid()
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
    CHUNK_RECORDS = 128
    CHUNK_BYTES = CHUNK_RECORDS * BOUNDARY_SIZE_BYTES
    FILE_NAME_BYTES_MAX = 200
    TEMPORARY_TRIES = 100

cdef const char *MAGIC = "COMETIDX"

crc32c_initialise()


cdef int find(
    WalkState *walk, uint32_t interval, uint64_t *next_entry, Boundary *found, uint32_t found_max, uint32_t *count
) noexcept nogil:
    """Walk on and note boundaries until ``found`` is full (STOP_FULL) or the walk stops; returns why."""
    cdef Frame frame
    cdef int step = STEP_DATA
    count[0] = 0
    while step <= STEP_PAD:
        if count[0] == found_max:
            return STOP_FULL
        step = walk_step(walk, &frame)
        if step == STEP_DATA and frame.first_index >= next_entry[0]:
            found[count[0]].unit = <uint32_t>frame.unit
            found[count[0]].entry = frame.first_index
            found[count[0]].live = <uint32_t>(walk.live_entries - frame.entries)
            found[count[0]].timestamp_ns = frame.timestamp_ns
            count[0] += 1
            next_entry[0] = <uint64_t>frame.first_index + interval
    return step


cdef uint32_t record_checksum(uint32_t seed, uint32_t number, const Boundary *boundary) noexcept nogil:
    cdef uint8_t covered[24]
    memcpy(covered, &number, 4)
    memcpy(covered + 4, &boundary.unit, 4)
    memcpy(covered + 8, &boundary.entry, 4)
    memcpy(covered + 12, &boundary.live, 4)
    memcpy(covered + 16, &boundary.timestamp_ns, 8)
    return crc32c_finish(crc32c_update(seed, covered, 24))


cdef void encode_record(uint8_t *record, uint32_t seed, uint32_t number, const Boundary *boundary) noexcept nogil:
    cdef uint32_t checksum = record_checksum(seed, number, boundary)
    memcpy(record + BOUNDARY_UNIT, &boundary.unit, 4)
    memcpy(record + BOUNDARY_ENTRY, &boundary.entry, 4)
    memcpy(record + BOUNDARY_LIVE, &boundary.live, 4)
    memcpy(record + BOUNDARY_CHECKSUM, &checksum, 4)
    memcpy(record + BOUNDARY_TIMESTAMP, &boundary.timestamp_ns, 8)


cdef bint decode_record(const uint8_t *record, uint32_t seed, uint32_t number, Boundary *boundary) noexcept nogil:
    """Fill ``boundary``; false if the record's checksum does not hold."""
    cdef uint32_t stored
    memcpy(&boundary.unit, record + BOUNDARY_UNIT, 4)
    memcpy(&boundary.entry, record + BOUNDARY_ENTRY, 4)
    memcpy(&boundary.live, record + BOUNDARY_LIVE, 4)
    memcpy(&stored, record + BOUNDARY_CHECKSUM, 4)
    memcpy(&boundary.timestamp_ns, record + BOUNDARY_TIMESTAMP, 8)
    return stored == record_checksum(seed, number, boundary)


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


def find_boundaries(Walk walk not None, uint64_t tail, uint64_t readable_units, uint32_t interval, uint64_t next_entry):
    """Advance a walk, verifying every frame, and return (why it stopped, boundaries, next_entry).

    A boundary is (unit, entry index, live entries before, timestamp_ns); ``next_entry`` is the lowest index the next one may
    have: 0 at the start of a segment, afterwards what the call before returned.
    """
    cdef Boundary found[CHUNK_RECORDS]
    cdef uint32_t count, position
    cdef list boundaries = []
    walk.set_limits(tail, readable_units)
    walk.state.verify = True
    walk.stop = STOP_FULL
    while walk.stop == STOP_FULL:
        with nogil:
            walk.stop = find(&walk.state, interval, &next_entry, found, CHUNK_RECORDS, &count)
        for position in range(count):
            boundaries.append(
                (found[position].unit, found[position].entry, found[position].live, found[position].timestamp_ns)
            )
    return walk.stop, boundaries, next_entry


def decode_records(const uint8_t[::1] records, const uint8_t[::1] uuid):
    """Return the boundaries of an index file's records, as find_boundaries does; ValueError if a checksum does not hold."""
    cdef Boundary boundary
    cdef list boundaries = []
    cdef Py_ssize_t number
    cdef uint32_t seed
    if uuid.shape[0] != 16 or records.shape[0] % BOUNDARY_SIZE_BYTES:
        raise ValueError(f"uuid of {uuid.shape[0]} bytes, records of {records.shape[0]} bytes")
    seed = uuid_seed(&uuid[0])
    for number in range(records.shape[0] // BOUNDARY_SIZE_BYTES):
        if not decode_record(&records[number * BOUNDARY_SIZE_BYTES], seed, <uint32_t>number, &boundary):
            raise ValueError(f"checksum of record {number} does not hold")
        boundaries.append((boundary.unit, boundary.entry, boundary.live, boundary.timestamp_ns))
    return boundaries


cdef class IndexWriter:
    """Keeps the ``.idx`` of one segment up to its resolved prefix; the file is opened, or made, by the first checkpoint.

    ``mapping`` covers the segment; ``interval`` is in entries; ``directory_fd`` stays the caller's and outlives this object.
    A file that is there and true is continued; any other is replaced.
    """

    def __cinit__(
        self, Mapping mapping, const uint8_t[::1] uuid, uint32_t interval, int directory_fd, str file_name, int mode=0o600
    ):
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
        self.file_name = encoded
        self.path = encoded
        self.directory_fd = directory_fd
        self.mode = mode
        self.interval = interval
        memcpy(self.uuid, &uuid[0], 16)
        self.reset()

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)
        PyBuffer_Release(&self.view)
        pthread_mutex_destroy(&self.mutex)

    cdef void reset(self) noexcept nogil:
        memset(&self.walk, 0, sizeof(WalkState))
        self.walk.units = <const uint8_t *>self.view.buf + SEGMENT_HEADER_BYTES
        self.walk.seed = uuid_seed(self.uuid)
        self.count = 0
        self.next_entry = 0

    cdef int checkpoint(self) noexcept nogil:
        """Cover what is resolved by now. Returns 0 or errno; after an error the next call tries again.

        Damage in the segment is not this function's matter: it covers what lies before.
        """
        cdef int result
        pthread_mutex_lock(&self.mutex)
        result = self.checkpoint_locked()
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
        if self.fd < 0:
            error = self.attach_file()
            if error != 0:
                return error
        covered = self.walk.unit
        while stop == STOP_FULL:
            before = self.walk
            next_entry = self.next_entry
            stop = find(&self.walk, self.interval, &self.next_entry, found, CHUNK_RECORDS, &count)
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
        return error

    cdef int attach_file(self) noexcept nogil:
        """Open the file and go on from it, or replace it; returns 0 or errno."""
        cdef uint64_t tail_units_now = self.walk.tail_units
        cdef uint64_t tail_entries_now = self.walk.tail_entries
        cdef uint64_t readable_units = self.walk.readable_units
        cdef int error = 0
        self.reset()
        self.fd = openat(self.directory_fd, self.path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        if self.fd < 0 or self.resume(tail_units_now, tail_entries_now) != 0:
            if self.fd >= 0:
                c_close(self.fd)
                self.fd = -1
            self.reset()
            error = self.create()
        self.walk.tail_units = tail_units_now
        self.walk.tail_entries = tail_entries_now
        self.walk.readable_units = readable_units
        return error

    cdef int resume(self, uint64_t tail_units_now, uint64_t tail_entries_now) noexcept nogil:
        """Take count and position from the open file; nonzero if it is not a true index of this segment and interval."""
        cdef uint8_t header[INDEX_HEADER_BYTES]
        cdef uint8_t chunk[CHUNK_BYTES]
        cdef Boundary boundary
        cdef uint32_t stored, count, number, position, records, covered_unit, covered_entries, covered_live, interval, version
        cdef uint32_t chunk_records = CHUNK_RECORDS
        if transfer(self.fd, header, INDEX_HEADER_BYTES, 0, False) != 0:
            return 1
        memcpy(&stored, header + INDEX_CHECKSUM, 4)
        if crc32c_finish(crc32c_update(CRC32C_START, header, INDEX_CHECKSUM)) != stored:
            return 1
        memcpy(&version, header + INDEX_FORMAT, 4)
        memcpy(&interval, header + INDEX_INTERVAL, 4)
        memcpy(&count, header + INDEX_COUNT, 4)
        memcpy(&covered_unit, header + INDEX_COVERED_UNIT, 4)
        memcpy(&covered_entries, header + INDEX_COVERED_ENTRIES, 4)
        memcpy(&covered_live, header + INDEX_COVERED_LIVE, 4)
        if (
            memcmp(header + INDEX_MAGIC, MAGIC, 8) != 0 or version != FORMAT_VERSION or interval != self.interval
            or memcmp(header + INDEX_UUID, self.uuid, 16) != 0 or covered_unit > tail_units_now
            or covered_entries > tail_entries_now or covered_live > covered_entries
        ):
            return 1
        number = 0
        while number < count:
            records = min(count - number, chunk_records)
            if transfer(self.fd, chunk, records * BOUNDARY_SIZE_BYTES, record_offset(number), False) != 0:
                return 1
            for position in range(records):
                if not decode_record(chunk + position * BOUNDARY_SIZE_BYTES, self.walk.seed, number + position, &boundary):
                    return 1
                if boundary.entry < self.next_entry or boundary.unit >= covered_unit:
                    return 1
                self.next_entry = <uint64_t>boundary.entry + interval
            number += records
        self.count = count
        self.walk.unit = covered_unit
        self.walk.next_index = covered_entries
        self.walk.live_entries = covered_live
        return 0

    cdef int create(self) noexcept nogil:
        """Put an empty index in place by temporary and rename; returns 0 or errno."""
        cdef timespec now
        cdef int error = EEXIST
        cdef int attempt
        for attempt in range(TEMPORARY_TRIES):
            clock_gettime(CLOCK_MONOTONIC, &now)
            snprintf(self.temporary, sizeof(self.temporary), "%s.tmp.%d.%lx", self.path, getpid(), now.tv_nsec + attempt)
            self.fd = openat(
                self.directory_fd, self.temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, self.mode
            )
            error = 0 if self.fd >= 0 else errno
            if error != EEXIST:
                break
        if self.fd < 0:
            return error
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
            encode_record(chunk + position * BOUNDARY_SIZE_BYTES, self.walk.seed, self.count + position, &found[position])
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
        """Cover what is resolved by now and return the units covered; OSError if the file cannot be written."""
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
        """Close the file, without a checkpoint; a later checkpoint opens it again. Closing twice is harmless."""
        with nogil:
            pthread_mutex_lock(&self.mutex)
            if self.fd >= 0:
                c_close(self.fd)
                self.fd = -1
            pthread_mutex_unlock(&self.mutex)

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


cdef inline long record_offset(uint32_t number) noexcept nogil:
    return INDEX_HEADER_BYTES + <long>number * BOUNDARY_SIZE_BYTES
