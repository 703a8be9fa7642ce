"""The sync write path, the guide's first generation: file lock, pwrite, fdatasync, and the index persisted and synced, every time.

Durable means: a returned append survives the death of the process and power loss, and so does its index unless the index could not
be written; then readers walk, and the next append brings it up to date.
"""

from contextlib import suppress

from cometlog.segment import tail_parts
from cometlog.write_paths.async_checkpoint import AsyncPath


class SyncPath(AsyncPath):
    """The async path with the index brought up to date and synced before an append returns."""

    name = "sync"
    index_in_background = False

    def _commit(self) -> int:
        units_before = tail_parts(self.shard.segment.tail())[1]
        first = super()._commit()
        with suppress(
            OSError
        ):  # the entry is durable and visible; a derived file that met a full disk fails no append
            self.shard.persist_index(units_before)
        return first
