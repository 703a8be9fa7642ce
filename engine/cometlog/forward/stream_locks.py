"""One live forwarder for each stream of a group: a byte of the shard's ``lock`` file.

The lock ends with its process, however that ends. Format: FORMAT.md, "The control file".
"""

from pathlib import Path

from cometlog.errors import ForwarderBusyError
from cometlog.group_offsets import GroupOffsets
from cometlog.lock_wait import holder_name
from cometlog.locks import FORWARD_BYTE_FIRST, ShardLocks
from cometlog.names import parse_stream


class StreamLocks:
    """The streams that this forwarder holds for its group."""

    def __init__(self, root: Path, group: str, file_mode: int) -> None:
        self._root = root
        self._group = group
        self._file_mode = file_mode
        self._held: dict[str, ShardLocks] = {}

    def take(self, stream: str) -> None:
        """Lock a stream whose shard knows the group. Raises ForwarderBusyError naming the process that has it."""
        if stream in self._held:
            return
        directory = parse_stream(stream).directory(self._root)
        offsets = GroupOffsets(directory, stream)
        try:
            line = next(line for line in offsets.lines() if line.name == self._group)
        finally:
            offsets.close()
        locks = ShardLocks(directory / "lock", self._file_mode)
        byte = FORWARD_BYTE_FIRST + line.index
        if not locks.try_exclusive(byte):
            holder = holder_name(locks, byte)
            locks.close()
            raise ForwarderBusyError(
                f"{holder} forwards {stream} for group {self._group!r} already; stop it, give this one another group, or share the "
                f"shards by assignment"
            )
        self._held[stream] = locks

    def close(self) -> None:
        """Let go of every stream."""
        while self._held:
            self._held.popitem()[1].close()
