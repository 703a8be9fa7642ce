"""Boundaries of the sparse index: found by a walk, encoded as records."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from cometlog.kernel.scan cimport WalkState

cdef enum:
    CHUNK_RECORDS = 128


cdef struct Boundary:
    uint64_t timestamp_ns
    uint32_t unit
    uint32_t entry
    # Live entries before it.
    uint32_t live


cdef int find_chunk(
    WalkState *walk, uint32_t interval, uint64_t *next_entry, Boundary *found, uint32_t found_max,
    uint32_t *count
) noexcept nogil
cdef void encode_record(
    uint8_t *record, uint32_t seed, uint32_t number, const Boundary *boundary
) noexcept nogil
cdef bint decode_record(
    const uint8_t *record, uint32_t seed, uint32_t number, Boundary *boundary
) noexcept nogil
