"""Making a shard durable: group commit through one syncer (PROTOCOL G).

Thread safety: threads of a client take turns (``kernel.turns``), processes wait for lock byte 3; nobody waits longer than until
a sync covers it. ``mutex`` keeps a sync and the end of its client apart.

Invariants: the durable position never passes the resolved prefix seen when the sync started; after the first error nothing is
acknowledged by any process (the poison flag), and the sync is not tried again, because the kernel reports a lost page once.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cometlog.control import Control
from cometlog.durable_mark import DurableMark, MarkFile, read_mark
from cometlog.errors import ClosedError, CorruptionError, SyncError
from cometlog.kernel import layout, scan
from cometlog.kernel.helper import ShardWatch
from cometlog.kernel.mapping import Mapping
from cometlog.kernel.turns import TURN_AGAIN, TURN_CLOSED, TURN_COVERED, TURN_POISONED, ThreadTurns
from cometlog.lock_wait import busy_error, release, wait_exclusive
from cometlog.locks import SYNC_BYTE, ShardLocks
from cometlog.place import Place
from cometlog.repair import Repairer
from cometlog.segment import Segment, SegmentName, byte_offset, list_segments, tail_parts
from cometlog.statistics_file import count

_BLOCKED_LOOK_S = 0.001
_LOOK_S = 0.05
_MARK_EVERY_S = 1.0
_WRITTEN_AHEAD_UNITS = (1 << 20) // layout.UNIT_BYTES


@dataclass(frozen=True, slots=True)
class Position:
    """A tail at one moment: segment, unit, and the entry number that comes next."""

    number: int
    unit: int
    next_entry: int


def poisoned_error(stream: str) -> SyncError:
    """Return the error of every acknowledgement after a sync failed."""
    return SyncError(
        f"{stream}: a sync failed, so appended entries may not reach the disk; close every client of this shard, check the "
        f"disk, and open it again: recovery keeps what is readable"
    )


class Syncer:
    """Syncs one shard for one client. ``open_segment(name)`` lends a writable Segment; ``watch`` has its pages ready ahead."""

    def __init__(
        self, stream: str, directory: Path, place: Place, control: Control, locks: ShardLocks,
        open_segment: Callable[[SegmentName], AbstractContextManager[Segment]], *,
        file_mode: int, stall_timeout_s: float, gather_delay_s: float, statistics: Mapping, watch: ShardWatch,
    ) -> None:  # fmt: skip
        self._stream = stream
        self._directory = directory
        self._directory_fd = place.directory_fd
        self._place = place
        self._control = control
        self._locks = locks
        self._open_segment = open_segment
        self._mark_path = directory / "durable"
        self._mark_file = MarkFile(self._mark_path, file_mode, place.directory_fd)
        self._stall_timeout_s = stall_timeout_s
        self._gather_delay_s = gather_delay_s
        self._statistics = statistics
        # There when this client came; later ones follow without a gap. Those that retention may remove lie before the mark.
        self._numbers = {name.number for name in list_segments(place.directory_fd)}
        self.mutex = threading.RLock()
        self._turns = ThreadTurns(control.mapping)
        self._closed = False
        self._marked_number = 0
        self._marked_at = 0.0
        self._watch = watch
        self._written = (b"", 0)
        self._protected: tuple[Mapping, int] | None = None
        self._mine: tuple[DurableMark, SegmentName] | None = None

    def sync(self, position: Position) -> None:
        """Return once everything before ``position`` is on stable storage.

        Raises SyncError, in every process from then on, when the file system failed; StalledWriterError when a live writer
        stopped inside the range; ShardBusyError when another process stopped in the middle of its sync.
        """
        started_ns = time.monotonic_ns()
        try:
            self._sync_in_turn(position)
        finally:
            count(self._statistics, layout.STATISTICS_SYNC_WAIT, time.monotonic_ns() - started_ns)

    def _sync_in_turn(self, position: Position) -> None:
        if self._gather_delay_s:
            time.sleep(self._gather_delay_s)
        try:
            if self._take_turn(position):
                with self.mutex:
                    self._check_open()
                    self._sync_alone(position)
        finally:
            self._turns.end()

    def _take_turn(self, position: Position) -> bool:
        """Return whether this thread is to sync: the others wait, until what they appended is durable."""
        while True:
            outcome = self._turns.wait(position.next_entry, _LOOK_S)
            if outcome == TURN_POISONED:
                raise poisoned_error(self._stream)
            if outcome == TURN_CLOSED:
                raise self._closed_error()
            if outcome != TURN_AGAIN:
                return outcome != TURN_COVERED

    def _sync_alone(self, position: Position) -> None:
        """Sync as the one thread of this client that does, and the one process."""
        locks, control, timeout_s = self._locks, self._control, self._stall_timeout_s
        covered = partial(self.covers, position)
        if not wait_exclusive(locks, control, SYNC_BYTE, timeout_s, covered, position.next_entry):
            if covered():
                return
            raise busy_error(locks, SYNC_BYTE, f"{self._stream}: nothing was synced", timeout_s)
        durable_before = control.durable_entry
        try:
            if not covered():
                self._sync_to_tail()
        finally:
            release(locks, control, SYNC_BYTE, durable_before)
        if self._protected is not None:
            self._watch.populate_again(*self._protected)
            self._protected = None

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"the client that wrote {self._stream} was closed before its sync began")

    def covers(self, position: Position) -> bool:
        """Return whether everything before ``position`` is on stable storage; raises SyncError once a sync failed."""
        if self._control.poisoned:
            raise poisoned_error(self._stream)
        return self._control.durable_entry >= position.next_entry

    def _sync_to_tail(self) -> None:
        """Sync everything appended so far, other processes' entries included: they find it done.

        Raises NotALogError where a segment of the range is no longer in its place.
        """
        self._place.check()
        mark, names = self._range()
        with ExitStack() as lent:
            segments = [lent.enter_context(self._open_segment(name)) for name in names]
            for segment in segments:
                if not os.fstat(segment.fd).st_nlink:
                    raise self._place.lost(segment.path)
            self._sync_segments(mark, segments)

    def _range(self) -> tuple[DurableMark | None, list[SegmentName]]:
        """Return the mark and the segments from it to the active one.

        Neither file nor directory is read where nobody has synced since this client did, and the segment is the same: a mark of its
        own is true for ever. Raises NotALogError where a segment is no longer in its place.
        """
        active = self._control.active  # before the listing: a segment is linked before it is active
        if self._mine is not None:
            mine, name = self._mine
            if mine.number == active and mine.next_entry == self._control.durable_entry:
                return mine, [name]
        mark = self._read_mark()
        first = mark.number if mark is not None else 0
        names = [name for name in list_segments(self._directory_fd) if first <= name.number <= active]
        there = {name.number for name in names}
        later = range(max(self._numbers) + 1, active + 1)
        for number in [*sorted(self._numbers), *later]:
            if first <= number <= active and number not in there:
                raise self._place.lost(self._directory / f"{number:010d}-*.seg")
        return mark, names

    def _read_mark(self) -> DurableMark | None:
        return read_mark(self._mark_path, self._directory_fd)

    def _sync_segments(self, mark: DurableMark | None, segments: list[Segment]) -> None:
        reached: Position | None = None
        for segment in segments:
            start = mark if mark is not None and mark.uuid == segment.header.uuid else None
            reached = self._resolve_to_tail(segment, start)
        if reached is None:
            return
        started_ns = time.monotonic_ns()
        try:
            for segment in segments[:-1]:
                os.fdatasync(segment.fd)
            self._sync_last(mark, segments[-1], reached)
            if len(segments) > 1 or mark is None or mark.uuid != segments[-1].header.uuid:
                os.fsync(self._directory_fd)
        except OSError as error:
            self._control.poison()
            raise poisoned_error(self._stream) from error
        self._count_sync(started_ns)
        last = segments[-1]
        self._mine = (self._write_mark(mark, last, reached), SegmentName(last.number, last.base))
        self._control.raise_durable(reached.next_entry, reached.number)

    def _sync_last(self, mark: DurableMark | None, segment: Segment, reached: Position) -> None:
        """Sync the segment that is appended to, up to where the walk stopped.

        The pages that lie ready ahead of the tail are dirty too. Written with every sync they would cost their writing each time, and
        a page fault each when entries come. But blocks that were never written make a sync wait for the journal: so where little is
        synced at a time, some of what lies ahead is written with it now and then, and most syncs find blocks that were.
        """
        uuid, stop = segment.header.uuid, reached.unit
        little = (
            stop - (mark.unit if mark is not None and mark.uuid == uuid else 0) <= _WRITTEN_AHEAD_UNITS // 4
        )
        if little and (uuid != self._written[0] or stop > self._written[1]):
            stop = max(stop, min(stop + _WRITTEN_AHEAD_UNITS, segment.backed_units()))
            self._written = (uuid, stop)
        segment.sync_to(stop)
        if stop > reached.unit:
            self._protected = (segment.mapping, byte_offset(reached.unit))

    def _count_sync(self, started_ns: int) -> None:
        count(self._statistics, layout.STATISTICS_SYNCS)
        count(self._statistics, layout.STATISTICS_SYNC_TIME, time.monotonic_ns() - started_ns)

    def _resolve_to_tail(self, segment: Segment, start: DurableMark | None) -> Position:
        """Repair until every word before the present tail is final; return where the walk stopped."""
        entries, units, _ = tail_parts(segment.tail())
        first_index = start.next_entry - segment.base if start is not None else 0
        walk = scan.Walk(
            segment.mapping, segment.header.uuid, start.unit if start is not None else 0, first_index
        )
        wanted = segment.base + entries
        while walk.unit < units:
            stop = walk.advance(segment.tail(), segment.backed_units(), False)
            if stop == scan.STOP_BLOCKED and walk.unit < units:
                self._unblock(segment, walk.unit)
            elif stop not in (scan.STOP_TAIL, scan.STOP_BLOCKED):
                raise CorruptionError(
                    f"frame cannot be walked before a sync: {scan.WRONG_TEXTS.get(walk.wrong, stop)}",
                    file=str(segment.path), offset=byte_offset(walk.unit), stream=self._stream,
                )  # fmt: skip
        return Position(segment.number, walk.unit, max(wanted, segment.base + walk.next_index))

    def _unblock(self, segment: Segment, unit: int) -> None:
        """Give a live writer a moment, then repair."""
        until = time.monotonic() + _BLOCKED_LOOK_S
        while time.monotonic() < until:
            word = segment.word(unit)
            if word and word >> layout.WORD_KIND_SHIFT & 7 != layout.KIND_CLAIMED:
                return
            time.sleep(0)
        repairer = Repairer(self._control, self._locks)
        repairer.repair(segment, unit, self._stall_timeout_s)
        self._control.count(layout.CONTROL_RECOVERED_WORDS, repairer.repaired_words)

    def note_durable(self, segment: Segment, started_ns: int) -> None:
        """Publish the tail of a segment that the caller, who holds the append lock, has synced since ``started_ns`` (monotonic).

        The mark on disk follows once a second and in each new segment: a mark that lags costs recovery a walk, never an entry.
        """
        self._count_sync(started_ns)
        count(self._statistics, layout.STATISTICS_SYNC_WAIT, time.monotonic_ns() - started_ns)
        entries, units, _ = tail_parts(segment.tail())
        next_entry = segment.base + entries
        self._control.raise_durable(next_entry, segment.number)
        if segment.number == self._marked_number and time.monotonic() - self._marked_at < _MARK_EVERY_S:
            return
        if not self.mutex.acquire(blocking=False):
            return  # a sync in another thread of this client holds byte 3 and writes a mark of its own
        try:
            # The append is durable and visible: a mark that cannot be written, or locked, lags, and fails nothing.
            with suppress(OSError):
                self._mark_alone(segment, Position(segment.number, units, next_entry))
        finally:
            self.mutex.release()

    def _mark_alone(self, segment: Segment, position: Position) -> None:
        """Write a mark unless another process syncs just now, which writes its own, or was stopped with the lock. Raises OSError."""
        if self._locks.try_exclusive(SYNC_BYTE):
            try:
                self._write_mark(self._read_mark(), segment, position)
            finally:
                self._locks.unlock(SYNC_BYTE)

    def leave(self, position: Position) -> None:
        """Sync up to ``position`` as the last client of the shard, and bring the mark on disk up to it."""
        self._place.check()
        with self.mutex:  # not by turns: who has the turn may wait for the mutex, which leaving holds
            self._sync_alone(position)
        mark = self._read_mark()
        if mark is None or mark.next_entry < position.next_entry:
            self._sync_to_tail()

    def _write_mark(self, before: DurableMark | None, segment: Segment, position: Position) -> DurableMark:
        sequence = before.sequence + 1 if before is not None else 1
        self._marked_number, self._marked_at = segment.number, time.monotonic()
        header = segment.header
        mark = DurableMark(
            sequence, header.number, position.unit, position.next_entry, header.uuid, header.epoch
        )
        self._mark_file.write(mark)
        return mark

    def close(self) -> None:
        """Close the mark file; who waits for a sync that did not begin is told so."""
        self._closed = True
        self._turns.close()
        self._mark_file.close()
