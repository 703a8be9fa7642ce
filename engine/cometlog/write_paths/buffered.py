"""The buffered write path, the guide's single-process mode: one process owns the shard, one pwrite per append.

Durable means: a returned append is in the page cache and survives the death of the process; power loss only what a returned ``sync``
covers. The index is written by checkpoints of the helper thread.
"""

from cometlog.write_paths.file_lock import FileLockPath


class BufferedPath(FileLockPath):
    """Holds lock byte 0 exclusively for life, so ``shard.lock`` is all that an append takes."""

    name = "buffered"
    exclusive = True

    def _lock(self) -> None:
        # Two loads instead of a system call: who came by another `lock` file is alone there too, and took the same slot.
        if self.shard.slots.somebody_took(self.shard.rotation_slot):
            raise self.shard.place.lost(self.shard.directory / "lock")
