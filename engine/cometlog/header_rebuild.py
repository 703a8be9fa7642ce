"""A segment header that is damaged, put together again from what else says the same: the file's name and its neighbours.

Number and base stand in the name, the previous uuid is the uuid of the segment before, and the uuid, from which every checksum of
the segment starts, stands in the segment after, or is still legible. It is believed only if the first frame proves itself by it, so
nothing is invented: with a wrong uuid no frame of the segment would.
"""

import os
import struct
from dataclasses import replace
from pathlib import Path

from cometlog.errors import CometlogError
from cometlog.files import open_checked
from cometlog.kernel import layout, scan
from cometlog.kernel.mapping import Mapping
from cometlog.segment import Segment, SegmentHeader, SegmentName, byte_offset, decode_header, make_tail
from cometlog.window import Window

_ENTRIES_MAX = 0xFFFFFFFF


def read_header(path: Path) -> SegmentHeader | None:
    """Return the header of a segment file, or None for one that is missing or not sound."""
    try:
        fd = open_checked(path, os.O_RDONLY)
    except (OSError, CometlogError):
        return None
    try:
        return decode_header(os.pread(fd, layout.SEGMENT_HEADER_BYTES, 0), path)
    except CometlogError:
        return None
    finally:
        os.close(fd)


def open_with_rebuilt_header(
    path: Path, name: SegmentName, before: SegmentHeader | None, after: SegmentHeader | None
) -> Segment | None:
    """Open a segment whose header is damaged, read-only, with the header that it must have had; None where that cannot be told."""
    fd = open_checked(path, os.O_RDONLY)
    try:
        segment = _open(path, name, fd, before, after)
    except BaseException:
        os.close(fd)
        raise
    if segment is None:
        os.close(fd)
    return segment


def _open(
    path: Path, name: SegmentName, fd: int, before: SegmentHeader | None, after: SegmentHeader | None
) -> Segment | None:
    page = os.pread(fd, layout.SEGMENT_HEADER_BYTES, 0)
    units = (os.fstat(fd).st_size - layout.SEGMENT_HEADER_BYTES) // layout.UNIT_BYTES
    neighbours = [header for header in (before, after) if header is not None]
    if len(page) < layout.SEGMENT_HEADER_BYTES or not 0 < units <= layout.MAX_CAPACITY_UNITS:
        return None
    (capacity,) = struct.unpack_from("<Q", page, layout.SEGMENT_CAPACITY)
    capacities = [capacity, *(header.capacity_units for header in neighbours)]
    capacity = next((found for found in capacities if units <= found <= layout.MAX_CAPACITY_UNITS), units)
    header = SegmentHeader(
        name.number, name.base, bytes(16), before.uuid if before else page[layout.SEGMENT_PREVIOUS_UUID :][:16],
        max((neighbour.epoch for neighbour in neighbours[:1]), default=1), capacity,
        *struct.unpack_from("<Q", page, layout.SEGMENT_CREATED),
    )  # fmt: skip
    uuids = [page[layout.SEGMENT_UUID :][:16]] + ([after.previous_uuid] if after else [])
    mapping = Mapping(fd, header.file_length_max, False)
    for uuid in uuids:
        segment = Segment.adopt(path, fd, mapping, replace(header, uuid=uuid))
        if _first_frame_proves_itself(segment):
            return segment
    mapping.close()
    return None


def _first_frame_proves_itself(segment: Segment) -> bool:
    word = segment.word(0) if segment.readable_units() else 0
    units = word & layout.WORD_UNITS_MASK
    if word >> layout.WORD_KIND_SHIFT & 7 == layout.KIND_PAD:
        return word == segment.marker_word(0, layout.KIND_PAD, units)
    readable = segment.readable_units()
    walk = scan.Walk(segment.mapping, segment.header.uuid)
    frames = scan.Frames(segment.mapping, segment.base)
    every_tail = make_tail(segment.header.capacity_units, _ENTRIES_MAX, False)
    Window(segment, None).drive(walk, readable, lambda stop: walk.collect(frames, every_tail, stop, 0, 1))
    return len(frames) == 1 and byte_offset(frames.last_unit) == layout.SEGMENT_HEADER_BYTES
