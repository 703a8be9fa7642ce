"""Boundaries of the sparse index: found by a walk, encoded as records. Format: FORMAT.md, "The index".

Thread safety: functions only; the walk they are given belongs to one thread. Invariants: only resolved frames
become boundaries, so a boundary never moves.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cometlog.kernel.checksum cimport crc32c_finish, crc32c_initialise, crc32c_update
from cometlog.kernel.layout cimport (
    BOUNDARY_CHECKSUM, BOUNDARY_ENTRY, BOUNDARY_LIVE, BOUNDARY_SIZE_BYTES, BOUNDARY_TIMESTAMP, BOUNDARY_UNIT,
)
from cometlog.kernel.scan cimport STEP_DATA, STEP_PAD, STOP_FULL, Frame, Walk, WalkState, uuid_seed, walk_step

crc32c_initialise()


cdef int find_chunk(
    WalkState *walk, uint32_t interval, uint64_t *next_entry, Boundary *found, uint32_t found_max,
    uint32_t *count
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


cdef void encode_record(
    uint8_t *record, uint32_t seed, uint32_t number, const Boundary *boundary
) noexcept nogil:
    cdef uint32_t checksum = record_checksum(seed, number, boundary)
    memcpy(record + BOUNDARY_UNIT, &boundary.unit, 4)
    memcpy(record + BOUNDARY_ENTRY, &boundary.entry, 4)
    memcpy(record + BOUNDARY_LIVE, &boundary.live, 4)
    memcpy(record + BOUNDARY_CHECKSUM, &checksum, 4)
    memcpy(record + BOUNDARY_TIMESTAMP, &boundary.timestamp_ns, 8)


cdef bint decode_record(
    const uint8_t *record, uint32_t seed, uint32_t number, Boundary *boundary
) noexcept nogil:
    """Fill ``boundary``; false if the record's checksum does not hold."""
    cdef uint32_t stored
    memcpy(&boundary.unit, record + BOUNDARY_UNIT, 4)
    memcpy(&boundary.entry, record + BOUNDARY_ENTRY, 4)
    memcpy(&boundary.live, record + BOUNDARY_LIVE, 4)
    memcpy(&stored, record + BOUNDARY_CHECKSUM, 4)
    memcpy(&boundary.timestamp_ns, record + BOUNDARY_TIMESTAMP, 8)
    return stored == record_checksum(seed, number, boundary)


def find_boundaries(
    Walk walk not None, uint64_t tail, uint64_t readable_units, uint32_t interval, uint64_t next_entry
):
    """Advance a walk, verifying every frame, and return (why it stopped, boundaries, next_entry).

    A boundary is (unit, entry index, live entries before, timestamp_ns); ``next_entry`` is the lowest index
    that the next one may have: 0 at the start of a segment, afterwards what the call before returned.
    """
    cdef Boundary found[CHUNK_RECORDS]
    cdef uint32_t count, position
    cdef list boundaries = []
    walk.set_limits(tail, readable_units)
    walk.state.verify = True
    walk.stop = STOP_FULL
    while walk.stop == STOP_FULL:
        with nogil:
            walk.stop = find_chunk(&walk.state, interval, &next_entry, found, CHUNK_RECORDS, &count)
        for position in range(count):
            boundaries.append((
                found[position].unit, found[position].entry, found[position].live,
                found[position].timestamp_ns,
            ))
    return walk.stop, boundaries, next_entry


def decode_records(const uint8_t[::1] records, const uint8_t[::1] uuid, uint32_t first_number=0):
    """Return the boundaries that an index file's records from ``first_number`` on hold; ValueError if a checksum is wrong."""
    cdef Boundary boundary
    cdef list boundaries = []
    cdef Py_ssize_t number
    cdef uint32_t seed
    if uuid.shape[0] != 16 or records.shape[0] % BOUNDARY_SIZE_BYTES:
        raise ValueError(f"uuid of {uuid.shape[0]} bytes, records of {records.shape[0]} bytes")
    seed = uuid_seed(&uuid[0])
    for number in range(records.shape[0] // BOUNDARY_SIZE_BYTES):
        if not decode_record(
            &records[number * BOUNDARY_SIZE_BYTES], seed, first_number + <uint32_t>number, &boundary
        ):
            raise ValueError(f"checksum of record {first_number + number} does not hold")
        boundaries.append((boundary.unit, boundary.entry, boundary.live, boundary.timestamp_ns))
    return boundaries
