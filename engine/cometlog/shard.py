"""One client's writing side of a shard: the active segment, rotation, sync and repair (where PROTOCOL A, B, E and G meet).

Thread safety: ``lock`` guards everything but the append of the mmap path, which the GIL serialises. Never hold it while waiting for
another thread's append.

Invariants: byte 0 is held, shared or exclusive, from attach to detach; each slot used is locked; the bound segment was active
when it was bound. In a forked child the handle is dead: locks and descriptors were closed by the fork handler, and the first use
attaches anew.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cometlog.background import helper_of_this_process
from cometlog.config import Config, RetentionConfig
from cometlog.control import CleanRecord
from cometlog.durability import Position, Syncer, poisoned_error
from cometlog.durable_mark import read_mark
from cometlog.entrance import Entrance, make_directories
from cometlog.errors import ClosedError, CorruptionError
from cometlog.file_system import check_file_system
from cometlog.kernel import layout
from cometlog.kernel.fork_guard import ForkGuard, guard_descriptor, process_id, release_descriptor
from cometlog.kernel.helper import ShardWatch
from cometlog.kernel.index_writer import IndexWriter
from cometlog.locks import INDEX_BYTE, ShardLocks
from cometlog.names import StreamName
from cometlog.place import OPEN_DIRECTORY, Place
from cometlog.repair import Repairer
from cometlog.retention import ExcessBytes, RemovedSegment, Retention
from cometlog.rotation import PreparedFile, capacity_for, file_length_for, next_header
from cometlog.segment import Segment, SegmentName, list_segments, tail_parts
from cometlog.slots import Slots
from cometlog.statistics_file import statistics_to_write

_KEPT_SEGMENTS_MAX = 64
_KEEPER_HEAD_START_S = 0.005
_KEEPER_LOOK_S = 0.0001


class Shard:
    """The shard as its writers see it.

    ``exclusive``: this client alone, for as long as it is attached (``buffered``). ``populate``: segments are faulted in ahead, for
    stores into the map. ``index_in_background``: the helper thread keeps the index (all but ``sync``).
    """

    def __init__(
        self, root: Path, stream: StreamName, config: Config, write_path: str, *, exclusive: bool, populate: bool,
        index_in_background: bool = True, guard: ForkGuard | None = None,
    ) -> None:  # fmt: skip
        self.attached = False
        self.stream = str(stream)
        self.config = config
        self.write_path = write_path
        self.directory = stream.directory(root)
        self.lock = threading.RLock()
        self.guard = guard or ForkGuard()
        self._pid = process_id()
        self._root = root
        self._exclusive = exclusive
        self._index_in_background = index_in_background
        self._populate = populate
        self._kept: dict[int, Segment] = {}
        self._pins: Counter[int] = Counter()
        self._retaining = threading.Lock()
        self._synced_index: IndexWriter | None = None
        self._indexed_number = 0

    @property
    def capacity_units(self) -> int:
        """Units of the segments that this client creates."""
        return capacity_for(self.config.storage.segment_size_bytes)

    def attach(self) -> None:
        """Become a writer of the shard (A1), recovering it first where nobody else is attached."""
        storage = self.config.storage
        make_directories(self._root, self.directory, storage.directory_mode)
        check_file_system(self.directory, allow_network=storage.allow_network_file_system)
        with ExitStack() as undo:
            self.directory_fd = os.open(self.directory, OPEN_DIRECTORY)
            undo.callback(self._close_directory)
            guard_descriptor(self.directory_fd)
            self.place = Place(self.stream, self.directory, self.directory_fd)
            self.locks = ShardLocks(self.directory / "lock", storage.file_mode, self.directory_fd)
            undo.callback(self.locks.close)
            self.place.hold("lock", self.locks.identity)
            self._entrance = Entrance(
                self.stream, self.directory, self.config, self.write_path, self.locks, self.place,
                exclusive=self._exclusive, populate=self._populate,
            )  # fmt: skip
            self.control = self._entrance.enter()
            undo.callback(self.control.close)
            self.place.hold("control", self.control.file_identity)
            self.check_poison()
            self.statistics = statistics_to_write(self.directory, storage.file_mode)
            undo.callback(self.statistics.close)
            self.slots = Slots(self.stream, self.control, self.locks)
            self._kept = {}
            self.rotation_slot = self.slots.take()
            # Only the mmap path looks at the guard word, so only there may the helper sleep until an append wakes it.
            self.watch = ShardWatch(
                helper_of_this_process(), self.directory_fd, guard=self.guard if self._populate else None,
                populate=self._populate, checkpoint_interval_ns=storage.checkpoint_interval_ms * 1_000_000,
                file_mode=storage.file_mode,
            )  # fmt: skip
            undo.callback(self.watch.close)
            self.syncer = Syncer(
                self.stream, self.directory, self.place, self.control, self.locks, self._pinned_segment,
                file_mode=storage.file_mode, stall_timeout_s=self.config.concurrency.stall_timeout_s,
                gather_delay_s=self.config.concurrency.gather_delay_us / 1e6, statistics=self.statistics, watch=self.watch,
            )  # fmt: skip
            undo.callback(self.syncer.close)
            segment = self._open_by_number(self.control.active)
            undo.callback(segment.close)
            self._bind(segment)
            undo.pop_all()
        self.attached = True

    def _close_directory(self) -> None:
        if release_descriptor(self.directory_fd):
            os.close(self.directory_fd)

    def _open_by_number(self, number: int) -> Segment:
        for name in list_segments(self.directory_fd):
            if name.number == number:
                return self._open_segment(name)
        raise self.place.lost(self.directory / f"{number:010d}-*.seg")

    def _open_segment(self, name: SegmentName) -> Segment:
        path = self.directory / name.file_name
        try:
            return Segment(path, writable=True, directory_fd=self.directory_fd)
        except CorruptionError as error:
            raise error.of_stream(self.stream) from error.__cause__

    def _kept_segment(self, name: SegmentName) -> Segment:
        if name.number == self.segment.number:
            return self.segment
        if name.number not in self._kept:
            self._kept[name.number] = self._open_segment(name)
        kept = self._kept[name.number]
        kept.ensure_mapped()
        return kept

    @contextmanager
    def _pinned_segment(self, name: SegmentName) -> Iterator[Segment]:
        """Lend an open, mapped segment: neither a rotation nor a sync in another thread closes it meanwhile."""
        with self.lock:
            self._check_attached()
            segment = self._kept_segment(name)
            view = memoryview(segment.mapping)
            self._pins[name.number] += 1
        try:
            yield segment
        finally:
            view.release()
            with self.lock:
                self._pins[name.number] -= 1

    def _bind(self, segment: Segment, populated_bytes: int = 0) -> None:
        self.segment = segment
        # One client keeps the index and grows the file for all; another takes over when it leaves.
        self._keeper = self.locks.try_exclusive(INDEX_BYTE)
        index = self._new_index_writer(segment) if self._keeper and self._index_in_background else None
        self.watch.follow(segment.mapping, segment.fd, segment.header.capacity_units, index, self._keeper)
        if populated_bytes:
            self.watch.note_populated(populated_bytes)

    def _new_index_writer(self, segment: Segment) -> IndexWriter:
        return IndexWriter(
            segment.mapping, segment.header.uuid, self.config.indexing.boundary_interval_entries, self.directory_fd,
            SegmentName(segment.number, segment.base).index_name, self.config.storage.file_mode, self.statistics,
        )  # fmt: skip

    def persist_index(self, units_before: int) -> None:
        """Bring the index of the active segment up to its tail and sync it; the caller holds the append lock.

        ``units_before`` is the tail before the caller's append: an index that covers less was continued by another process since,
        and is taken up anew from what the file says.
        """
        index = self._synced_index
        if (
            index is None
            or self._indexed_number != self.segment.number
            or index.covered_units != units_before
        ):
            if index is not None:
                index.close()
            index = self._synced_index = self._new_index_writer(self.segment)
            self._indexed_number = self.segment.number
        index.write_checkpoint()
        index.sync()

    def _check_attached(self) -> None:
        if not self.attached:
            raise ClosedError(f"the client that wrote {self.stream} is closed")

    def follow_active(self, *, rotate: bool = True) -> Segment:
        """Bind the active segment if it is another one than before, and return it; a sealed one is rotated first."""
        with self.lock:
            while True:
                active = self.control.active
                if self.segment.number == active:
                    if not rotate or not tail_parts(self.segment.tail())[2]:
                        return self.segment
                    self._rotate(self.segment)
                if self.segment.number != self.control.active:
                    self._replace(self._open_by_number(self.control.active))

    def _replace(self, segment: Segment, populated_bytes: int = 0) -> None:
        before = self.segment
        self._bind(segment, populated_bytes)
        self._kept[before.number] = before
        self._drop_durable_segments()

    def _drop_durable_segments(self) -> None:
        """Close what a sync has covered; of the rest keep the newest, whose descriptors saw every store."""
        # acquire: raised after fdatasync returned, so what lies below needs its descriptor no more.
        durable_segment = self.control.mapping.load_acquire(layout.CONTROL_DURABLE_SEGMENT)
        for number in sorted(self._kept):
            dispensable = number < durable_segment or len(self._kept) > _KEPT_SEGMENTS_MAX
            if dispensable and not self._pins[number]:
                self._kept.pop(number).close()

    def _rotate(self, sealed: Segment) -> None:
        """Publish the segment after a sealed one, or find that somebody did (E).

        Raises NotALogError where the directory or the sealed segment is gone: entries appended further would be lost with it.
        """
        self.control.mark_rotating(self.rotation_slot, sealed.number)
        try:
            if self._somebody_rotates(sealed):
                return
            self._check_place(sealed)
            prepared = self._next_file(file_length_for(self.capacity_units))
            segment = prepared.publish(next_header(sealed, self.capacity_units))
            if self.control.advance_active(sealed.number) and segment is not None:
                self.control.add_to_slot(self.rotation_slot, layout.SLOT_ROTATIONS, 1)
            if segment is not None:
                self._replace(segment, prepared.backed_bytes if self._populate else 0)
        finally:
            self.control.mark_idle(self.rotation_slot)

    def _check_place(self, segment: Segment) -> None:
        self.place.check()
        if not os.fstat(segment.fd).st_nlink:
            raise self.place.lost(segment.path)

    def _next_file(self, length: int) -> PreparedFile:
        """Return the file that the helper has prepared, or make one; raises OSError where neither finds room."""
        taken = self.watch.take_next(length)
        if taken is None:
            try:
                return PreparedFile.make(
                    self.directory, length, self.config.storage.file_mode,
                    populate=self._populate, directory_fd=self.directory_fd,
                )  # fmt: skip
            except OSError:
                # The helper may have begun one meanwhile, and have taken the very room that was missing.
                self.watch.give_up()
                taken = self.watch.take_next(length)
                if taken is None:
                    raise
        fd, mapping, backed_bytes, name, device_and_inode = taken
        return PreparedFile(
            self.directory, name, fd, mapping, backed_bytes, device_and_inode, self.directory_fd
        )

    def _somebody_rotates(self, sealed: Segment) -> bool:
        """Return whether the shard is past a segment; the keeper, who has the next file ready, gets a moment to do it."""
        until = time.monotonic() + (0 if self._keeper else _KEEPER_HEAD_START_S)
        while self.control.active <= sealed.number:
            if time.monotonic() >= until:
                return False
            time.sleep(_KEEPER_LOOK_S)
        return True

    def position(self) -> Position:
        """Return where the shard ends now. Takes no disk: a sealed segment on a full disk is a place like another."""
        with self.lock:
            self._check_attached()
            segment = self.follow_active(rotate=False)
            entries, units, _ = tail_parts(segment.tail())
            return Position(segment.number, units, segment.base + entries)

    def sync_way_to_segment(self) -> None:
        """Make durable what leads to the bound segment: the sealed ones before it, from the mark's on, and its name.

        The caller syncs after each append and holds the append lock. The last tail and the seal of a segment are stored after its last
        sync, and nothing in a later segment may be durable, nor the mark pass, before they are. Raises OSError where a segment cannot
        be opened, SyncError where one cannot be synced.
        """
        mark = read_mark(self.directory / "durable")
        first = 0 if mark is None else mark.number
        sealed = [
            self._kept_segment(name)
            for name in list_segments(self.directory)
            if first <= name.number < self.segment.number
        ]
        try:
            for segment in sealed:
                os.fdatasync(segment.fd)
            os.fsync(self.directory_fd)
        except OSError as error:
            self.control.poison()
            raise poisoned_error(self.stream) from error

    def sync(self) -> None:
        """Make every entry appended so far durable; raises NotALogError where they lie no longer where the log's path leads."""
        with self.lock:
            position = self.position()
            if self.syncer.covers(position):
                self._check_place(self.segment)
                return
        self.syncer.sync(position)

    def repair(self, segment_number: int, unit: int) -> None:
        """Resolve a word that a reader found unresolved for long (D); raises StalledWriterError naming a live writer."""
        names = [name for name in list_segments(self.directory_fd) if name.number == segment_number]
        if not names:
            return
        repairer = Repairer(self.control, self.locks)
        with self._pinned_segment(names[0]) as segment:
            repairer.repair(segment, unit, self.config.concurrency.stall_timeout_s)
        if repairer.repaired_words:
            with self.lock:
                self.control.add_to_slot(self.rotation_slot, layout.SLOT_REPAIRS, repairer.repaired_words)

    def retain(
        self, limits: RetentionConfig, excess_bytes: ExcessBytes | None = None
    ) -> list[RemovedSegment]:
        """Remove the oldest segments as the limits say (``cometlog.retention``) and return what went."""
        with self._retaining:  # byte 7 does not keep two threads of one client apart
            self._check_attached()
            retention = Retention(self.directory, self.stream, self.control, self.locks, self.sync)
            return retention.apply(limits, excess_bytes)

    def check_poison(self) -> None:
        """Raise SyncError if a sync failed in any process."""
        if self.control.poisoned:
            raise poisoned_error(self.stream)

    def detach(self) -> None:
        """Leave the shard; the last to leave syncs and writes the clean record (A4)."""
        # A sync in another thread ends first: what it looks at is closed below.
        with self.syncer.mutex, self.lock:
            if not self.attached:
                return
            try:
                self.watch.close()
                self.slots.give_back()
                if self._entrance.leave(self.control) and not self.control.poisoned:
                    self.syncer.leave(self._position_alone())
                    record = CleanRecord(self.segment.number, self.segment.tail(), self.segment.header.uuid)
                    self.control.write_clean_record(record)
            finally:
                self.attached = False
                self._release()

    def _position_alone(self) -> Position:
        if self.control.active != self.segment.number:
            self._kept[self.segment.number] = self.segment
            self.segment = self._open_by_number(self.control.active)
        entries, units, _ = tail_parts(self.segment.tail())
        return Position(self.segment.number, units, self.segment.base + entries)

    def abandon(self) -> None:
        """Drop what a forked child inherited: maps and segment descriptors, but no lock, no slot and no byte of the shard.

        The fork handler closed the guarded descriptors, and their numbers may be the child's own by now.
        """
        if self._synced_index is not None:
            self._synced_index.close()
        for segment in [self.segment, *self._kept.values()]:
            segment.close()
        self._kept = {}
        self.syncer.close()
        self.statistics.close()
        self.control.close()

    def __del__(self) -> None:
        """Let go of a shard whose client was lost without ``close``: the helper first, which looks at what is closed next.

        Nothing is synced and no clean record written; the next to be alone finds that there is nothing to repair.
        """
        if self.attached and self._pid == process_id():
            self.attached = False
            self.watch.close()
            self._release()

    def _release(self) -> None:
        self.abandon()
        self._close_directory()
        self.locks.close()
