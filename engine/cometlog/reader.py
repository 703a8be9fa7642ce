"""Reading one shard: by entry number, across segments, beside writers that never wait for it.

PROTOCOL.md C is the contract.

Thread safety: a lock makes one call at a time; it is released while ``repair`` runs, which may take a
client's own locks. A reader takes no lock of the shard and writes nothing: it waits briefly for what it meets
in flight, then hands it to the ``repair`` of a client that may write, or judges by itself (``onlooker.py``).

Invariants: entries are returned in order and each once; what was returned stays; a frame is verified before
it is returned.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cometlog.errors import ClosedError, EntryNotFoundError, StalledWriterError
from cometlog.index import INDEX_ENTRIES_MAX
from cometlog.judging import is_resolved
from cometlog.kernel.scan import STOP_BLOCKED, STOP_FULL, STOP_SEAL
from cometlog.read_batch import Entry, ReadBatch, Run, new_run
from cometlog.segment import SegmentName
from cometlog.segment_chain import TRIES_MAX, SegmentChain
from cometlog.segment_reader import SegmentReader

BLOCKED_PATIENCE_S = 0.001
SCAN_ENTRIES = 1000
CLOCK_STEP_NS_MAX = 1_000_000_000
"""How far the clock may have been set back without a search by time passing anything by."""
_LOOK_AGAIN_S = 0.0001

Repair = Callable[[int, int], object]
"""Called with segment number and unit of a word that stays in flight; returns once it tried to resolve it."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a full check passed. ``blocked_at``: (segment number, unit) of a word in flight that ended it."""

    stream: str
    segments: int
    frames: int
    entries: int
    blocked_at: tuple[int, int] | None


class ShardReader:
    """Reads the stream whose shard is ``directory``; one that is missing or empty has no entries.

    ``repair`` is given by a client that may write: called with (segment number, unit) for a word that stays
    in flight for more than 1 ms. A reader may go on serving a segment that retention has just removed.
    """

    def __init__(
        self, directory: Path, stream: str, *, repair: Repair | None = None,
        index_entries_max: int = INDEX_ENTRIES_MAX,
    ) -> None:  # fmt: skip
        self.stream = stream
        self._chain = SegmentChain(directory, stream, index_entries_max)
        self._repair = repair
        self._closed = False
        self._last: SegmentReader | None = None
        self._lock = threading.Lock()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the reader of {self.stream} is closed")

    # ---- Words in flight ----

    def _resolve(self, segment: SegmentReader, unit: int) -> SegmentReader | None:
        """Wait for a word in flight, have it repaired where that is possible, or pass it by where its writer is dead.

        Returns the segment to go on in once the word is final or passed by, None if it stays as it is. Raises CorruptionError for one
        below the durable mark, where nothing can be in flight.
        """
        deadline = time.monotonic() + BLOCKED_PATIENCE_S
        while not is_resolved(segment.word(unit)):
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_AGAIN_S)
        else:
            return segment
        self._chain.check_not_durable(segment, unit)
        if self._repair is None:
            return segment if self._chain.pass_by(segment, unit) else None
        self._lock.release()
        try:
            self._repair(segment.number, unit)
        except StalledWriterError:
            return None
        finally:
            self._lock.acquire()
        # Meanwhile another thread may have closed what was open, and retention may have removed it.
        self._check_open()
        try:
            segment = self._chain.open(SegmentName(segment.number, segment.base))
        except FileNotFoundError:
            return None
        return segment if unit < segment.look().units and is_resolved(segment.word(unit)) else None

    # ---- Reading ----

    def read(self, start: int = 0, count: int = 100) -> ReadBatch:
        """Return up to ``count`` committed entries from number ``start`` on, without waiting for more.

        A start of 0 means the first kept entry. Raises EntryNotFoundError for a start that was retired or
        lies beyond the next entry, CorruptionError at damage.
        """
        with self._lock:
            if self._closed:
                self._check_open()
            last = self._last
            if last is not None and start > 0 and count > 0:
                frames = last.go_on(start, count)
                if frames is not None:
                    return ReadBatch(self.stream, (new_run((last.path, frames)),), last.follower.next_entry)
            return self._read(start, count)

    def _read(self, start: int, count: int) -> ReadBatch:
        if start < 0 or count < 0:
            raise EntryNotFoundError(f"start and count are at least 0, got {start} and {count}")
        segment = self._locate(start)
        if segment is None:
            return ReadBatch(self.stream, [], start)
        return self._read_on(segment, max(start, segment.base), count)

    def _locate(self, start: int) -> SegmentReader | None:
        """Return the segment that ``start`` falls in, or None for a shard without segments."""
        for attempt in range(TRIES_MAX):
            is_known = attempt == 0 and self._chain.names and not self._chain.is_doubtful
            names = self._chain.names if is_known else self._chain.refresh()
            if not names:
                if start:
                    raise self._not_found(start, 0, 0)
                return None
            position = bisect_right(names, start, key=lambda name: name.base) - 1
            fresh = attempt > 0
            if position < 0 and start > 0:
                if fresh:
                    raise self._not_found(start, names[0].base, self._next_entry())
                continue
            if start == 0 and not fresh:
                continue
            try:
                segment = self._chain.open(names[max(position, 0)])
            except FileNotFoundError:
                continue
            if (
                position == len(names) - 1
                and start > segment.base + segment.entries_seen
                and start > segment.base + segment.look().entries
            ):
                if fresh:
                    raise self._not_found(start, names[0].base, segment.base + segment.look().entries)
                continue
            return segment
        raise self._chain.lost(names[0].file_name)

    def _not_found(self, start: int, first: int, following: int) -> EntryNotFoundError:
        return EntryNotFoundError(
            f"entry {start} of {self.stream}: the first kept entry is {first}, the next to come {following}"
        )

    def _read_on(self, segment: SegmentReader, number: int, count: int) -> ReadBatch:
        runs: list[Run] = []
        missing = count
        while True:
            self._last = segment
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
                resolved = self._resolve(segment, found.unit)
                if resolved is None:
                    return ReadBatch(self.stream, runs, number)
                segment = resolved
                continue
            if found.stop != STOP_SEAL:
                number = max(number, segment.base + tail.entries)
            following = self._chain.next_of(segment, tail, found.stop, found.next_index)
            if following is None:
                return ReadBatch(self.stream, runs, number)
            segment = following
            number = max(number, segment.base)

    def scan(self, start: int | None = None, stop: int | None = None) -> Iterator[Entry]:
        """Yield the entries from ``start`` to ``stop - 1`` in order; by default all that are kept by then.

        Where retention removes what comes next, goes on with the first kept entry: the numbers show the gap.
        """
        batch = self.read(0 if start is None else start, SCAN_ENTRIES)
        while len(batch):
            for entry in batch.each():
                if stop is not None and entry.number >= stop:
                    return
                yield entry
            try:
                batch = self.read(batch.next_entry, SCAN_ENTRIES)
            except EntryNotFoundError:
                batch = self.read(0, SCAN_ENTRIES)
                if batch.next_entry <= entry.number:
                    raise

    def recent(self, count: int) -> ReadBatch:
        """Return the last ``count`` committed entries, or all where there are fewer."""
        with self._lock:
            self._check_open()
            first_segment = self._chain.first()
            first = first_segment.base if first_segment else 0
            following = self._next_entry()
            span = max(count, 0)
            while True:
                start = max(first, following - span)
                runs, position = self._runs_between(start, following)
                # Nothing but new entries lies behind: a read that finds more that the tail counts not, finds damage.
                self._read(position, 1)
                found = sum(run.frames.entries for run in runs)
                if found >= count or start == first:
                    return ReadBatch(self.stream, _last(runs, found - count), position)
                span *= 2

    def _runs_between(self, start: int, stop: int) -> tuple[list[Run], int]:
        """Return the runs of a read from ``start`` until ``stop`` is reached or nothing more is there."""
        runs: list[Run] = []
        while start < stop:
            batch = self._read(start, stop - start)
            runs += batch.runs
            if not len(batch):
                break
            start = batch.next_entry
        return runs, start

    # ---- Times ----

    def entry_at_time(self, time_ns: int) -> int:
        """Return the number of the first entry with a timestamp of ``time_ns`` or later, or the next to come where there is none.

        Of a clock that was set back by more than a second, the entries before the step may be passed by. Raises TypeError.
        """
        if not isinstance(time_ns, int):
            raise TypeError(f"a time is whole ns since 1970, got {time_ns!r}")
        with self._lock:
            self._check_open()
            for _ in range(TRIES_MAX):
                with suppress(FileNotFoundError, EntryNotFoundError):  # retention was faster
                    return self._first_from(self._number_before(time_ns - CLOCK_STEP_NS_MAX), time_ns)
            return self._first_from(0, time_ns)

    def _number_before(self, time_ns: int) -> int:
        """Return a number that no entry of ``time_ns`` or later lies before, but for those that the clock was set back behind."""
        names = self._chain.refresh()
        low, high = 0, len(names)
        while high - low > 1:
            middle = (low + high) // 2
            if self._chain.open(names[middle]).begins_before(time_ns):
                low = middle
            else:
                high = middle
        return self._chain.open(names[low]).number_before_time(time_ns) if names else 0

    def _first_from(self, start: int, time_ns: int) -> int:
        while len(batch := self._read(start, SCAN_ENTRIES)):
            for number, timestamp_ns in zip(batch.numbers, batch.timestamps_ns, strict=True):
                if timestamp_ns >= time_ns:
                    return number
            start = batch.next_entry
        return batch.next_entry

    # ---- Counts ----

    def first_entry(self) -> int:
        """Return the number of the first entry that can be read, or the next entry where there is none."""
        batch = self.read(0, 1)
        return batch.numbers[0] if len(batch) else batch.next_entry

    def next_entry(self) -> int:
        """Return the number that the next append will get; 0 for a new stream."""
        with self._lock:
            self._check_open()
            return self._next_entry()

    def _next_entry(self) -> int:
        for _ in range(TRIES_MAX):
            names = self._chain.refresh()
            if not names:
                return 0
            try:
                last = self._chain.open(names[-1])
            except FileNotFoundError:
                continue
            return last.base + last.look().entries
        raise self._chain.lost(names[-1].file_name)

    def entry_count(self) -> int:
        """Return how many entries a full read gives; numbers burnt by appends that died are not counted."""
        with self._lock:
            self._check_open()
            live_before = 0
            segment = self._chain.first()
            while segment is not None:
                tail = segment.look()
                live, unit, stop = segment.count_live(tail)
                if stop == STOP_BLOCKED:
                    segment = self._resolve(segment, unit)
                    if segment is None:
                        return live_before + live
                    continue
                live_before += live
                segment = self._chain.next_of(segment, tail, stop, 0 if stop == STOP_SEAL else tail.entries)
            return live_before

    def verify(self) -> VerifyReport:
        """Check every frame, batch and header; raises CorruptionError at the first damage."""
        with self._lock:
            self._check_open()
            segments = frames = entries = 0
            segment = self._chain.first()
            number = 0
            while segment is not None:
                number = max(number, segment.base)
                tail = segment.look()
                found = segment.collect(number - segment.base, SCAN_ENTRIES, tail, whole_frames=True)
                ReadBatch(self.stream, [Run(segment.path, found.frames)], number).check()
                frames += len(found.frames)
                entries += found.frames.entries
                number = segment.base + found.next_index
                if found.stop == STOP_BLOCKED:
                    resolved = self._resolve(segment, found.unit)
                    if resolved is None:
                        return VerifyReport(
                            self.stream, segments + 1, frames, entries, (segment.number, found.unit)
                        )
                    segment = resolved
                elif found.stop != STOP_FULL:
                    segments += 1
                    segment = self._chain.next_of(segment, tail, found.stop, found.next_index)
            return VerifyReport(self.stream, segments, frames, entries, None)

    def close(self) -> None:
        """Close every file; batches already read stay usable. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            self._last = None
            self._chain.close()


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
