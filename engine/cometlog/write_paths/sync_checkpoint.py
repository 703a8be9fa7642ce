"""The sync write path, the guide's first generation: file lock, pwrite, fdatasync, and the index persisted and synced, every time.

Durable means: a returned append and its index survive the death of the process and power loss.
"""

from cometlog.segment import tail_parts
from cometlog.write_paths.async_checkpoint import AsyncPath


class SyncPath(AsyncPath):
    """The async path with the index brought up to date and synced before an append returns."""

    name = "sync"
    index_in_background = False

    def _commit(self) -> int:
        units_before = tail_parts(self.shard.segment.tail())[1]
        first = super()._commit()
        self.shard.persist_index(units_before)
        return first
