"""The sparse index of a segment in memory: loaded from a true ``.idx``, extended or rebuilt by a walk.

It is derived data: whatever is wrong with the file, the answers are those of a walk from the start.
Format: FORMAT.md, "The index".
"""

import os
import struct
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cometlog.errors import NotALogError
from cometlog.files import open_checked
from cometlog.kernel import layout
from cometlog.kernel.boundary import decode_records
from cometlog.kernel.checksum import crc32c
from cometlog.segment import tail_parts

REBUILD_INTERVAL_ENTRIES = 100
"""Entries between boundaries where no file says otherwise."""
INDEX_ENTRIES_MAX = 100_000
"""Boundaries of one segment kept in memory where the configuration does not say."""

_HEADER = struct.Struct("<8sII16sIIII")
_RETRY_DELAYS_S = (0.001, 0.002)
_CHUNK_RECORDS = 4096
_FRAME_UNITS_MIN = layout.FRAME_HEADER_BYTES // layout.UNIT_BYTES


class Boundary(NamedTuple):
    """A place to start walking: its unit, the lowest entry index there, and the live entries before it."""

    unit: int
    entry: int
    live: int


START = Boundary(0, 0, 0)


class SegmentIndex:
    """Boundaries of one segment, ascending, and how far they reach.

    ``covered`` is the place up to which every frame is resolved and counted: the last boundary of a file, what
    a walk of this process reached afterwards. ``next_entry`` is the lowest entry index that the next boundary
    may have.
    """

    def __init__(
        self, interval_entries: int = REBUILD_INTERVAL_ENTRIES, covered: Boundary = START, *, entries_max: int = INDEX_ENTRIES_MAX
    ) -> None:  # fmt: skip
        self.entries_max = entries_max
        self.interval_entries = interval_entries
        self.covered = covered
        self.next_entry = 0
        self._units = array("I")
        self._entries = array("I")
        self._lives = array("I")
        self._latest_ns = array("Q")

    def __len__(self) -> int:
        return len(self._units)

    @property
    def latest_ns(self) -> int:
        """The latest timestamp of a boundary, ns since 1970; 0 where there is none."""
        return self._latest_ns[-1] if self._latest_ns else 0

    def extend(self, boundaries: Iterable[tuple[int, int, int, int]]) -> None:
        """Add boundaries, each (unit, entry, live, timestamp_ns), behind those there are."""
        latest_ns = self.latest_ns
        for unit, entry, live, timestamp_ns in boundaries:
            latest_ns = max(latest_ns, timestamp_ns)
            self._units.append(unit)
            self._entries.append(entry)
            self._lives.append(live)
            self._latest_ns.append(latest_ns)
            if len(self._units) > self.entries_max:
                self._thin()

    def _thin(self) -> None:
        """Drop every second boundary: a walk from the one before takes twice as long."""
        for column in (self._units, self._entries, self._lives, self._latest_ns):
            del column[1::2]

    def _at(self, position: int) -> Boundary:
        if position < 0:
            return START
        return Boundary(self._units[position], self._entries[position], self._lives[position])

    def has_boundary_at(self, unit: int) -> bool:
        """Return whether a boundary, which is always a committed frame, is said to be at ``unit``."""
        position = bisect_left(self._units, unit)
        return position < len(self._units) and self._units[position] == unit

    def at_or_before_entry(self, entry_index: int) -> Boundary:
        """Return the last boundary that is not behind ``entry_index``; the start where there is none."""
        return self._at(bisect_right(self._entries, entry_index) - 1)

    def at_or_before_time(self, timestamp_ns: int) -> Boundary:
        """Return the last boundary before which no boundary has a timestamp of ``timestamp_ns`` or later.

        Writers' clocks may disagree a little, so boundaries are compared by the latest timestamp so far.
        """
        return self._at(bisect_left(self._latest_ns, timestamp_ns) - 1)


def _decode(
    raw_header: bytes, boundaries: list[tuple[int, int, int, int]], uuid: bytes, tail: int, entries_max: int
) -> SegmentIndex | None:
    """Return the index that an index file holds, or None if any part of it is not true for this segment."""
    _, version, interval, stored_uuid, count, unit, entries, live = _HEADER.unpack_from(raw_header)
    tail_entries, tail_units, _ = tail_parts(tail)
    if version != layout.FORMAT_VERSION or stored_uuid != uuid or interval < 1 or len(boundaries) != count:
        return None
    if unit > tail_units or entries > tail_entries or live > entries:
        return None
    index = SegmentIndex(interval, entries_max=entries_max)
    last = START
    for boundary_unit, entry, boundary_live, _ in boundaries:
        if entry < index.next_entry or entry >= entries or boundary_unit >= unit:
            return None
        if not 0 <= boundary_live - last.live <= entry - last.entry:
            return None
        last = Boundary(boundary_unit, entry, boundary_live)
        index.next_entry = entry + interval
    index.extend(boundaries)
    # A boundary is a frame that says its own index. What the header says to be covered says nothing that a walk could
    # check, so the walk goes on from the last boundary.
    index.covered = last
    return index


def _read_once(path: Path, uuid: bytes, tail: int, entries_max: int) -> SegmentIndex | None:
    fd = open_checked(path, os.O_RDONLY)
    try:
        header = os.pread(fd, layout.INDEX_HEADER_BYTES, 0)
        if len(header) < layout.INDEX_HEADER_BYTES or header[:8] != layout.INDEX_MAGIC_BYTES:
            return None
        checksum = int.from_bytes(header[layout.INDEX_CHECKSUM :], "little")
        if checksum != crc32c(header[: layout.INDEX_CHECKSUM]):
            return None
        count = int.from_bytes(header[layout.INDEX_COUNT : layout.INDEX_COUNT + 4], "little")
        if count * _FRAME_UNITS_MIN > tail & layout.TAIL_UNITS_MASK:
            return None
        boundaries = _read_records(fd, count, uuid)
        return None if boundaries is None else _decode(header, boundaries, uuid, tail, entries_max)
    finally:
        os.close(fd)


def _read_records(fd: int, count: int, uuid: bytes) -> list[tuple[int, int, int, int]] | None:
    """Return so many boundaries, or None at the first that does not hold: no more is read than was true so far."""
    boundaries: list[tuple[int, int, int, int]] = []
    while len(boundaries) < count:
        wanted = min(count - len(boundaries), _CHUNK_RECORDS)
        offset = layout.INDEX_HEADER_BYTES + len(boundaries) * layout.BOUNDARY_SIZE_BYTES
        records = os.pread(fd, wanted * layout.BOUNDARY_SIZE_BYTES, offset)
        if len(records) != wanted * layout.BOUNDARY_SIZE_BYTES:
            return None
        try:
            boundaries += decode_records(records, uuid, len(boundaries))
        except ValueError:
            return None
    return boundaries


def _read_patiently(path: Path, uuid: bytes, tail: int, entries_max: int) -> SegmentIndex | None:
    """Read an index file; one that is caught in the middle of a write is read again after 1 ms and 2 ms."""
    for delay_s in (*_RETRY_DELAYS_S, None):
        try:
            index = _read_once(path, uuid, tail, entries_max)
        except (OSError, NotALogError):
            return None
        if index is not None or delay_s is None:
            return index
        time.sleep(delay_s)
    return None


def is_true_index(path: Path, uuid: bytes, tail: int) -> bool:
    """Return whether an index file is whole and tells the truth about a segment, as far as its checksums say."""
    return _read_patiently(path, uuid, tail, INDEX_ENTRIES_MAX) is not None


def load_index(path: Path, uuid: bytes, tail: int, entries_max: int = INDEX_ENTRIES_MAX) -> SegmentIndex:
    """Return the index that the file holds, or an empty one that covers nothing.

    ``tail`` is the segment's tail word, loaded after the file was last known to be written or at any time: an
    index that covers more is not believed.
    """
    index = _read_patiently(path, uuid, tail, entries_max)
    return SegmentIndex(entries_max=entries_max) if index is None else index
