"""A segment file: its name, its header, how it is listed and opened. Format: FORMAT.md, "A segment"."""

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cometlog.errors import CorruptionError, NewerFormatError
from cometlog.files import open_checked
from cometlog.kernel import layout
from cometlog.kernel.checksum import crc32c
from cometlog.kernel.mapping import Mapping

_NAME = re.compile(r"([0-9]{10})-([0-9]{20})\.seg")
_HEADER = struct.Struct("<8sIIQQ16s16sQQQ")
NUMBER_MAX = 10**10 - 1
"""Largest segment number: a file name has ten digits for it."""
BASE_MAX = 2**64 - 2**32
"""Largest base: the entries of one segment behind it still have numbers of 64 bits."""


class SegmentName(NamedTuple):
    """Number and base entry of a segment, as its file name states them. Sorts by number."""

    number: int
    base: int

    @property
    def file_name(self) -> str:
        """Name of the segment file."""
        return f"{self.number:010d}-{self.base:020d}.seg"

    @property
    def index_name(self) -> str:
        """Name of its index file."""
        return f"{self.number:010d}-{self.base:020d}.idx"


def parse_segment_name(file_name: str) -> SegmentName | None:
    """Return number and base of a segment's file name, or None for any other file."""
    match = _NAME.fullmatch(file_name)
    return SegmentName(int(match[1]), int(match[2])) if match else None


def list_segments(directory: Path | int) -> list[SegmentName]:
    """Return the segments of a shard, given by path or descriptor, lowest number first; a missing directory has none."""
    try:
        file_names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(name for name in map(parse_segment_name, file_names) if name is not None)


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The checksummed part of a segment's header page; ``capacity_units`` counts units for frames."""

    number: int
    base: int
    uuid: bytes
    previous_uuid: bytes
    epoch: int
    capacity_units: int
    created_ns: int

    def encode(self) -> bytes:
        """Return the first 92 bytes of the file."""
        fields = _HEADER.pack(
            layout.SEGMENT_MAGIC_BYTES, layout.FORMAT_VERSION, layout.SEGMENT_HEADER_BYTES, self.number, self.base,
            self.uuid, self.previous_uuid, self.epoch, self.capacity_units, self.created_ns,
        )  # fmt: skip
        return fields + struct.pack("<I", crc32c(fields))

    @property
    def file_length_max(self) -> int:
        """Bytes of the file when every unit is backed."""
        return layout.SEGMENT_HEADER_BYTES + self.capacity_units * layout.UNIT_BYTES


def decode_header(page: bytes, path: Path) -> SegmentHeader:
    """Return the header of a segment from its first bytes.

    Raises NewerFormatError for a later format and CorruptionError for anything that is not a whole, true header.
    """
    if len(page) < layout.SEGMENT_CHECKSUM + 4:
        raise CorruptionError(f"segment header has {len(page)} of 92 bytes", file=str(path), offset=0)
    magic, version, size, number, base, uuid, previous, epoch, capacity, created = _HEADER.unpack_from(page)
    if magic != layout.SEGMENT_MAGIC_BYTES:
        raise CorruptionError(f"segment magic is {magic!r}", file=str(path), offset=0)
    stored = int.from_bytes(page[layout.SEGMENT_CHECKSUM : layout.SEGMENT_CHECKSUM + 4], "little")
    actual = crc32c(page[: layout.SEGMENT_CHECKSUM])
    if stored != actual:
        raise CorruptionError(
            f"segment header checksum is {stored:#010x}, its bytes give {actual:#010x}",
            file=str(path), offset=layout.SEGMENT_CHECKSUM,
        )  # fmt: skip
    if version > layout.FORMAT_VERSION:
        raise NewerFormatError(
            f"{path} has format {version}; this engine reads up to {layout.FORMAT_VERSION}"
        )
    if version != layout.FORMAT_VERSION or size != layout.SEGMENT_HEADER_BYTES:
        raise CorruptionError(
            f"segment format {version} with a header of {size} bytes", file=str(path), offset=8
        )
    if not 0 < capacity <= layout.MAX_CAPACITY_UNITS:
        raise CorruptionError(
            f"segment capacity is {capacity} units, at most {layout.MAX_CAPACITY_UNITS}",
            file=str(path), offset=layout.SEGMENT_CAPACITY,
        )  # fmt: skip
    if base > BASE_MAX:
        raise CorruptionError(
            f"segment base is {base}, at most {BASE_MAX}", file=str(path), offset=layout.SEGMENT_BASE
        )
    name = parse_segment_name(path.name)
    if name is not None and name != (number, base):
        raise CorruptionError(
            f"segment header says number {number}, base {base}", file=str(path), offset=layout.SEGMENT_NUMBER
        )
    return SegmentHeader(number, base, uuid, previous, epoch, capacity, created)


def read_header(path: Path) -> tuple[SegmentHeader, int]:
    """Return the header of a segment file and the file's length in bytes, without mapping it."""
    fd = open_checked(path, os.O_RDONLY)
    try:
        return decode_header(os.pread(fd, layout.SEGMENT_HEADER_BYTES, 0), path), os.fstat(fd).st_size
    finally:
        os.close(fd)


class Segment:
    """An open, mapped segment. The descriptor stays open: it was opened before the first store, so syncs see every error.

    ``mapping`` covers the full capacity; only bytes below ``backed`` (writers) or the file's length (readers) may be touched.
    """

    def __init__(self, path: Path, *, writable: bool, directory_fd: int | None = None) -> None:
        self.path = path
        self.mapping: Mapping
        self.fd = open_checked(path, os.O_RDWR if writable else os.O_RDONLY, directory_fd)
        try:
            self.header = decode_header(os.pread(self.fd, layout.SEGMENT_HEADER_BYTES, 0), path)
            if os.fstat(self.fd).st_size < layout.SEGMENT_HEADER_BYTES:
                raise CorruptionError("segment is shorter than its header page", file=str(path), offset=0)
            self.mapping = Mapping(self.fd, self.header.file_length_max, writable)
        except BaseException:
            os.close(self.fd)
            raise

    @classmethod
    def adopt(cls, path: Path, fd: int, mapping: Mapping, header: SegmentHeader) -> "Segment":
        """Return the segment that this process has just published; it takes over descriptor and mapping."""
        segment = cls.__new__(cls)
        segment.path, segment.fd, segment.mapping, segment.header = path, fd, mapping, header
        return segment

    @property
    def number(self) -> int:
        """Segment number."""
        return self.header.number

    @property
    def base(self) -> int:
        """Entry number of the first entry."""
        return self.header.base

    def tail(self) -> int:
        """Return the tail word (acquire)."""
        return self.mapping.load_acquire(layout.SEGMENT_TAIL)

    def backed_units(self) -> int:
        """Return the units that are allocated on disk (acquire)."""
        return self.mapping.load_acquire(layout.SEGMENT_BACKED)

    def readable_units(self) -> int:
        """Return how many units the file's present length covers."""
        length = os.fstat(self.fd).st_size - layout.SEGMENT_HEADER_BYTES
        return min(length // layout.UNIT_BYTES, self.header.capacity_units)

    def allocate(self, first_unit: int, stop_unit: int) -> None:
        """Have the file system back these units, and the file reach them; raises OSError where there is no room.

        A copy that left zeros out, or a file that somebody cut off, has no blocks there, and to touch one on a full disk would end
        the process. It costs little where they exist. The caller holds lock byte 0 alone.
        """
        if first_unit < stop_unit:
            os.posix_fallocate(
                self.fd, byte_offset(first_unit), byte_offset(stop_unit) - byte_offset(first_unit)
            )

    def sync_to(self, stop_unit: int) -> None:
        """Have everything before a unit, the header's page with the tail included, on stable storage; raises OSError.

        The pages ahead, which are full of zeros, are left alone.
        """
        self.mapping.sync(0, byte_offset(stop_unit))

    def ensure_mapped(self) -> None:
        """Map again a writable segment whose mapping was handed to the helper thread for unmapping."""
        if self.mapping.closed:
            self.mapping = Mapping(self.fd, self.header.file_length_max, True)

    def word(self, unit: int) -> int:
        """Return the word at a unit (acquire); the caller knows that the file reaches there."""
        return self.mapping.load_acquire(byte_offset(unit))

    def swap_word(self, unit: int, expected: int, desired: int) -> bool:
        """Replace the word at a unit if it is as expected; True if replaced."""
        return self.mapping.compare_and_swap(byte_offset(unit), expected, desired)

    def marker_word(self, unit: int, kind: int, units: int) -> int:
        """Return the PAD or SEAL word that belongs at ``unit``."""
        low = kind << layout.WORD_KIND_SHIFT | units
        return crc32c(self.header.uuid + struct.pack("<QI", unit, low)) << layout.WORD_INDEX_SHIFT | low

    def seal(self) -> int:
        """Make the tail final and return it; several sealers are harmless."""
        return self.mapping.set_bits(layout.SEGMENT_TAIL, layout.TAIL_SEALED) | layout.TAIL_SEALED

    def close(self) -> None:
        """Unmap, once no view is left, and close the descriptor."""
        self.mapping.close()
        # Forgotten before it is closed: a child forked meanwhile must not close a number that is its own by then.
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def byte_offset(unit: int) -> int:
    """Return the file offset in bytes of a unit."""
    return layout.SEGMENT_HEADER_BYTES + unit * layout.UNIT_BYTES


def tail_parts(tail: int) -> tuple[int, int, bool]:
    """Split a tail word into (entries allocated, units allocated, sealed)."""
    return (
        tail >> layout.TAIL_ENTRIES_SHIFT,
        tail & layout.TAIL_UNITS_MASK,
        bool(tail & layout.TAIL_SEALED),
    )


def make_tail(units: int, entries: int, sealed: bool) -> int:
    """Return a tail word."""
    return entries << layout.TAIL_ENTRIES_SHIFT | (layout.TAIL_SEALED if sealed else 0) | units
