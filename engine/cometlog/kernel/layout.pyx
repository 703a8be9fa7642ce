"""Format constants for Python; their values and their diagram stand in ``layout.pxd`` and FORMAT.md."""

SEGMENT_MAGIC_BYTES = b"COMETSEG"
CONTROL_MAGIC_BYTES = b"COMETCTL"
INDEX_MAGIC_BYTES = b"COMETIDX"
TAIL_SEALED = 1 << TAIL_SEALED_SHIFT
