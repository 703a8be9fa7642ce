"""Repair of a damaged shard by hand (``cometlog repair``): keep what proves itself, invent nothing, say what is lost.

A damaged frame becomes a gap (PAD) where the next frame or PAD behind it proves itself; where nothing behind does, the segment ends
there (SEAL) and the segments after it stay. A damaged header is rebuilt where its segment still proves itself by it; otherwise the
segment is set aside, and the next one is linked to the one before it. What happens then is a recovery like any other: by the next
client that opens the shard alone.

Thread safety: the caller holds lock byte 0 exclusively: nobody is attached.

Invariants: the plan is complete before anything changes; every file that may change was copied aside and synced before the
first change; entry numbers that may have been given out are never given out again; an interrupted repair can be run again.
"""

import fcntl
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cometlog.control import NO_BOOT, Control
from cometlog.durable_mark import DurableMark, MarkFile, read_mark
from cometlog.errors import CometlogError, NotALogError
from cometlog.files import create_exclusive, make_directory, open_checked, open_directory, sync_directory
from cometlog.kernel import layout
from cometlog.recovery import DISCARDED_SUFFIX
from cometlog.rotation import PreparedFile, file_length_for, new_header
from cometlog.segment import Segment, SegmentHeader, SegmentName, byte_offset, list_segments, make_tail
from cometlog.shard_survey import ShardSurvey
from cometlog.survey import Damage, SegmentSurvey

_FICLONE = 0x40049409


@dataclass(slots=True)
class SegmentPlan:
    """What is done to one readable segment: ``gaps`` (unit, unit behind) become PAD, ``end`` (unit, entry index) its end.

    ``header`` is written where it is not None.
    """

    found: SegmentSurvey
    gaps: list[tuple[int, int]] = field(default_factory=list)
    end: tuple[int, int] | None = None
    header: SegmentHeader | None = None

    @property
    def changes(self) -> bool:
        """Whether the file is changed at all."""
        return bool(self.gaps) or self.end is not None or self.header is not None


@dataclass(slots=True)
class Plan:
    """Everything a repair is going to do. ``restart_at``: first entry number of a new segment, None where the last goes on.

    ``lines`` say it for people; ``unrepaired`` is damage that only a person can judge.
    """

    segments: list[SegmentPlan]
    set_aside: list[SegmentName] = field(default_factory=list)
    restart_at: int | None = None
    rewind_mark: bool = False
    lines: list[str] = field(default_factory=list)
    unrepaired: list[Damage] = field(default_factory=list)


def _lost(damage: Damage) -> str:
    if damage.lost is None:
        return "no entry lost"
    first, last = damage.lost
    return f"lost: entry {first}" if first == last else f"lost: entries {first} to {last}"


def make_plan(directory: Path, report: ShardSurvey) -> Plan:
    """Return what would make a shard sound of which a survey was made. Raises NotALogError where no segment can be read."""
    names = list_segments(directory)
    if names and not report.segments:
        raise NotALogError(
            f"{directory}: no segment can be read; nothing is changed: move the directory away to begin anew"
        )
    plan = Plan([SegmentPlan(found) for found in report.segments])
    for segment in plan.segments:
        _plan_segment(directory, plan, segment)
    readable = {segment.found.name for segment in plan.segments}
    _plan_unreadable(directory, plan, [name for name in names if name not in readable], report)
    _plan_links(directory, plan)
    _plan_end(directory, plan, report)
    inside = [damage for segment in report.segments for damage in segment.damages]
    answered = {str(directory / name.file_name) for name in plan.set_aside}
    plan.lines += [
        f"for the recovery: {damage.as_line()}"
        for damage in report.damages
        if damage not in inside and damage.file not in answered and damage.offset == layout.SEGMENT_TAIL
    ]
    plan.unrepaired = [
        damage
        for damage in report.damages
        if damage not in inside and damage.file not in answered and damage.offset == layout.SEGMENT_BASE
    ]
    return plan


def _plan_segment(directory: Path, plan: Plan, segment: SegmentPlan) -> None:
    found = segment.found
    path = directory / found.name.file_name
    if not found.has_sound_header:
        segment.header = found.header
        plan.lines.append(
            f"{path}: the header is rebuilt from the name of the file and the segments beside it"
        )
    for damage in found.damages:
        if damage.unit is None:
            segment.end = (found.units, found.index)
            plan.lines.append(
                f"{path}: {damage.what}: the tail is set to unit {found.units}; {_lost(damage)}"
            )
        elif damage.until is not None:
            segment.gaps.append((damage.unit, damage.until))
            plan.lines.append(
                f"{path}: {damage.what}: units {damage.unit} to {damage.until} become a gap; {_lost(damage)}"
            )
        else:
            segment.end = (damage.unit, found.index)
            plan.lines.append(
                f"{path}: {damage.what}: the segment ends at unit {damage.unit}; {_lost(damage)}"
            )


def _plan_unreadable(directory: Path, plan: Plan, unreadable: list[SegmentName], report: ShardSurvey) -> None:
    for name in unreadable:
        path = directory / name.file_name
        for damage in report.damages:
            if damage.file == str(path):
                plan.set_aside.append(name)
                plan.lines.append(f"{path}: {damage.what}: set aside; {_lost(damage)}")


def _plan_links(directory: Path, plan: Plan) -> None:
    """Link each segment to the one that now comes before it."""
    for before, segment in zip(plan.segments, plan.segments[1:], strict=False):
        if segment.found.header.previous_uuid != before.found.header.uuid:
            segment.header = replace(segment.found.header, previous_uuid=before.found.header.uuid)
            first, last = before.found.name.base + before.found.index, segment.found.name.base - 1
            missing = f"; missing: entries {first} to {last}" if last >= first else ""
            plan.lines.append(
                f"{directory / segment.found.name.file_name}: linked to segment {before.found.name.number}{missing}"
            )


def _plan_end(directory: Path, plan: Plan, report: ShardSurvey) -> None:
    """Begin a new segment where the last one cannot be continued, behind every number that may have been given out."""
    if not plan.segments:
        return
    mark = read_mark(directory / "durable")
    last = plan.segments[-1]
    number = last.found.name.number
    gone = [name for name in plan.set_aside if name.number > number]
    active_gone = any(
        damage.file.endswith("/control") or damage.file.endswith("/durable") for damage in report.damages
    )
    if last.end is not None or gone or active_gone:
        last.end = last.end or (last.found.units, last.found.index)
        numbers = [last.found.name.base + last.end[1]]
        numbers += [damage.lost[1] + 1 for damage in report.damages if damage.lost]
        numbers += [mark.next_entry] if mark else []
        plan.restart_at = max(numbers)
        plan.lines.append(f"{directory}: goes on in a new segment from entry {plan.restart_at}")
    if mark is not None:
        marked = [segment for segment in plan.segments if segment.found.name.number == mark.number]
        plan.rewind_mark = (
            not marked
            or marked[0].found.header.uuid != mark.uuid
            or (marked[0].end is not None and marked[0].end[0] < mark.unit)
        )


# ---- Keeping the original ----


def copy_aside(directory: Path, plan: Plan) -> Path:
    """Copy the shard beside itself before it is changed, and return where: sealed segments that stay as they are become links.

    Raises OSError, with nothing left behind, where there is no room.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    mode = directory.stat().st_mode & 0o777
    aside = directory.with_name(f"{directory.name}.before-repair-{stamp}")
    copies = 1
    while not make_directory(aside, mode):
        copies += 1
        aside = directory.with_name(f"{directory.name}.before-repair-{stamp}-{copies}")
    mark = read_mark(directory / "durable")
    changed = [segment.found.name.number for segment in plan.segments if segment.changes]
    first_changed = min([mark.number if mark else 0, *changed])
    stays = {
        segment.found.name.file_name
        for segment in plan.segments[:-1]
        if segment.found.name.number < first_changed
    }
    try:
        for path in sorted(directory.iterdir()):
            if not path.is_file() or path.is_symlink():
                continue
            linked = False
            if path.name in stays:
                with suppress(OSError):
                    os.link(path, aside / path.name)
                    linked = True
            if not linked:
                _copy(path, aside / path.name)
        _write_plan(aside / "REPAIR.txt", plan)
        sync_directory(aside)
        sync_directory(directory.parent)
    except BaseException:
        shutil.rmtree(aside)
        raise
    return aside


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its mode and times; blocks are shared where the file system can."""
    with (
        os.fdopen(open_checked(source, os.O_RDONLY), "rb") as read,
        os.fdopen(create_exclusive(target, source.stat().st_mode & 0o777), "wb") as written,
    ):
        try:
            fcntl.ioctl(written.fileno(), _FICLONE, read.fileno())
        except OSError:
            shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())
    shutil.copystat(source, target)


def _write_plan(path: Path, plan: Plan) -> None:
    with os.fdopen(create_exclusive(path, 0o600), "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in plan.lines))
        file.flush()
        os.fsync(file.fileno())


# ---- Carrying it out ----


def carry_out(directory: Path, plan: Plan, *, distrust: bool, file_mode: int) -> None:
    """Change the files as planned, so that the next client that opens the shard alone recovers it, distrustfully if asked.

    Order: segments, then names, then the mark, then ``control``: killed anywhere, what is there is at worst still damaged.
    """
    for segment in plan.segments:
        if segment.changes:
            _change_segment(directory, segment)
    for name in reversed(plan.set_aside):
        path = directory / name.file_name
        path.rename(path.with_name(path.name + DISCARDED_SUFFIX))
    sync_directory(directory)
    restarted = _restart(directory, plan, file_mode) if plan.restart_at is not None else None
    if plan.rewind_mark:
        _rewind_mark(directory, plan, file_mode)
    _change_control(directory, restarted, distrust=distrust)
    sync_directory(directory)


def _change_segment(directory: Path, plan: SegmentPlan) -> None:
    (directory / plan.found.name.index_name).unlink(missing_ok=True)  # it counts entries that are gone
    path = directory / plan.found.name.file_name
    if plan.header is not None:
        fd = open_checked(path, os.O_RDWR)
        try:
            os.pwrite(fd, plan.header.encode(), 0)
        finally:
            os.close(fd)
    segment = Segment(path, writable=True)
    try:
        for unit, until in plan.gaps:
            _pad(segment, unit, until)
        if plan.end is not None:
            unit, index = plan.end
            if unit < segment.readable_units():
                seal = segment.marker_word(unit, layout.KIND_SEAL, 0)
                segment.mapping.store_release(byte_offset(unit), seal)
            segment.mapping.store_release(layout.SEGMENT_TAIL, make_tail(unit, index, True))
        os.fdatasync(segment.fd)
    finally:
        segment.close()


def _pad(segment: Segment, unit: int, until: int) -> None:
    pieces = range(unit, until, layout.WORD_UNITS_MASK)
    for start in reversed(pieces):
        units = min(layout.WORD_UNITS_MASK, until - start)
        word = segment.marker_word(start, layout.KIND_PAD, units)
        segment.mapping.store_release(byte_offset(start), word)


def _restart(directory: Path, plan: Plan, file_mode: int) -> int:
    last = Segment(directory / plan.segments[-1].found.name.file_name, writable=False)
    mark = read_mark(directory / "durable")
    numbers = [int(path.name[:10]) for path in directory.glob("*.seg*")] + ([mark.number] if mark else [])
    with suppress(FileNotFoundError, CometlogError):
        control = Control(directory / "control", writable=False)
        if control.stored_boot_identity == control.boot_identity():
            numbers.append(control.active)
        control.close()
    header = new_header(
        max(numbers) + 1, plan.restart_at or 0,
        capacity_units=last.header.capacity_units, previous_uuid=last.header.uuid, epoch=last.header.epoch + 1,
    )  # fmt: skip
    last.close()
    length = file_length_for(header.capacity_units)
    directory_fd = open_directory(directory)
    try:
        prepared = PreparedFile.make(directory, length, file_mode, populate=False, directory_fd=directory_fd)
        published = prepared.publish(header)
    finally:
        os.close(directory_fd)
    if published is None:
        raise NotALogError(f"{directory}: segment {header.number}, which was about to be created, exists")
    os.fdatasync(published.fd)
    published.close()
    sync_directory(directory)
    return header.number


def _rewind_mark(directory: Path, plan: Plan, file_mode: int) -> None:
    """Set the mark to the start of a segment that is there: it may lag, it may not name what is gone."""
    mark = read_mark(directory / "durable")
    if mark is None:
        return
    kept = [segment.found for segment in plan.segments if segment.found.name.number <= mark.number]
    found = kept[-1] if kept else plan.segments[0].found
    segment = Segment(directory / found.name.file_name, writable=False)
    header = segment.header
    segment.close()
    file = MarkFile(directory / "durable", file_mode)
    file.write(DurableMark(mark.sequence + 1, header.number, 0, header.base, header.uuid, header.epoch))
    file.close()


def _change_control(directory: Path, restarted: int | None, *, distrust: bool) -> None:
    """Have the next client that comes alone recover the shard; a control file that cannot be read is removed."""
    path = directory / "control"
    try:
        control = Control(path, writable=True)
    except FileNotFoundError:
        return
    except CometlogError:
        path.unlink()
        return
    control.write_clean_record(None)
    if restarted is not None:
        control.set_active(restarted)
    if distrust:
        control.stored_boot_identity = NO_BOOT
    control.close()
