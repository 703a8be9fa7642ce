"""A full look at one shard: what is sound, what is damaged, what waits. Nothing is written, and nothing ends at the first damage.

Where a frame does not prove itself, the next place that does is sought: a DATA frame by its checksum, a PAD by its own. So one look
lists every damaged place with the entries that are lost there, and ``salvage.py`` can keep the rest.

Thread safety: belongs to one thread; writers may append meanwhile. Invariants: as for every reader, no byte is touched that the file
does not cover; the search for the next frame reads at most a fixed multiple of the segment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cometlog.errors import CorruptionError
from cometlog.kernel import decode, layout, scan
from cometlog.read_batch import ReadBatch, Run
from cometlog.segment import Segment, SegmentHeader, SegmentName, byte_offset, make_tail, tail_parts
from cometlog.window import Window

_STEP_ENTRIES = 1000
_SEARCH_UNITS = 1 << 16
_CHECKED_BYTES_PER_BYTE_MAX = 8
_ENTRIES_MAX = 0xFFFFFFFF

PassBy = Callable[[Segment, int, int], int | None]
"""Called with a segment, a unit and the tail's units: where to go on behind a word in flight, None where its writer may live."""


@dataclass(slots=True)
class Damage:
    """One damaged place. ``lost``: first and last number of the entries that cannot be read because of it, or None.

    ``unit`` and ``until`` bound what does not prove itself inside the segment; ``until`` is None where nothing behind does.
    """

    stream: str
    file: str
    offset: int
    what: str
    lost: tuple[int, int] | None = None
    unit: int | None = None
    until: int | None = None

    def as_line(self) -> str:
        """Return what a person who reads the report needs."""
        if self.lost is None:
            cost = "no entry lost"
        elif self.lost[0] == self.lost[1]:
            cost = f"entry {self.lost[0]} lost"
        else:
            cost = f"entries {self.lost[0]} to {self.lost[1]} lost"
        return f"{self.what} (stream {self.stream}, {cost}, {self.file} at byte {self.offset})"

    def as_dict(self) -> dict[str, Any]:
        """Return what a program that reads the report needs."""
        return {
            "stream": self.stream,
            "entry": self.lost[0] if self.lost else None,
            "lost": list(self.lost) if self.lost else None,
            "file": self.file,
            "offset": self.offset,
            "what": self.what,
        }


@dataclass(slots=True)
class SegmentSurvey:
    """What one segment holds. ``units`` and ``index``: where its frames end; ``waiting``: units of words that wait for repair.

    ``in_flight`` is the unit of a word of a writer that may live, at which the look ended. Without a sound header ``header`` is the
    one that it must have had.
    """

    name: SegmentName
    tail: int
    header: SegmentHeader
    has_sound_header: bool = True
    frames: int = 0
    entries: int = 0
    units: int = 0
    index: int = 0
    damages: list[Damage] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    in_flight: int | None = None


def _what(error: CorruptionError) -> str:
    """Return what an error says without the place, which the report gives anyway."""
    return str(error).rpartition(" (")[0]


class _Look:
    """One walk over one segment."""

    def __init__(
        self, segment: Segment, name: SegmentName, stream: str, tail: int, pass_by: PassBy, entries_expected: int | None
    ) -> None:  # fmt: skip
        self._entries_expected = entries_expected
        self._segment = segment
        self._stream = stream
        self._pass_by = pass_by
        self._window = Window(segment, stream)
        self._walk = scan.Walk(segment.mapping, segment.header.uuid)
        self._covered = segment.readable_units()
        self._tail = tail
        self._open: list[Damage] = []
        self._budget_bytes = _CHECKED_BYTES_PER_BYTE_MAX * byte_offset(self._covered)
        self.found = SegmentSurvey(name, tail, segment.header)

    def _damage(self, what: str, offset: int, **places: Any) -> Damage:
        damage = Damage(self._stream, str(self._segment.path), offset, what, **places)
        self.found.damages.append(damage)
        return damage

    def _close_damages(self, index: int) -> None:
        """Say of the damages met last which entries they cost: those up to ``index``."""
        base = self._segment.base
        for damage in self._open:
            assert damage.lost is not None
            first = damage.lost[0]
            damage.lost = (first, base + index - 1) if base + index > first else None
        self._open.clear()

    def run(self) -> SegmentSurvey:
        entries, units, sealed = tail_parts(self._tail)
        expected = self._entries_expected
        if expected is not None and not sealed and entries != expected:
            self._distrust_tail(
                f"tail is not sealed and says {entries} entries, the next segment starts behind {expected}"
            )
            entries = max(entries, expected)
        elif units > self._covered:
            self._distrust_tail(f"tail is at unit {units}, the file ends after unit {self._covered}")
        try:
            while self._step():
                pass
        except CorruptionError as error:
            self._open.append(
                self._damage(
                    _what(error), error.offset, unit=self._walk.unit, lost=(self._lowest(), self._lowest())
                )
            )
        self._close_damages(max(entries, self._walk.next_index))
        self.found.units, self.found.index = self._walk.unit, self._walk.next_index
        return self.found

    def _lowest(self) -> int:
        return self._segment.base + int(self._walk.next_index)

    def _distrust_tail(self, what: str) -> None:
        """Report the tail, and walk on as far as there are frames."""
        self._damage(what, layout.SEGMENT_TAIL)
        self._tail = make_tail(self._covered, _ENTRIES_MAX, False)

    def _collect(self, walk: scan.Walk, entries_max: int) -> tuple[scan.Frames, int]:
        frames = scan.Frames(self._segment.mapping, self._segment.base)
        units = self._tail & layout.TAIL_UNITS_MASK
        stop = self._window.drive(
            walk, units, lambda readable: walk.collect(frames, self._tail, readable, 0, entries_max)
        )
        return frames, stop

    def _step(self) -> bool:
        """Pass some frames and what stops them; False at the end."""
        start = (self._walk.unit, self._walk.next_index)
        frames, stop = self._collect(self._walk, _STEP_ENTRIES)
        self._take(frames, start)
        if stop == scan.STOP_FULL:
            return True
        if stop == scan.STOP_BLOCKED:
            return self._pass_blocked()
        if stop == scan.STOP_CORRUPT:
            return self._pass_damage()
        return False

    def _take(self, frames: scan.Frames, start: tuple[int, int]) -> None:
        """Count frames whose batches can be cut, and report each other one."""
        if not len(frames):
            return
        numbers = decode.numbers(frames)
        self._close_damages(numbers[0] - self._segment.base)
        try:
            self._cut(frames)
        except CorruptionError:
            self._take_one_by_one(start, len(frames))
            return
        self.found.frames += len(frames)
        self.found.entries += frames.entries

    def _cut(self, frames: scan.Frames) -> None:
        ReadBatch(self._stream, [Run(self._segment.path, frames)], 0).arrow_batches()

    def _take_one_by_one(self, start: tuple[int, int], count: int) -> None:
        walk = scan.Walk(self._segment.mapping, self._segment.header.uuid, *start)
        for _ in range(count):
            frames, _ = self._collect(walk, 1)
            try:
                self._cut(frames)
            except CorruptionError as error:
                first = self._segment.base + frames.last_index
                self._damage(
                    _what(error), error.offset, unit=frames.last_unit, until=walk.unit,
                    lost=(first, self._segment.base + walk.next_index - 1),
                )  # fmt: skip
            else:
                self.found.frames += 1
                self.found.entries += frames.entries

    def _pass_blocked(self) -> bool:
        if self._tail >> layout.TAIL_ENTRIES_SHIFT == _ENTRIES_MAX:
            return False  # behind a damaged tail: the first word that is no frame is the end
        unit = self._walk.unit
        try:
            stop = self._pass_by(self._segment, unit, self._tail & layout.TAIL_UNITS_MASK)
        except CorruptionError as error:
            return self._search_behind(unit, _what(error))
        if stop is None:
            self.found.in_flight = unit
            return False
        if stop > unit:
            self.found.waiting.append(unit)
            self._walk.skip_to(stop)
        return True

    def _pass_damage(self) -> bool:
        unit, wrong = self._walk.unit, self._walk.wrong
        units = self._tail & layout.TAIL_UNITS_MASK
        if self._proves_itself_beyond_the_tail(unit):
            self._distrust_tail("tail does not agree with the frames: one that proves itself lies beyond it")
            return True
        if unit >= units or wrong == scan.WRONG_TAIL:
            self._damage(scan.WRONG_TEXTS[wrong], layout.SEGMENT_TAIL)
            return False
        return self._search_behind(unit, scan.WRONG_TEXTS[wrong])

    def _search_behind(self, unit: int, what: str) -> bool:
        """Report damage at a unit and go on at the next place that proves itself; False where there is none."""
        damage = self._damage(what, byte_offset(unit), unit=unit, lost=(self._lowest(), self._lowest()))
        self._open.append(damage)
        damage.until = self._next_proven(unit)
        if damage.until is None:
            return False
        self._walk.skip_to(damage.until)
        return True

    def _proves_itself_beyond_the_tail(self, unit: int) -> bool:
        before = self._tail
        if before >> layout.TAIL_ENTRIES_SHIFT == _ENTRIES_MAX:
            return False
        self._tail = make_tail(self._covered, _ENTRIES_MAX, False)
        try:
            return self._is_frame(unit)
        finally:
            self._tail = before

    def _is_frame(self, unit: int) -> bool:
        walk = scan.Walk(self._segment.mapping, self._segment.header.uuid, unit, self._walk.next_index)
        frames, _ = self._collect(walk, 1)
        return len(frames) == 1 and frames.last_unit == unit

    def _next_proven(self, unit: int) -> int | None:
        """Return the next unit behind a damaged one at which a frame or a PAD proves itself: where its length says, or any."""
        units = self._tail & layout.TAIL_UNITS_MASK
        stated = unit + (self._segment.word(unit) & layout.WORD_UNITS_MASK)
        if stated == units:
            return units
        if unit < stated < units and self._proves(stated, self._segment.word(stated), units):
            return stated
        for start in range(unit + 1, units, _SEARCH_UNITS):
            length = min(_SEARCH_UNITS, units - start) * layout.UNIT_BYTES
            self._segment.mapping.populate_read(byte_offset(start), length)
            words = memoryview(self._segment.mapping.read(byte_offset(start), length)).cast("Q")
            for position, word in enumerate(words):
                if word and self._proves(start + position, word, units):
                    return start + position
        return None

    def _proves(self, unit: int, word: int, units: int) -> bool:
        kind, length = word >> layout.WORD_KIND_SHIFT & 7, word & layout.WORD_UNITS_MASK
        if not 0 < length <= units - unit:
            return False
        if kind == layout.KIND_PAD:
            return word == self._segment.marker_word(unit, kind, length)
        if kind != layout.KIND_DATA or word >> layout.WORD_INDEX_SHIFT < self._walk.next_index:
            return False
        self._budget_bytes -= length * layout.UNIT_BYTES
        return self._budget_bytes > 0 and self._is_frame(unit)


def survey_segment(
    segment: Segment, name: SegmentName, stream: str, *, pass_by: PassBy, tail: int | None = None, entries_expected: int | None = None
) -> SegmentSurvey:  # fmt: skip
    """Look at all of one open segment; ``tail`` stands for its own tail word where that is not to be trusted.

    ``entries_expected``: entries after which the next segment starts, where there is one.
    """
    tail = segment.tail() if tail is None else tail
    return _Look(segment, name, stream, tail, pass_by, entries_expected).run()
