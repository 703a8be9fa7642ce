"""The durable mark: how far a shard is on stable storage. Format: FORMAT.md, "The durable mark"."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from cometlog.errors import CorruptionError
from cometlog.files import open_checked, open_or_create
from cometlog.kernel import layout
from cometlog.kernel.checksum import crc32c
from cometlog.segment import NUMBER_MAX, SegmentHeader

_MARK = struct.Struct("<QQQQ16sQ4x")
_SEQUENCE_END = 1 << 63
_INDEX_MAX = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class DurableMark:
    """Everything before ``unit`` of segment ``number`` is durable; ``next_entry`` is the entry number there."""

    sequence: int
    number: int
    unit: int
    next_entry: int
    uuid: bytes
    epoch: int

    def index_in(self, header: SegmentHeader, path: Path) -> int:
        """Return the entry index that the mark states in its segment, whose header and path are given.

        Raises CorruptionError where the segment of that number is not the one that was marked, or cannot hold the position.
        """
        if header.uuid != self.uuid:
            raise CorruptionError(
                f"segment {header.number} is not the one that was made durable: its uuid is {header.uuid.hex()}, "
                f"the durable mark says {self.uuid.hex()}",
                file=str(path), offset=layout.SEGMENT_UUID,
            )  # fmt: skip
        index = self.next_entry - header.base
        if not 0 <= index <= _INDEX_MAX or self.unit > header.capacity_units:
            raise CorruptionError(
                f"durable mark at unit {self.unit}, entry {self.next_entry} lies outside segment {header.number}",
                file=str(path.with_name("durable")), offset=self.sequence % 2 * layout.MARK_SLOT_STRIDE_BYTES,
            )  # fmt: skip
        return index

    def covers(self, number: int, unit: int) -> bool:
        """Return whether a unit of a segment lies before the mark: what is there is resolved and on stable storage."""
        return number < self.number or (number == self.number and unit < self.unit)

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
    plausible = 0 < mark.sequence < _SEQUENCE_END and mark.number <= NUMBER_MAX
    return mark if plausible and stored == crc32c(raw[: layout.MARK_CHECKSUM]) else None


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
