"""Format constants for Python; their values and their diagram stand in ``layout.pxd`` and FORMAT.md."""

from libc.stdint cimport uint64_t

SEGMENT_MAGIC_BYTES = b"COMETSEG"
CONTROL_MAGIC_BYTES = b"COMETCTL"
INDEX_MAGIC_BYTES = b"COMETIDX"
TAIL_SEALED = <uint64_t>1 << TAIL_SEALED_SHIFT
