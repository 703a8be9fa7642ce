"""The async write path, the guide's second generation: file lock, pwrite, fdatasync; the index follows in the background.

Durable means: a returned append survives the death of the process and power loss. The index is derived, and written by
checkpoints of the helper thread (``storage.checkpoint_interval_ms``).
"""

import os
import time

from cometlog.durability import poisoned_error
from cometlog.kernel import layout
from cometlog.lock_wait import busy_error, release, wait_exclusive
from cometlog.locks import APPEND_BYTE
from cometlog.segment import Segment
from cometlog.statistics_file import count
from cometlog.write_paths.file_lock import FileLockPath


class AsyncPath(FileLockPath):
    """Holds lock byte 4 around write, fdatasync and commit."""

    name = "async"

    def _begin(self) -> None:
        self._segment_begun_durably = -1
        # What an earlier owner left unsynced lies below every durable position that this path will publish.
        self.shard.sync()

    def _lock(self) -> None:
        shard, timeout_s = self.shard, self.shard.config.concurrency.stall_timeout_s
        if not shard.locks.try_exclusive(APPEND_BYTE) and not self._wait(timeout_s):
            raise busy_error(shard.locks, APPEND_BYTE, f"{self.stream}: nothing was appended", timeout_s)
        try:
            shard.place.check_file("lock")
        except BaseException:
            self._unlock()
            raise

    def _wait(self, timeout_s: float) -> bool:
        shard, started_ns = self.shard, time.monotonic_ns()
        locked = wait_exclusive(shard.locks, shard.control, APPEND_BYTE, timeout_s)
        count(shard.statistics, layout.STATISTICS_LOCK_WAIT, time.monotonic_ns() - started_ns)
        return locked

    def _unlock(self) -> None:
        release(self.shard.locks, self.shard.control, APPEND_BYTE)

    def _prepare_segment(self) -> None:
        if self.shard.segment.number != self._segment_begun_durably:
            self.shard.sync_way_to_segment()
            self._segment_begun_durably = self.shard.segment.number

    def _sync_frame(self, segment: Segment) -> int:
        """Make the frame that was written durable, and return when that began, by the monotonic clock in ns; raises OSError."""
        started_ns = time.monotonic_ns()
        os.fdatasync(segment.fd)
        return started_ns

    def _commit(self) -> int:
        segment = self.shard.segment
        try:
            started_ns = self._sync_frame(segment)
        except OSError as error:
            self.shard.control.poison()
            raise poisoned_error(self.stream) from error
        first = self._frames.publish()
        self.shard.syncer.note_durable(segment, started_ns)
        return first
