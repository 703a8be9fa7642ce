"""Every constant of the on-disk format, each offset computed from the field before it. See FORMAT.md."""

from libc.stdint cimport uint32_t, uint64_t

cpdef enum:
    FORMAT_VERSION = 1
    UNIT_BYTES = 8
    LINE_BYTES = 128
    PAGE_BYTES = 4096

# Segment header: magic | format | header size | number | base | uuid | previous uuid | epoch | capacity | created | checksum,
# then `tail`, `backed` and the boot identity, each alone on its line.
cpdef enum:
    SEGMENT_MAGIC = 0
    SEGMENT_FORMAT = SEGMENT_MAGIC + 8
    SEGMENT_HEADER_SIZE = SEGMENT_FORMAT + 4
    SEGMENT_NUMBER = SEGMENT_HEADER_SIZE + 4
    SEGMENT_BASE = SEGMENT_NUMBER + 8
    SEGMENT_UUID = SEGMENT_BASE + 8
    SEGMENT_PREVIOUS_UUID = SEGMENT_UUID + 16
    SEGMENT_EPOCH = SEGMENT_PREVIOUS_UUID + 16
    SEGMENT_CAPACITY = SEGMENT_EPOCH + 8
    SEGMENT_CREATED = SEGMENT_CAPACITY + 8
    SEGMENT_CHECKSUM = SEGMENT_CREATED + 8
    SEGMENT_TAIL = LINE_BYTES
    SEGMENT_BACKED = SEGMENT_TAIL + LINE_BYTES
    SEGMENT_BOOT_IDENTITY = SEGMENT_BACKED + LINE_BYTES
    SEGMENT_HEADER_BYTES = PAGE_BYTES

# Frame: word | crc32c | meta | timestamp | payload, padded to a unit.
cpdef enum:
    FRAME_WORD = 0
    FRAME_CHECKSUM = FRAME_WORD + 8
    FRAME_META = FRAME_CHECKSUM + 4
    FRAME_TIMESTAMP = FRAME_META + 4
    FRAME_PAYLOAD = FRAME_TIMESTAMP + 8
    FRAME_HEADER_BYTES = FRAME_PAYLOAD

cpdef enum:
    KIND_FREE = 0
    KIND_CLAIMED = 1
    KIND_DATA = 2
    KIND_PAD = 3
    KIND_SEAL = 4
    WORD_KIND_SHIFT = 29
    WORD_UNITS_MASK = (1 << WORD_KIND_SHIFT) - 1
    WORD_INDEX_SHIFT = 32

cpdef enum:
    CODEC_NONE = 0
    CODEC_ZSTD = 1
    CODEC_ZSTD_DICTIONARY = 2
    META_ENTRIES_BITS = 24
    META_ENTRIES_MASK = (1 << META_ENTRIES_BITS) - 1
    META_ZERO_MASK = 3 << META_ENTRIES_BITS
    META_CODEC_SHIFT = META_ENTRIES_BITS + 2
    META_PAD_SHIFT = META_CODEC_SHIFT + 3

cpdef enum:
    TAIL_SEALED_SHIFT = 31
    TAIL_UNITS_MASK = 0x7FFFFFFF
    TAIL_ENTRIES_SHIFT = 32

cpdef enum:
    MAX_BATCH_ENTRIES = META_ENTRIES_MASK
    MAX_BATCH_BYTES = 128 * 1024 * 1024
    MAX_CAPACITY_UNITS = 0x7FFFFFFF

# Control: magic | format | slot count | write path | boot identity, then one line each, then the slots.
cpdef enum:
    CONTROL_MAGIC = 0
    CONTROL_FORMAT = CONTROL_MAGIC + 8
    CONTROL_SLOT_COUNT = CONTROL_FORMAT + 4
    CONTROL_WRITE_PATH = CONTROL_SLOT_COUNT + 4
    CONTROL_BOOT_IDENTITY = CONTROL_WRITE_PATH + 8
    CONTROL_ACTIVE = LINE_BYTES
    CONTROL_FLAGS = CONTROL_ACTIVE + LINE_BYTES
    CONTROL_FUTEX = CONTROL_FLAGS + 8
    CONTROL_DURABLE_ENTRY = CONTROL_FLAGS + LINE_BYTES
    CONTROL_DURABLE_SEGMENT = CONTROL_DURABLE_ENTRY + 8
    CONTROL_CLEAN = CONTROL_DURABLE_ENTRY + LINE_BYTES
    CONTROL_SLOTS = PAGE_BYTES
    FLAG_WAITING = 1
    FLAG_POISONED = 2

cpdef enum:
    SLOT_STATE = 0
    SLOT_SEGMENT = SLOT_STATE + 8
    SLOT_CLAIM = SLOT_SEGMENT + 8
    SLOT_PID = SLOT_CLAIM + 8
    SLOT_START_TIME = SLOT_PID + 8
    SLOT_FRAMES = SLOT_START_TIME + 8
    SLOT_ENTRIES = SLOT_FRAMES + 8
    SLOT_BYTES = SLOT_ENTRIES + 8
    SLOT_FENCED = SLOT_BYTES + 8
    SLOT_ROTATIONS = SLOT_FENCED + 8
    SLOT_REPAIRS = SLOT_ROTATIONS + 8
    SLOT_SIZE_BYTES = LINE_BYTES
    SLOT_COUNT = 1024
    CONTROL_SIZE_BYTES = CONTROL_SLOTS + SLOT_COUNT * SLOT_SIZE_BYTES

cpdef enum:
    STATE_IDLE = 0
    STATE_BUSY = 1
    STATE_MARKED = 2
    STATE_ROTATING = 3
    STATE_MASK = 3
    STATE_COUNTER_SHIFT = 2

# The durable mark: two slots.
cpdef enum:
    MARK_SEQUENCE = 0
    MARK_SEGMENT = MARK_SEQUENCE + 8
    MARK_UNIT = MARK_SEGMENT + 8
    MARK_NEXT_ENTRY = MARK_UNIT + 8
    MARK_UUID = MARK_NEXT_ENTRY + 8
    MARK_EPOCH = MARK_UUID + 16
    MARK_CHECKSUM = 60
    MARK_SIZE_BYTES = 64
    MARK_SLOT_STRIDE_BYTES = 512

# The index: header, then boundary records.
cpdef enum:
    INDEX_MAGIC = 0
    INDEX_FORMAT = INDEX_MAGIC + 8
    INDEX_INTERVAL = INDEX_FORMAT + 4
    INDEX_UUID = INDEX_INTERVAL + 4
    INDEX_COUNT = INDEX_UUID + 16
    INDEX_COVERED_UNIT = INDEX_COUNT + 4
    INDEX_COVERED_ENTRIES = INDEX_COVERED_UNIT + 4
    INDEX_COVERED_LIVE = INDEX_COVERED_ENTRIES + 4
    INDEX_CHECKSUM = 60
    INDEX_HEADER_BYTES = 64

cpdef enum:
    BOUNDARY_UNIT = 0
    BOUNDARY_ENTRY = BOUNDARY_UNIT + 4
    BOUNDARY_LIVE = BOUNDARY_ENTRY + 4
    BOUNDARY_CHECKSUM = BOUNDARY_LIVE + 4
    BOUNDARY_TIMESTAMP = BOUNDARY_CHECKSUM + 4
    BOUNDARY_SIZE_BYTES = BOUNDARY_TIMESTAMP + 8


cdef inline uint64_t tail_units(uint64_t tail) noexcept nogil:
    return tail & TAIL_UNITS_MASK


cdef inline uint64_t tail_entries(uint64_t tail) noexcept nogil:
    return tail >> TAIL_ENTRIES_SHIFT


cdef inline bint tail_sealed(uint64_t tail) noexcept nogil:
    return (tail >> TAIL_SEALED_SHIFT) & 1


cdef inline uint32_t word_kind(uint64_t word) noexcept nogil:
    return (word >> WORD_KIND_SHIFT) & 7


cdef inline uint64_t word_units(uint64_t word) noexcept nogil:
    return word & WORD_UNITS_MASK


cdef inline uint64_t word_index(uint64_t word) noexcept nogil:
    return word >> WORD_INDEX_SHIFT


cdef inline uint64_t make_word(uint64_t index, uint64_t kind, uint64_t units) noexcept nogil:
    return (index << WORD_INDEX_SHIFT) | (kind << WORD_KIND_SHIFT) | units
