"""The ``offsets`` file of a shard: where each consumer group stands. Format: FORMAT.md, "The group offsets".

Thread safety: lines are made under lock byte 6, their position word last; afterwards a position is one word that changes by CAS, so
readers take no lock. Invariant: a line that is taken is never freed, and lines are taken in order.
"""

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cometlog.errors import CorruptionError, GroupTableFullError, NewerFormatError, ShardBusyError
from cometlog.files import open_checked, sync_directory
from cometlog.fixed_file import create_fixed_file
from cometlog.kernel import layout
from cometlog.kernel.checksum import crc32c
from cometlog.kernel.group_position import GroupPosition, decode_position, encode_position
from cometlog.kernel.mapping import Mapping
from cometlog.lock_wait import holder_name
from cometlog.locks import GROUP_BYTE, ShardLocks

OFFSETS_FILE = "offsets"
_WAIT_S = 10.0
_LOOK_AGAIN_S = 0.0005
_LINE = struct.Struct(f"<QQQII{layout.GROUP_NAME_BYTES_MAX}s")


@dataclass(frozen=True, slots=True)
class GroupLine:
    """One taken line of the table: its index, the group's name, and the entry number below which all is acknowledged.

    ``position`` is None where it and its checkpoint are damaged.
    """

    index: int
    name: str
    position: int | None


def _checksum(index: int, created_ns: int, name: bytes) -> int:
    return crc32c(struct.pack("<IQ", index, created_ns) + name)


class GroupOffsets:
    """The mapped table. Without ``file_mode`` it is read-only, and FileNotFoundError says that no group was ever made."""

    def __init__(self, directory: Path, stream: str, file_mode: int | None = None) -> None:
        self._directory = directory
        self._stream = stream
        self.path = directory / OFFSETS_FILE
        writable = file_mode is not None
        if file_mode is not None:
            self._create(file_mode)
        self._fd = open_checked(self.path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            self._check_header()
            self.mapping = Mapping(self._fd, layout.OFFSETS_SIZE_BYTES, writable)
        except BaseException:
            os.close(self._fd)
            raise

    def _create(self, file_mode: int) -> None:
        if os.path.lexists(self.path):
            return
        head = layout.OFFSETS_MAGIC_BYTES + struct.pack("<II", layout.FORMAT_VERSION, layout.GROUP_COUNT)
        create_fixed_file(self.path, head, layout.OFFSETS_SIZE_BYTES, file_mode, durable=True)
        sync_directory(self._directory)

    def _check_header(self) -> None:
        size = os.fstat(self._fd).st_size
        head = os.pread(self._fd, layout.OFFSETS_GROUP_COUNT + 4, 0)
        if size != layout.OFFSETS_SIZE_BYTES:
            raise self._corruption(f"offsets has {size} bytes, not {layout.OFFSETS_SIZE_BYTES}", 0)
        if head[:8] != layout.OFFSETS_MAGIC_BYTES:
            raise self._corruption(f"offsets magic is {head[:8]!r}", layout.OFFSETS_MAGIC)
        version, groups = struct.unpack_from("<II", head, layout.OFFSETS_FORMAT)
        if version > layout.FORMAT_VERSION:
            raise NewerFormatError(
                f"{self.path} has format {version}; this engine reads up to {layout.FORMAT_VERSION}"
            )
        if version != layout.FORMAT_VERSION or groups != layout.GROUP_COUNT:
            raise self._corruption(f"offsets has format {version} and {groups} groups", layout.OFFSETS_FORMAT)

    def _corruption(self, what: str, offset: int) -> CorruptionError:
        return CorruptionError(what, file=str(self.path), offset=offset, stream=self._stream)

    def lines(self) -> list[GroupLine]:
        """Return the groups of the shard in the order in which they were made; raises CorruptionError at a damaged line."""
        found = []
        for index in range(layout.GROUP_COUNT):
            line = self._line(index)
            if line is None:
                break
            found.append(line)
        return found

    def _line(self, index: int) -> GroupLine | None:
        offset = layout.OFFSETS_GROUPS + index * layout.GROUP_SIZE_BYTES
        word = self.mapping.load_acquire(offset + layout.GROUP_POSITION)
        if word == 0:
            return None
        raw = self.mapping.read(offset, layout.GROUP_SIZE_BYTES)
        _, checkpoint, created_ns, length, checksum, padded = _LINE.unpack(raw)
        name = padded[:length]
        if not 1 <= length <= layout.GROUP_NAME_BYTES_MAX or checksum != _checksum(index, created_ns, name):
            raise self._corruption(f"line {index} of the group offsets is damaged", offset)
        position = decode_position(word)
        if position is None:
            position = decode_position(checkpoint)
        return GroupLine(index, name.decode(), position)

    def _sound(self, line: GroupLine) -> GroupLine:
        if line.position is None:
            raise self._corruption(
                f"the position of group {line.name!r} and its checkpoint are damaged; reset the group to an entry number to go on",
                layout.OFFSETS_GROUPS + line.index * layout.GROUP_SIZE_BYTES,
            )
        return line

    def find(self, name: str) -> GroupLine | None:
        """Return the line of a group, or None where the shard does not know it; raises CorruptionError for a damaged position."""
        return next((self._sound(line) for line in self.lines() if line.name == name), None)

    def find_or_make(self, name: str, position: int, file_mode: int) -> GroupLine:
        """Return the line of a group, making it with ``position`` where the shard does not know it yet.

        Raises GroupTableFullError where 512 others are there.
        """
        found = self.find(name)
        if found is not None:
            return found
        locks = ShardLocks(self._directory / "lock", file_mode)
        try:
            until = time.monotonic() + _WAIT_S
            while not locks.try_exclusive(GROUP_BYTE):
                if time.monotonic() > until:
                    raise ShardBusyError(
                        f"{self._stream}: group {name!r} was not made: {holder_name(locks, GROUP_BYTE)} has held lock byte "
                        f"{GROUP_BYTE} of {locks.path} for {_WAIT_S} s; continue it or kill it"
                    )
                time.sleep(_LOOK_AGAIN_S)
            return self.find(name) or self._make(name, position)
        finally:
            locks.close()

    def _make(self, name: str, position: int) -> GroupLine:
        index = len(self.lines())
        if index == layout.GROUP_COUNT:
            raise GroupTableFullError(
                f"{self._stream} has {layout.GROUP_COUNT} consumer groups, the most there can be; {name!r} is one more"
            )
        offset = layout.OFFSETS_GROUPS + index * layout.GROUP_SIZE_BYTES
        word, created_ns, encoded = encode_position(position), time.time_ns(), name.encode()
        checksum = _checksum(index, created_ns, encoded)
        line = _LINE.pack(0, word, created_ns, len(encoded), checksum, encoded)
        self.mapping.write(offset, line)
        # A line whose maker was killed before this store is free, and is filled again by the next.
        self.mapping.store_release(offset + layout.GROUP_POSITION, word)
        os.fdatasync(self._fd)
        return GroupLine(index, name, position)

    def position_of(self, line: GroupLine, settle: Callable[[int, int], None]) -> GroupPosition:
        """Return the handle that acknowledges for a group."""
        position = GroupPosition(self.mapping, line.index, settle=settle)
        position.follow()
        return position

    def lower_beyond(self, end: int) -> int:
        """Set every position beyond entry number ``end`` to it; return how many. Only under exclusive lock byte 0.

        A checkpoint is one too: a reset forward that was cut off leaves it ahead of the position.
        """
        lowered = 0
        for line in self.lines():
            if line.position is not None and max(line.position, self._checkpoint(line) or 0) > end:
                self._store(line, min(line.position, end))
                lowered += 1
        os.fdatasync(self._fd)
        return lowered

    def reset(self, name: str, number: int, file_mode: int) -> None:
        """Set a group's position to ``number``, forward or back, whatever it is now; a group that is not there is made."""
        line = next((line for line in self.lines() if line.name == name), None)
        if line is None:
            line = self.find_or_make(name, number, file_mode)
        self._store(line, number)
        os.fdatasync(self._fd)

    def _checkpoint(self, line: GroupLine) -> int | None:
        offset = layout.OFFSETS_GROUPS + line.index * layout.GROUP_SIZE_BYTES
        return decode_position(self.mapping.load_acquire(offset + layout.GROUP_CHECKPOINT))

    def _store(self, line: GroupLine, number: int) -> None:
        offset = layout.OFFSETS_GROUPS + line.index * layout.GROUP_SIZE_BYTES
        word = encode_position(number)
        # The checkpoint first: a position that is found damaged never falls back to one from before.
        self.mapping.store_release(offset + layout.GROUP_CHECKPOINT, word)
        self.mapping.store_release(offset + layout.GROUP_POSITION, word)
        # Again: a checkpoint of the old position may have come between; one that comes later looks at the position again.
        self.mapping.fence()
        self.mapping.store_release(offset + layout.GROUP_CHECKPOINT, word)

    def sync(self) -> None:
        """Make the positions as they are now durable. Raises OSError where the file system does not."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Unmap and close. Closing twice is harmless."""
        self.mapping.close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
