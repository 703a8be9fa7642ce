"""Recovery of a shard that was not left cleanly (PROTOCOL F). The caller holds lock byte 0 exclusively: nobody is attached.

Two forms. On the boot, and with the control file, under which the shard was written, the page cache is whole: every claim is where its
writer left it, and repair with every slot dead resolves it. Otherwise (reboot, lost control file, failed sync) nothing is
trusted but frames that prove themselves.

Invariants: recovery may be killed anywhere and run again; a failure below the durable mark is reported, never cut away; bytes
that may hold old frames are never appended into.
"""

import os
from pathlib import Path

from cometlog.control import CleanRecord, Control
from cometlog.durable_mark import DurableMark, MarkFile, read_mark
from cometlog.errors import CorruptionError
from cometlog.files import sync_directory
from cometlog.group_offsets import OFFSETS_FILE, GroupOffsets
from cometlog.judging import next_used_unit
from cometlog.kernel import layout, scan
from cometlog.locks import ShardLocks
from cometlog.proof import prove, start_of_walk
from cometlog.repair import Repairer
from cometlog.rotation import PreparedFile, file_length_for, new_header, next_header
from cometlog.segment import (
    NUMBER_MAX,
    Segment,
    SegmentName,
    byte_offset,
    list_segments,
    make_tail,
    tail_parts,
)

DISCARDED_SUFFIX = ".discarded"
_NO_WAIT_S = 0.0


def is_clean(directory: Path, control: Control) -> bool:
    """Return whether the last client left the shard as its clean record says, on this boot; then what is backed has its blocks.

    Raises OSError where there is no room for them.
    """
    record = control.read_clean_record()
    if record is None or control.poisoned or control.stored_boot_identity != control.boot_identity():
        return False
    names = list_segments(directory)
    if not names or names[-1].number != record.number or control.active != record.number:
        return False
    # Before anything behind the tail is looked at: to read a hole of a full tmpfs by the map fails.
    allocate_active(directory, control)
    segment = Segment(directory / names[-1].file_name, writable=False)
    try:
        return (
            segment.header.uuid == record.uuid
            and segment.tail() == record.tail
            and tail_parts(record.tail)[1] <= segment.readable_units()
            and _is_marked_soundly(segment, read_mark(directory / "durable"))
            and _is_empty_behind_its_tail(segment)
        )
    finally:
        segment.close()


def _is_marked_soundly(segment: Segment, mark: DurableMark | None) -> bool:
    """Return whether the mark, which may lag, lies in the active segment or before it."""
    if mark is None or mark.number < segment.number:
        return True
    entries, units, _ = tail_parts(segment.tail())
    return (
        mark.uuid == segment.header.uuid
        and mark.unit <= units
        and segment.base <= mark.next_entry <= segment.base + entries
    )


def _is_empty_behind_its_tail(segment: Segment) -> bool:
    """Return whether the next append finds zeros that the file has: a claim of anything else would never become a frame."""
    units = tail_parts(segment.tail())[1]
    backed = segment.backed_units()
    return units <= backed <= segment.readable_units() and next_used_unit(segment, units, backed) == backed


def allocate_active(directory: Path, control: Control) -> None:
    """Have the file system back what the active segment says is backed, behind its tail; raises OSError where there is no room."""
    for name in list_segments(directory):
        if name.number == control.active:
            segment = Segment(directory / name.file_name, writable=True)
            try:
                backed = min(segment.backed_units(), segment.header.capacity_units)
                segment.allocate(tail_parts(segment.tail())[1], backed)
            finally:
                segment.close()


def recover(
    directory: Path, stream: str, control: Control, locks: ShardLocks, *,
    capacity_units: int, file_mode: int, directory_fd: int,
) -> None:  # fmt: skip
    """Make the shard whole and set its active segment.

    Raises CorruptionError for a file that ends before the durable mark.
    """
    recovery = _Recovery(directory, stream, control, capacity_units, file_mode, directory_fd)
    same_boot = control.stored_boot_identity == control.boot_identity() and not control.poisoned
    if same_boot and not recovery.is_contradicted(control.read_clean_record()):
        recovery.check_active()
        repairer = Repairer(control, locks, alone=True)
        whole = recovery.repair_all(repairer)
        control.count(layout.CONTROL_RECOVERED_WORDS, repairer.repaired_words)
        if not whole:
            recovery.keep_what_proves_itself()
    else:
        recovery.keep_what_proves_itself()
    control.count(layout.CONTROL_RECOVERIES)


class _Recovery:
    def __init__(
        self, directory: Path, stream: str, control: Control, capacity_units: int, file_mode: int, directory_fd: int
    ) -> None:  # fmt: skip
        self._directory = directory
        self._stream = stream
        self._control = control
        self._capacity_units = capacity_units
        self._file_mode = file_mode
        self._directory_fd = directory_fd
        self._mark = read_mark(directory / "durable")
        self._names = list_segments(directory)
        if self._mark is not None:
            self._names = self._names_from_mark(self._mark)

    def _names_from_mark(self, mark: DurableMark) -> list[SegmentName]:
        """Return the segments from the mark's on. Retention removes the oldest first, and none behind the mark."""
        found = [name for name in self._names if name.number >= mark.number]
        if not found or (found[0].number > mark.number and len(found) < len(self._names)):
            raise CorruptionError(
                f"segment {mark.number} of the durable mark is missing",
                file=str(self._directory / "durable"), offset=0, stream=self._stream,
            )  # fmt: skip
        return found

    def _highest_number(self) -> int:
        """Return the highest segment number ever seen here, set aside or marked segments included."""
        seen = [
            int(path.name[:10]) for path in self._directory.glob("[0-9]*.seg*") if path.name[:10].isdecimal()
        ]
        return max([*seen, self._mark.number if self._mark is not None else 0])

    def is_contradicted(self, record: CleanRecord | None) -> bool:
        """Return whether the files changed as no append changes them since the last client left: nothing to repair, much to doubt."""
        if record is None:
            return False
        name = self._names[-1]
        if not name.number == record.number == self._control.active:
            return True
        segment = self._open(name)
        try:
            entries, units, _ = tail_parts(segment.tail())
            before_entries, before_units, _ = tail_parts(record.tail)
            return segment.header.uuid != record.uuid or entries <= before_entries or units <= before_units
        finally:
            segment.close()

    def check_active(self) -> None:
        """Raise CorruptionError where the active segment, linked before it became active, is gone."""
        if self._control.active > self._highest_number():
            raise CorruptionError(
                f"the active segment {self._control.active} is missing",
                file=str(self._control.path), offset=layout.CONTROL_ACTIVE, stream=self._stream,
            )  # fmt: skip

    def _open(self, name: SegmentName) -> Segment:
        return Segment(self._directory / name.file_name, writable=True)

    def _make_file(self, length: int) -> PreparedFile:
        return PreparedFile.make(
            self._directory, length, self._file_mode, populate=False, directory_fd=self._directory_fd
        )

    def repair_all(self, repairer: Repairer) -> bool:
        """Repair every segment from the mark's to the active one; False where something does not walk."""
        active = self._control.active
        names = [name for name in self._names if name.number <= active]
        if not names or names[-1].number != active:
            return False
        for name in names:
            segment = self._open(name)
            try:
                if not self._repair_segment(segment, repairer):
                    return False
                if name.number == active:
                    self._seal_torn_append(segment)
            finally:
                segment.close()
        return True

    def _repair_segment(self, segment: Segment, repairer: Repairer) -> bool:
        unit, index = start_of_walk(segment, self._mark, self._stream)
        tail = segment.tail()
        readable = segment.readable_units()
        if not tail_parts(tail)[1] <= segment.backed_units() <= readable:
            return False
        segment.allocate(0, readable)
        walk = scan.Walk(segment.mapping, segment.header.uuid, unit, index)
        while (stop := walk.advance(tail, readable, False)) == scan.STOP_BLOCKED:
            repairer.repair(segment, walk.unit, _NO_WAIT_S)
        return bool(stop == scan.STOP_TAIL)

    def _seal_torn_append(self, segment: Segment) -> None:
        """End a segment behind whose tail a file-lock path began to write and was killed (H)."""
        tail = segment.tail()
        _entries, units, sealed = tail_parts(tail)
        end = min(segment.header.capacity_units, segment.backed_units())
        if not sealed and next_used_unit(segment, units, end) >= end:
            return
        segment.seal()
        self._control.count(layout.CONTROL_SEALED_TORN)
        length = file_length_for(self._capacity_units)
        prepared = self._make_file(length)
        published = prepared.publish(next_header(segment, self._capacity_units))
        if published is not None:
            published.close()
        self._control.set_active(segment.number + 1)

    def keep_what_proves_itself(self) -> None:
        """Walk with checksums from the mark; end at the first thing that does not prove itself; go on in a new segment."""
        position = 0
        while True:
            segment = self._open(self._names[position])
            try:
                following = self._names[position + 1] if position + 1 < len(self._names) else None
                segment.allocate(0, segment.readable_units())
                unit, index, follows = prove(segment, following, self._mark, self._stream)
                if follows:
                    self._set_tail(segment, unit, index)
                    os.fdatasync(segment.fd)
                    position += 1
                    continue
                self._end_here(segment, unit, index, self._names[position + 1 :])
                return
            finally:
                segment.close()

    @staticmethod
    def _set_tail(segment: Segment, unit: int, index: int) -> None:
        segment.mapping.store_release(layout.SEGMENT_TAIL, make_tail(unit, index, True))

    def _end_here(self, segment: Segment, unit: int, index: int, later: list[SegmentName]) -> None:
        for name in reversed(later):
            path = self._directory / name.file_name
            path.rename(path.with_name(path.name + DISCARDED_SUFFIX))
            self._control.count(layout.CONTROL_SET_ASIDE)
        sync_directory(self._directory)
        if unit < segment.readable_units():
            word = segment.marker_word(unit, layout.KIND_SEAL, 0)
            segment.mapping.store_release(byte_offset(unit), word)
        self._set_tail(segment, unit, index)
        os.fdatasync(segment.fd)
        self._start_new_segment(segment, segment.base + index)

    def _start_new_segment(self, segment: Segment, base: int) -> None:
        highest = self._highest_number()
        if highest >= NUMBER_MAX:
            raise CorruptionError(
                f"no segment can follow number {highest}",
                file=str(segment.path),
                offset=layout.SEGMENT_NUMBER,
            )
        header = new_header(
            highest + 1, base,
            capacity_units=self._capacity_units, previous_uuid=segment.header.uuid, epoch=segment.header.epoch + 1,
        )  # fmt: skip
        length = file_length_for(self._capacity_units)
        published = self._make_file(length).publish(header, synced=True)
        if published is None:
            raise CorruptionError(
                "a segment that recovery was about to create exists",
                file=str(segment.path),
                offset=0,
                stream=self._stream,
            )
        sync_directory(self._directory)
        published.close()
        sequence = self._mark.sequence + 1 if self._mark is not None else 1
        file = MarkFile(self._directory / "durable", self._file_mode)
        file.write(DurableMark(sequence, header.number, 0, base, header.uuid, header.epoch))
        file.close()
        self._control.set_active(header.number)
        self._lower_groups(base)

    def _lower_groups(self, end: int) -> None:
        """Bring back consumer groups that acknowledged what is no longer there: its numbers are given again."""
        if not (self._directory / OFFSETS_FILE).exists():
            return
        offsets = GroupOffsets(self._directory, self._stream, self._file_mode)
        try:
            offsets.lower_beyond(end)
        finally:
            offsets.close()
