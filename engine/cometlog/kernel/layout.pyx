"""Format constants for Python; their values and their diagram stand in ``layout.pxd`` and FORMAT.md."""

from libc.stdint cimport uint64_t

SEGMENT_MAGIC_BYTES = b"COMETSEG"
CONTROL_MAGIC_BYTES = b"COMETCTL"
INDEX_MAGIC_BYTES = b"COMETIDX"
OFFSETS_MAGIC_BYTES = b"COMETOFF"
STATISTICS_MAGIC_BYTES = b"COMETSTA"
DICTIONARY_MAGIC_BYTES = b"COMETDIC"
TAIL_SEALED = <uint64_t>1 << TAIL_SEALED_SHIFT
MAX_ENTRY_NUMBER = (<uint64_t>1 << (64 - POSITION_CHECK_BITS)) - 1
