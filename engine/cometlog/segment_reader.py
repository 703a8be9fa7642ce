"""Reading one segment: frames from an entry index on, counts, and the checks that keep it in the file.

Thread safety: an object belongs to one thread at a time; writers may append meanwhile. Invariants: the tail
is loaded before any word; no byte is touched that the file's length, looked at after that tail, does not
cover, and each stretch is faulted in by a call that fails with an error instead of a signal.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cometlog.durable_mark import read_mark
from cometlog.errors import CorruptionError
from cometlog.index import START, Boundary, SegmentIndex, load_index
from cometlog.kernel import layout
from cometlog.kernel.boundary import find_boundaries
from cometlog.kernel.decode import timestamps
from cometlog.kernel.follow import Follower
from cometlog.kernel.scan import (
    NO_UNIT,
    STOP_BLOCKED,
    STOP_CORRUPT,
    STOP_TAIL,
    WRONG_TAIL,
    WRONG_TEXTS,
    Frames,
    Walk,
)
from cometlog.proof import Proven
from cometlog.segment import Segment, SegmentName, byte_offset, make_tail, tail_parts
from cometlog.window import Window


class Tail(NamedTuple):
    """A tail word that the file is known to reach: entries and units allocated, whether they are final; units that the file covers."""

    word: int
    entries: int
    units: int
    sealed: bool
    covered: int


class Collected(NamedTuple):
    """What a collecting walk gave: the frames, why it stopped, and where it stands."""

    frames: Frames
    stop: int
    unit: int
    next_index: int
    wrong: int


class SegmentReader:
    """An open segment with its sparse index and the place where the last read ended.

    Raises FileNotFoundError if retention was faster, CorruptionError or NewerFormatError for a header that is
    not one.
    """

    def __init__(self, directory: Path, name: SegmentName, stream: str, index_entries_max: int) -> None:
        self.path = directory / name.file_name
        self.stream = stream
        # Read before any tail, so that no tail may lie before it.
        mark = read_mark(directory / "durable")
        self._durable = START[:2]
        try:
            self.segment = Segment(self.path, writable=False)
            if mark is not None and mark.number == name.number:
                self._durable = (mark.unit, mark.index_in(self.segment.header, self.path))
        except CorruptionError as error:
            raise error.of_stream(stream) from error.__cause__
        self._index_path = directory / name.index_name
        self._index: SegmentIndex | None = None
        self._index_entries_max = index_entries_max
        self.follower = Follower(self.segment.mapping, self.segment.fd, self.segment.header.uuid, self.base)
        """Where the last read ended; its ``next_entry`` is the number that one goes on from."""
        self._window = Window(self.segment, stream)
        self.passed: dict[int, int] = {}
        """Words in flight whose writers are dead, and the unit behind each: judged by an onlooker, which may not write."""
        self.proven: Proven | None = None
        """Where the segment ends, if its tail is not to be trusted."""
        self.entries_seen = 0

    @property
    def number(self) -> int:
        """Segment number."""
        return self.segment.number

    @property
    def base(self) -> int:
        """Entry number of the first entry."""
        return self.segment.base

    def look(self) -> Tail:
        """Load the tail, or take what proves itself for it, and check that the file reaches that far."""
        word = self.segment.tail() if self.proven is None else make_tail(*self.proven)
        entries, units, sealed = tail_parts(word)
        covered = self.segment.readable_units()
        if units > covered:
            raise CorruptionError(
                f"tail is at unit {units}, the file ends after unit {covered}",
                file=str(self.path), offset=layout.SEGMENT_TAIL, stream=self.stream,
            )  # fmt: skip
        if units < self._durable[0] or entries < self._durable[1]:
            raise CorruptionError(
                f"tail is at unit {units} with {entries} entries, the durable mark at unit {self._durable[0]} "
                f"with {self._durable[1]}",
                file=str(self.path), offset=layout.SEGMENT_TAIL, stream=self.stream,
            )  # fmt: skip
        self.entries_seen = entries
        return Tail(word, entries, units, sealed, covered)

    def _check_end(self, tail: Tail, next_index: int) -> None:
        """Raise CorruptionError where frames go on behind a tail that PADs hide: after DATA, the index shows it."""
        end = tail.units
        if next_index >= tail.entries or end >= self.segment.readable_units():
            return
        self._window.ensure(end)
        word = self.word(end)
        kind = word >> layout.WORD_KIND_SHIFT & 7
        counted = kind == layout.KIND_DATA and word >> layout.WORD_INDEX_SHIFT < tail.entries
        if (counted or kind == layout.KIND_PAD) and self.segment.tail() == tail.word:
            raise CorruptionError(
                WRONG_TEXTS[WRONG_TAIL], file=str(self.path), offset=layout.SEGMENT_TAIL, stream=self.stream,
                entry=self.base + next_index,
            )  # fmt: skip

    def collect(
        self, first_index: int, entries_max: int, tail: Tail, *, whole_frames: bool = False
    ) -> Collected:
        """Collect verified frames with entries from ``first_index`` on until ``entries_max`` are there.

        The last frame is cut down to that count unless ``whole_frames``. Raises CorruptionError at the first
        frame on the way that is not what was written.
        """
        begin = self._nearest(first_index, tail)
        cut_unit = NO_UNIT if whole_frames else self.follower.cut_unit
        found = self._collect_from(begin, first_index, entries_max, tail, cut_unit)
        if self._is_doubtful(begin, found):
            # Either this frame is damaged or the boundary was no frame: only a walk from the start tells.
            again = self._collect_from(START[:2], first_index, entries_max, tail, cut_unit)
            if again.stop != found.stop or again.unit > found.unit:
                self._index = SegmentIndex(entries_max=self._index_entries_max)
                found = again
        if found.stop == STOP_CORRUPT:
            raise self._corruption(found.unit, found.next_index, found.wrong)
        if found.stop == STOP_TAIL:
            self._check_end(tail, found.next_index)
        place = (found.unit, found.next_index, NO_UNIT, found.next_index)
        if found.frames.entries > entries_max and not whole_frames:
            last_unit, last_index = found.frames.last_unit, found.frames.last_index
            found.frames.keep_first(entries_max)
            place = (last_unit, last_index, last_unit, found.frames.stop_number - self.base)
        self.follower.stand_at(*place, tail.word, self._window.readable_from(place[0]))
        return found

    def go_on(self, number: int, count: int) -> Frames | None:
        """Return up to ``count`` entries from ``number`` on where the last read ended there and nothing is out of the ordinary.

        None where a read has to look at everything: at the end, a word in flight, damage, or where this segment must prove itself.
        """
        follower = self.follower
        if number != follower.next_entry or self.proven is not None or self.passed:
            return None
        return follower.go_on(count)

    def _is_doubtful(self, begin: tuple[int, int], found: Collected) -> bool:
        if found.unit != begin[0] or begin[0] == 0:
            return False
        at_boundary = self._index is not None and self._index.has_boundary_at(begin[0])
        return found.stop == STOP_CORRUPT or (found.stop == STOP_BLOCKED and at_boundary)

    def _collect_from(
        self, begin: tuple[int, int], first_index: int, entries_max: int, tail: Tail, cut_unit: int
    ) -> Collected:
        walk = Walk(self.segment.mapping, self.segment.header.uuid, *begin)
        frames = Frames(self.segment.mapping, self.base)
        stop = self._drive(
            walk,
            tail,
            lambda readable: walk.collect(frames, tail.word, readable, first_index, entries_max, cut_unit),
        )
        return Collected(frames, stop, walk.unit, walk.next_index, walk.wrong)

    def _nearest(self, first_index: int, tail: Tail) -> tuple[int, int]:
        """Return (unit, entry index) of the last known place from which a walk reaches ``first_index``."""
        resume = (self.follower.unit, self.follower.index)
        if resume[1] == first_index:
            return resume
        if first_index == 0:
            return START[:2]
        index = self._index_covering(first_index, tail)
        boundary = index.at_or_before_entry(first_index)
        if index.covered.entry <= first_index:
            boundary = index.covered
        elif not self._is_frame(boundary, tail):
            self._index = SegmentIndex(entries_max=self._index_entries_max)
            boundary = START
        known = (boundary.unit, boundary.entry)
        return max(known, resume) if resume[1] <= first_index else known

    def _index_covering(self, first_index: int, tail: Tail) -> SegmentIndex:
        index = self._loaded_index(tail)
        covered = index.covered.entry
        if covered <= first_index and not covered < self.follower.index <= first_index:
            self._extend_index(tail)
            return self._loaded_index(tail)
        return index

    def _loaded_index(self, tail: Tail) -> SegmentIndex:
        if self._index is None:
            self._index = load_index(
                self._index_path, self.segment.header.uuid, tail.word, self._index_entries_max
            )
            if not self._is_frame(self._index.covered, tail):
                self._index = SegmentIndex(entries_max=self._index_entries_max)
        return self._index

    def begins_before(self, time_ns: int) -> bool:
        """Return whether the first entry of the segment has a timestamp below ``time_ns``; False where there is none to see."""
        found = self.collect(0, 1, self.look()).frames
        return bool(found.entries) and timestamps(found)[0] < time_ns

    def number_before_time(self, time_ns: int) -> int:
        """Return an entry number before which no boundary has a timestamp of ``time_ns`` or later, the highest that is known."""
        tail = self.look()
        index = self._loaded_index(tail)
        if index.latest_ns < time_ns and index.covered.unit < tail.units:
            self._extend_index(tail)
            index = self._loaded_index(tail)
        boundary = index.at_or_before_time(time_ns)
        return self.base + (boundary.entry if self._is_frame(boundary, tail) else 0)

    def _is_frame(self, boundary: Boundary, tail: Tail) -> bool:
        """Return whether a boundary is the start or says of a frame what the frame says: no entry lies between the two."""
        if boundary.unit == 0:
            return boundary.entry == 0
        if boundary.unit >= tail.units:
            return False
        self._window.ensure(boundary.unit)
        word = self.word(boundary.unit)
        is_data = word >> layout.WORD_KIND_SHIFT & 7 == layout.KIND_DATA
        return is_data and word >> layout.WORD_INDEX_SHIFT == boundary.entry

    def _extend_index(self, tail: Tail) -> Walk:
        """Walk from where the index ends as far as frames are resolved and sound."""
        index = self._loaded_index(tail)
        begin = index.covered
        walk = Walk(self.segment.mapping, self.segment.header.uuid, *begin)

        def find(readable: int) -> int:
            stop, boundaries, index.next_entry = find_boundaries(
                walk, tail.word, readable, index.interval_entries, index.next_entry
            )
            index.extend(boundaries)
            return stop

        self._drive(walk, tail, find)
        if walk.stop == STOP_CORRUPT and walk.unit == begin.unit > 0 and len(index):
            # As in `collect`: only a walk from the start tells a damaged frame from a boundary that was none.
            self._index = SegmentIndex(entries_max=self._index_entries_max)
            return self._extend_index(tail)
        index.covered = index.covered._replace(unit=walk.unit, entry=walk.next_index, live=walk.live_entries)
        return walk

    def count_live(self, tail: Tail) -> tuple[int, int, int]:
        """Return (live entries before it, unit, stop) of the first place that is not a resolved frame."""
        walk = self._extend_index(tail)
        if walk.stop == STOP_CORRUPT:
            raise self._corruption(walk.unit, walk.next_index, walk.wrong)
        if walk.stop == STOP_TAIL:
            self._check_end(tail, walk.next_index)
        return walk.live_entries, walk.unit, walk.stop

    def word(self, unit: int) -> int:
        """Return the word at a unit that the file reaches (acquire)."""
        return self.segment.mapping.load_acquire(byte_offset(unit))

    def _drive(self, walk: Walk, tail: Tail, step: Callable[[int], int]) -> int:
        """Call ``step`` until it stops for good, passing by the words that an onlooker has judged."""
        while True:
            reason = self._window.drive(walk, tail.units, step, tail.covered)
            if reason != STOP_BLOCKED or walk.unit not in self.passed:
                return reason
            walk.skip_to(min(self.passed[walk.unit], tail.units))

    def _corruption(self, unit: int, next_index: int, wrong: int) -> CorruptionError:
        return CorruptionError(
            WRONG_TEXTS[wrong], file=str(self.path), offset=byte_offset(unit), stream=self.stream,
            entry=self.base + next_index,
        )  # fmt: skip

    def close(self) -> None:
        """Close the file; batches already read stay usable."""
        self.follower.close()
        self.segment.close()
