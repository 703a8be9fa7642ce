"""Reading one shard: by entry number, across segments, beside writers that never wait for it (PROTOCOL.md C).

Thread safety: a ShardReader belongs to one thread at a time. It takes no lock and writes nothing; what it
meets in flight it waits for briefly, then hands to the ``repair`` function of a client that may write.

Invariants: entries are returned in order and each once; what was returned stays; a frame is verified before
it is returned.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cometlog.control import Control
from cometlog.errors import ClosedError, CorruptionError, EntryNotFoundError, StalledWriterError
from cometlog.kernel import layout
from cometlog.kernel.scan import STOP_BLOCKED, STOP_FULL, STOP_SEAL
from cometlog.read_batch import Entry, ReadBatch, Run
from cometlog.segment import SegmentName, list_segments
from cometlog.segment_reader import SegmentReader, Tail

BLOCKED_PATIENCE_S = 0.001
SCAN_ENTRIES = 1000
OPEN_SEGMENTS_MAX = 8
_LOOK_AGAIN_S = 0.0001
_TRIES_MAX = 5

Repair = Callable[[int, int], object]
"""Called with segment number and unit of a word that stays in flight; returns once it tried to resolve it."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a full check passed. ``blocked_at``: (segment number, unit) of the word in flight that ended it."""

    stream: str
    segments: int
    frames: int
    entries: int
    blocked_at: tuple[int, int] | None


def _is_final(word: int) -> bool:
    return word != 0 and word >> layout.WORD_KIND_SHIFT & 7 != layout.KIND_CLAIMED


class ShardReader:
    """Reads the stream whose shard is ``directory``; a directory that is missing or empty is a stream without
    entries.

    ``repair`` is given by a client that may write: called with (segment number, unit) for a word that stays
    in flight for more than 1 ms. A reader may go on serving a segment that retention has just removed.
    """

    def __init__(self, directory: Path, stream: str, *, repair: Repair | None = None) -> None:
        self.stream = stream
        self._directory = directory
        self._repair = repair
        self._names: list[SegmentName] = []
        self._open: dict[int, SegmentReader] = {}
        self._control: Control | None = None
        self._closed = False

    # ---- Segments ----

    def _refresh(self) -> list[SegmentName]:
        if self._closed:
            raise ClosedError(f"the reader of {self.stream} is closed")
        self._names = list_segments(self._directory)
        return self._names

    def _segment(self, name: SegmentName) -> SegmentReader:
        """Return the open segment; the one used longest ago is closed where too many are open."""
        reader = self._open.pop(name.number, None)
        if reader is None:
            reader = SegmentReader(self._directory, name, self.stream)
        self._open[name.number] = reader
        if len(self._open) > OPEN_SEGMENTS_MAX:
            self._open.pop(next(iter(self._open))).close()
        return reader

    def _first_segment(self) -> SegmentReader | None:
        for _ in range(_TRIES_MAX):
            names = self._refresh()
            if not names:
                return None
            try:
                return self._segment(names[0])
            except FileNotFoundError:
                continue
        raise self._lost(names[0].file_name)

    def _lost(self, what: str) -> CorruptionError:
        return CorruptionError(
            "a listed segment cannot be found", file=str(self._directory / what), offset=0, stream=self.stream
        )

    def _active_number(self) -> int | None:
        """Return the active segment's number, or None where no live control says it."""
        if self._control is None:
            try:
                control = Control(self._directory / "control", writable=False)
            except FileNotFoundError:
                return None
            if control.stored_boot_identity != control.boot_identity():
                control.close()
                return None
            self._control = control
        return self._control.active

    def _following(self, segment: SegmentReader, walked: int) -> SegmentReader | None:
        """Return the segment after a finished one that holds ``walked`` entries, or None if that is active."""
        for _ in range(_TRIES_MAX):
            active = self._active_number()
            later = [name for name in self._refresh() if name.number > segment.number]
            if not later:
                if active is None or active <= segment.number:
                    return None
                continue
            try:
                following = self._segment(later[0])
            except FileNotFoundError:
                continue
            header = following.segment.header
            if header.base < segment.base + walked:
                raise CorruptionError(
                    f"segment {header.number} starts at entry {header.base}, "
                    f"the one before reaches {segment.base + walked}",
                    file=str(following.path), offset=layout.SEGMENT_BASE, stream=self.stream,
                )  # fmt: skip
            if header.previous_uuid != segment.segment.header.uuid and segment.path.exists():
                # Retention removes the oldest first, so what lies between a kept segment and a later one was
                # not retired.
                raise CorruptionError(
                    f"segment {header.number} does not follow segment {segment.number}, which is still there",
                    file=str(following.path), offset=layout.SEGMENT_PREVIOUS_UUID, stream=self.stream,
                )  # fmt: skip
            return following
        raise self._lost(f"{segment.number + 1:010d}-*.seg")

    def _next_of(
        self, segment: SegmentReader, tail: Tail, stop: int, next_index: int
    ) -> SegmentReader | None:
        """Return the segment that goes on behind the last frame of this one, or None at the end for now."""
        if tail.sealed or stop == STOP_SEAL:
            return self._following(segment, next_index)
        active = self._active_number()
        if active is None:
            later = any(name.number > segment.number for name in self._refresh())
        else:
            later = active > segment.number
        if not later or segment.look() != tail:
            return None
        # A later segment exists, so this tail was sealed once. If the next base agrees, nothing is missing.
        following = self._following(segment, tail.entries)
        if following is not None and following.base != segment.base + tail.entries:
            raise CorruptionError(
                f"segment {following.number} starts at entry {following.base}, "
                f"the one before is not sealed and ends at {segment.base + tail.entries}",
                file=str(segment.path), offset=layout.SEGMENT_TAIL, stream=self.stream,
            )  # fmt: skip
        return following

    # ---- Words in flight ----

    def _resolve(self, segment: SegmentReader, unit: int) -> bool:
        """Wait for a word in flight, have it repaired where that is possible; True once it is final."""
        deadline = time.monotonic() + BLOCKED_PATIENCE_S
        while not _is_final(segment.word(unit)):
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_AGAIN_S)
        else:
            return True
        if self._repair is None:
            return False
        try:
            self._repair(segment.number, unit)
        except StalledWriterError:
            return False
        return _is_final(segment.word(unit))

    # ---- Reading ----

    def read(self, start: int = 0, count: int = 100) -> ReadBatch:
        """Return up to ``count`` committed entries from number ``start`` on; 0 means from the first kept
        entry.

        Does not wait for entries to come. Raises EntryNotFoundError for a start that was retired or is beyond
        the next entry, CorruptionError at damage.
        """
        if start < 0 or count < 0:
            raise EntryNotFoundError(f"start and count are at least 0, got {start} and {count}")
        segment = self._locate(start)
        if segment is None:
            return ReadBatch(self.stream, [], start)
        return self._read_on(segment, max(start, segment.base), count)

    def _locate(self, start: int) -> SegmentReader | None:
        """Return the segment that ``start`` falls in, or None for a shard without segments."""
        for attempt in range(_TRIES_MAX):
            names = self._names if attempt == 0 and self._names else self._refresh()
            if not names:
                if start:
                    raise self._not_found(start, 0, 0)
                return None
            position = bisect_right(names, start, key=lambda name: name.base) - 1
            fresh = attempt > 0
            if position < 0 and start > 0:
                if fresh:
                    raise self._not_found(start, names[0].base, self.next_entry())
                continue
            if start == 0 and not fresh:
                continue
            try:
                segment = self._segment(names[max(position, 0)])
            except FileNotFoundError:
                continue
            if position == len(names) - 1 and start > segment.base + segment.look().entries:
                if fresh:
                    raise self._not_found(start, names[0].base, segment.base + segment.look().entries)
                continue
            return segment
        raise self._lost(names[0].file_name)

    def _not_found(self, start: int, first: int, following: int) -> EntryNotFoundError:
        return EntryNotFoundError(
            f"entry {start} of {self.stream}: the first kept entry is {first}, the next to come {following}"
        )

    def _read_on(self, segment: SegmentReader, number: int, count: int) -> ReadBatch:
        runs: list[Run] = []
        missing = count
        while True:
            tail = segment.look()
            found = segment.collect(max(number - segment.base, 0), missing, tail)
            if found.frames.entries:
                runs.append(Run(segment.path, found.frames))
                missing -= found.frames.entries
                number = found.frames.stop_number
            if found.stop == STOP_FULL:
                return ReadBatch(self.stream, runs, number)
            number = max(number, segment.base + found.next_index)
            if found.stop == STOP_BLOCKED:
                if self._resolve(segment, found.unit):
                    continue
                return ReadBatch(self.stream, runs, number)
            if found.stop != STOP_SEAL:
                number = max(number, segment.base + tail.entries)
            following = self._next_of(segment, tail, found.stop, found.next_index)
            if following is None:
                return ReadBatch(self.stream, runs, number)
            segment = following
            number = max(number, segment.base)

    def scan(self, start: int | None = None, stop: int | None = None) -> Iterator[Entry]:
        """Yield entries in order from ``start`` (None: the first kept) up to, not including, ``stop`` (None:
        the end by then).

        Where retention removes what comes next, goes on with the first entry that is kept: the numbers show
        the gap.
        """
        batch = self.read(0 if start is None else start, SCAN_ENTRIES)
        while len(batch):
            for entry in batch:
                if stop is not None and entry.number >= stop:
                    return
                yield entry
            try:
                batch = self.read(batch.next_entry, SCAN_ENTRIES)
            except EntryNotFoundError:
                first = self._first_segment()
                if first is None or first.base <= batch.next_entry:
                    raise
                batch = self.read(first.base, SCAN_ENTRIES)

    def recent(self, count: int) -> ReadBatch:
        """Return the last ``count`` committed entries, or all where there are fewer."""
        first_segment = self._first_segment()
        if first_segment is None or count <= 0:
            return self.read(self.next_entry(), 0)
        first, following = first_segment.base, self.next_entry()
        span = count
        while True:
            start = max(first, following - span)
            runs: list[Run] = []
            found, position = 0, start
            while position < following:
                batch = self.read(position, following - position)
                runs += batch.runs
                found += len(batch)
                if batch.next_entry <= position or not len(batch):
                    break
                position = batch.next_entry
            if found >= count or start == first:
                return ReadBatch(self.stream, _last(runs, found - count), position)
            span *= 2

    # ---- Counts ----

    def first_entry(self) -> int:
        """Return the number of the first entry that can be read, or the next entry where there is none."""
        batch = self.read(0, 1)
        return batch.numbers[0] if len(batch) else batch.next_entry

    def next_entry(self) -> int:
        """Return the number that the next append will get; 0 for a new stream."""
        for _ in range(_TRIES_MAX):
            names = self._refresh()
            if not names:
                return 0
            try:
                last = self._segment(names[-1])
            except FileNotFoundError:
                continue
            return last.base + last.look().entries
        raise self._lost(names[-1].file_name)

    def entry_count(self) -> int:
        """Return how many entries a full read gives; numbers burnt by appends that died are not counted."""
        live_total = 0
        segment = self._first_segment()
        while segment is not None:
            tail = segment.look()
            live, unit, stop = segment.count_live(tail)
            if stop == STOP_BLOCKED:
                if self._resolve(segment, unit):
                    continue
                return live_total + live
            live_total += live
            segment = self._next_of(segment, tail, stop, tail.entries if stop != STOP_SEAL else 0)
        return live_total

    def verify(self) -> VerifyReport:
        """Check every frame, batch and header of the stream; raises CorruptionError at the first damage."""
        segments = frames = entries = 0
        segment = self._first_segment()
        blocked_at = None
        while segment is not None and blocked_at is None:
            segments += 1
            number = segment.base
            while True:
                tail = segment.look()
                found = segment.collect(number - segment.base, SCAN_ENTRIES, tail, whole_frames=True)
                ReadBatch(self.stream, [Run(segment.path, found.frames)], number).arrow_batches()
                frames += len(found.frames)
                entries += found.frames.entries
                number = segment.base + found.next_index
                if found.stop == STOP_BLOCKED and not self._resolve(segment, found.unit):
                    blocked_at = (segment.number, found.unit)
                    break
                if found.stop not in (STOP_FULL, STOP_BLOCKED):
                    segment = self._next_of(segment, tail, found.stop, found.next_index)
                    break
        return VerifyReport(self.stream, segments, frames, entries, blocked_at)

    def close(self) -> None:
        """Close every file; batches already read stay usable. Closing twice is harmless."""
        self._closed = True
        for segment in self._open.values():
            segment.close()
        self._open.clear()
        self._names.clear()
        if self._control is not None:
            self._control.close()
            self._control = None


def _last(runs: list[Run], excess: int) -> list[Run]:
    """Leave out the first ``excess`` entries of some runs."""
    kept = []
    for run in runs:
        dropped = min(max(excess, 0), run.frames.entries)
        excess -= dropped
        run.frames.drop_first(dropped)
        if run.frames.entries:
            kept.append(run)
    return kept
