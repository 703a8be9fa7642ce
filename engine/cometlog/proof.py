"""How far a shard proves itself when its tails cannot be trusted (PROTOCOL F, the distrustful form, without its writing half).

After a reboot, or without the ``control`` under which it was written, a tail may be older or newer than the frames it counts. Then a
segment reaches as far as its frames prove themselves by kind, index and checksum, from the durable mark on; the next segment goes on
only if it follows from there. Recovery writes down what is found here; a reader that may not write believes the same, so both
deliver the same entries.

Invariants: nothing is written; what lies before the mark is not judged here: damage there is reported by whoever reads it, never cut.
"""

from pathlib import Path
from typing import NamedTuple

from cometlog.durable_mark import DurableMark
from cometlog.errors import CorruptionError
from cometlog.kernel import layout, scan
from cometlog.segment import Segment, SegmentName, byte_offset, make_tail, tail_parts
from cometlog.window import Window

_ENTRIES_MAX = 0xFFFFFFFF
# Words of the header of a segment that has a predecessor, by offset, which are far from zero: magic, format, uuids, time, checksum.
_NEVER_ZERO = (
    layout.SEGMENT_MAGIC, layout.SEGMENT_FORMAT, layout.SEGMENT_UUID, layout.SEGMENT_UUID + 8, layout.SEGMENT_PREVIOUS_UUID,
    layout.SEGMENT_PREVIOUS_UUID + 8, layout.SEGMENT_CREATED, layout.SEGMENT_CHECKSUM,
)  # fmt: skip


class Proven(NamedTuple):
    """Where a segment ends: its unit, entries before it, and whether the next segment goes on from there."""

    unit: int
    entries: int
    follows: bool


def names_from_mark(names: list[SegmentName], mark: DurableMark | None) -> list[SegmentName]:
    """Return the segments that may hold what no sync covered: from the mark's on, or the last, or all without a mark."""
    if mark is None:
        return names
    return [name for name in names if name.number >= mark.number] or names[-1:]


def start_of_walk(segment: Segment, mark: DurableMark | None, stream: str) -> tuple[int, int]:
    """Return unit and entry index from which a segment is walked: the mark's, or its first.

    Raises CorruptionError where the segment is not the one that was marked, or ends before the mark.
    """
    if mark is None or mark.number != segment.number:
        return 0, 0
    index = mark.index_in(segment.header, segment.path)
    if mark.unit > segment.readable_units():
        raise CorruptionError(
            f"file ends before the durable mark at unit {mark.unit}, entry {mark.next_entry}",
            file=str(segment.path), offset=byte_offset(mark.unit), stream=stream,
        )  # fmt: skip
    entries, units, _ = tail_parts(segment.tail())
    if units < mark.unit or entries < index:
        _check_durable(segment, mark.unit, index, stream)
    return mark.unit, index


def _check_durable(segment: Segment, unit: int, index: int, stream: str) -> None:
    """Raise CorruptionError unless the frames reach the mark that the tail, or an older file in place of this one, does not."""
    walk = scan.Walk(segment.mapping, segment.header.uuid)
    tail = make_tail(unit, index, False)
    stop = Window(segment, stream).drive(walk, unit, lambda units: walk.advance(tail, units, True))
    if stop != scan.STOP_TAIL:
        raise CorruptionError(
            f"frames end before the durable mark at unit {unit}: {scan.WRONG_TEXTS.get(walk.wrong, 'a free word')}",
            file=str(segment.path), offset=byte_offset(walk.unit), stream=stream, entry=segment.base + walk.next_index,
        )  # fmt: skip


def prove(segment: Segment, following: SegmentName | None, mark: DurableMark | None, stream: str) -> Proven:
    """Walk a segment from the mark, or from its start, as far as frames prove themselves."""
    unit, index = start_of_walk(segment, mark, stream)
    # A whole frame whose entries the next segment has too is an append that was cut off and sealed away (H): not an entry.
    entries = _ENTRIES_MAX
    if following is not None:
        entries = min(max(following.base - segment.base, 0), _ENTRIES_MAX)
    readable = segment.readable_units()
    every_tail = make_tail(segment.header.capacity_units, entries, False)
    walk = scan.Walk(segment.mapping, segment.header.uuid, unit, index)
    Window(segment, stream).drive(walk, readable, lambda units: walk.advance(every_tail, units, True))
    follows = following is not None and _continues(segment, walk.unit, walk.next_index, following)
    return Proven(walk.unit, walk.next_index, follows)


def _continues(segment: Segment, unit: int, index: int, following: SegmentName) -> bool:
    """Return whether nothing is missing between what was walked of a segment and the next one.

    Either the numbers meet, or this segment's own tail came to disk and is where the walk ended: then what lies between was
    burnt. Anything else is a hole, and what lies behind a hole is no prefix. What a sync covered always passes: it found the tail
    sealed and every word before it final, and both are in the file it synced.
    """
    path = segment.path.with_name(following.file_name)
    try:
        candidate = Segment(path, writable=False)
    except CorruptionError:
        if _header_was_written(path):
            raise
        return False
    header = candidate.header
    candidate.close()
    _entries, tail_units, sealed = tail_parts(segment.tail())
    next_entry = segment.base + index
    whole = header.base == next_entry or (sealed and tail_units == unit and header.base > next_entry)
    return header.previous_uuid == segment.header.uuid and whole


def _header_was_written(path: Path) -> bool:
    """Return whether a header that does not hold was once whole or is another file's: damage, not a write that power cut off.

    A header is stored once, into zeros. What a power loss left of one that no sync covered is any of its cache lines, each as far
    as it was stored, the rest zero; every line ends in words of which no flipped bit makes zeros.
    """
    with path.open("rb") as file:
        raw = file.read(layout.SEGMENT_CHECKSUM + 4).ljust(layout.SEGMENT_CHECKSUM + 4, bytes(1))
    torn = any(not any(raw[at : at + 8]) for at in _NEVER_ZERO)
    return not torn or raw[:8] not in (layout.SEGMENT_MAGIC_BYTES, bytes(8))


def visible_segments(
    directory: Path, names: list[SegmentName], mark: DurableMark | None, stream: str
) -> dict[int, Proven]:
    """Return where each segment from the mark's on ends, by number, up to the last one that goes on from the one before."""
    found: dict[int, Proven] = {}
    doubtful = names_from_mark(names, mark)
    for position, name in enumerate(doubtful):
        segment = Segment(directory / name.file_name, writable=False)
        try:
            following = doubtful[position + 1] if position + 1 < len(doubtful) else None
            found[name.number] = prove(segment, following, mark, stream)
        finally:
            segment.close()
        if not found[name.number].follows:
            break
    return found
