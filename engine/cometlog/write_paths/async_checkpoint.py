"""The async write path, the guide's second generation: file lock, pwrite, fdatasync; the index follows in the background.

Durable means: a returned append survives the death of the process and power loss. The index is derived, and written by
checkpoints of the helper thread (``storage.checkpoint_interval_ms``).
"""

import os

from cometlog.durability import poisoned_error
from cometlog.locks import APPEND_BYTE
from cometlog.write_paths.file_lock import FileLockPath


class AsyncPath(FileLockPath):
    """Holds lock byte 4 around write, fdatasync and commit."""

    name = "async"

    def _begin(self) -> None:
        self._segment_begun_durably = -1
        # What an earlier owner left unsynced lies below every durable position that this path will publish.
        self.shard.sync()

    def _lock(self) -> None:
        self.shard.locks.wait_exclusive(APPEND_BYTE)
        try:
            self.shard.place.check_file("lock")
        except BaseException:
            self._unlock()
            raise

    def _unlock(self) -> None:
        self.shard.locks.unlock(APPEND_BYTE)

    def _commit(self) -> int:
        segment = self.shard.segment
        try:
            os.fdatasync(segment.fd)
            if segment.number != self._segment_begun_durably:
                self.shard.sync_way_to_segment()
                self._segment_begun_durably = segment.number
        except OSError as error:
            self.shard.control.poison()
            raise poisoned_error(self.stream) from error
        first = self._frames.publish()
        self.shard.syncer.note_durable(segment)
        return first
