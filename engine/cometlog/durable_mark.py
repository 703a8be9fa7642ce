"""The durable mark: how far a shard is on stable storage. Format: FORMAT.md, "The durable mark"."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from cometlog.files import open_checked, open_or_create
from cometlog.kernel import layout
from cometlog.kernel.checksum import crc32c

_MARK = struct.Struct("<QQQQ16sQ4x")


@dataclass(frozen=True, slots=True)
class DurableMark:
    """Everything before ``unit`` of segment ``number`` is durable; ``next_entry`` is the entry number there."""

    sequence: int
    number: int
    unit: int
    next_entry: int
    uuid: bytes
    epoch: int

    def encode(self) -> bytes:
        """Return the 64 bytes of one slot of the file."""
        raw = _MARK.pack(self.sequence, self.number, self.unit, self.next_entry, self.uuid, self.epoch)
        return raw + struct.pack("<I", crc32c(raw))


def decode_mark(raw: bytes) -> DurableMark | None:
    """Return the mark in one slot, or None where it was never written or is damaged."""
    if len(raw) < layout.MARK_SIZE_BYTES:
        return None
    mark = DurableMark(*_MARK.unpack_from(raw))
    stored = int.from_bytes(raw[layout.MARK_CHECKSUM : layout.MARK_SIZE_BYTES], "little")
    return mark if mark.sequence and stored == crc32c(raw[: layout.MARK_CHECKSUM]) else None


def read_mark(path: Path, directory_fd: int | None = None) -> DurableMark | None:
    """Return the newer valid mark of the file; None where there is none. ``directory_fd``: the directory that holds it."""
    try:
        fd = open_checked(path, os.O_RDONLY, directory_fd)
    except FileNotFoundError:
        return None
    try:
        slots = [
            os.pread(fd, layout.MARK_SIZE_BYTES, index * layout.MARK_SLOT_STRIDE_BYTES) for index in range(2)
        ]
    finally:
        os.close(fd)
    marks = [mark for mark in map(decode_mark, slots) if mark is not None]
    return max(marks, key=lambda mark: mark.sequence, default=None)


class MarkFile:
    """The file, open for the holder of the sync byte. A write that is lost leaves the older mark, which is legal."""

    def __init__(self, path: Path, file_mode: int, directory_fd: int | None = None) -> None:
        self._fd = open_or_create(path, file_mode, directory_fd)
        try:
            # Both slots exist before the first mark: a disk that fills up later cannot fail an append that is durable.
            os.posix_fallocate(self._fd, 0, layout.MARK_SLOT_STRIDE_BYTES + layout.MARK_SIZE_BYTES)
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, mark: DurableMark) -> None:
        """Store a mark in the slot of its sequence, unsynced."""
        os.pwrite(self._fd, mark.encode(), mark.sequence % 2 * layout.MARK_SLOT_STRIDE_BYTES)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
