"""A full look at the files of one shard together: the chain of its segments, the durable mark, and what is derived from them.

Derived files (``.idx``, ``control``) that are damaged cost no entry: they are reported as notes, because the next writer makes
them anew. A mark says what must be there, so what ends before it is damage.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cometlog.control import Control
from cometlog.durable_mark import DurableMark, read_mark
from cometlog.errors import CometlogError, CorruptionError, NotALogError
from cometlog.group_offsets import OFFSETS_FILE, GroupOffsets
from cometlog.header_rebuild import open_with_rebuilt_header, read_header
from cometlog.index import is_true_index
from cometlog.kernel import layout
from cometlog.onlooker import Onlooker
from cometlog.proof import Proven
from cometlog.segment import Segment, SegmentName, list_segments, make_tail, tail_parts
from cometlog.survey import Damage, SegmentSurvey, survey_segment


@dataclass(slots=True)
class ShardSurvey:
    """What one shard holds. ``waiting``: places that wait for a repair or a recovery; ``notes``: what costs no entry."""

    stream: str
    segments: list[SegmentSurvey] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    in_flight: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Frames that prove themselves."""
        return sum(segment.frames for segment in self.segments)

    @property
    def entries(self) -> int:
        """Entries in them."""
        return sum(segment.entries for segment in self.segments)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "stream": self.stream,
            "segments": len(self.segments),
            "frames": self.frames,
            "entries": self.entries,
            "damages": [damage.as_dict() for damage in self.damages],
            "waiting": self.waiting,
            "in_flight": self.in_flight,
            "notes": self.notes,
        }


def _what(error: CometlogError) -> str:
    """Return what an error says without the place, which the report gives anyway."""
    return str(error).rpartition(" (")[0] or str(error)


def _offset(error: CometlogError) -> int:
    return error.offset if isinstance(error, CorruptionError) else 0


class _Chain:
    def __init__(self, directory: Path, stream: str) -> None:
        self._directory = directory
        self._onlooker = Onlooker(directory, stream)
        self._names = list_segments(directory)
        self._mark = self._read_mark()
        self.report = ShardSurvey(stream)

    def _read_mark(self) -> DurableMark | None:
        try:
            return read_mark(self._directory / "durable")
        except CometlogError:
            return None

    def _damage(self, file: Path, offset: int, what: str, lost: tuple[int, int] | None = None) -> None:
        self.report.damages.append(Damage(self.report.stream, str(file), offset, what, lost))

    def run(self) -> ShardSurvey:
        try:
            self._look_at_control()
            visible = self._visible()
            for position, name in enumerate(visible):
                following = visible[position + 1] if position + 1 < len(visible) else None
                self._look_at_segment(name, following)
            self._look_at_mark()
            self._look_at_groups()
            self._look_for_left_overs()
        finally:
            self._onlooker.close()
        return self.report

    def _visible(self) -> list[SegmentName]:
        """Return the segments to look at; what the next recovery would set aside waits."""
        try:
            visible = self._onlooker.visible(self._names)
        except (
            CorruptionError,
            NotALogError,
        ):  # in the segment that the mark names: reported when it is looked at
            return self._names
        self.report.waiting += [
            f"{self._directory / name.file_name}: does not go on from what proves itself; the next recovery sets it aside"
            for name in self._names[len(visible) :]
        ]
        return visible

    def _look_at_segment(self, name: SegmentName, following: SegmentName | None) -> None:
        path = self._directory / name.file_name
        proven = self._onlooker.proven(name.number)
        tail = None if proven is None else make_tail(*proven)
        try:
            segment = Segment(path, writable=False)
            wrong = None
        except (CorruptionError, NotALogError) as error:
            wrong = error
            rebuilt = self._rebuild(path, name, following)
            if rebuilt is None:
                end = following.base if following else (self._mark.next_entry if self._mark else name.base)
                lost = (name.base, end - 1) if end > name.base else None
                self._damage(path, _offset(error), _what(error), lost)
                return
            segment = rebuilt
        try:
            found = survey_segment(
                segment, name, self.report.stream, pass_by=self._pass_by, tail=tail,
                entries_expected=following.base - name.base if following and tail is None else None,
            )  # fmt: skip
        finally:
            segment.close()
        if wrong is not None:
            found.has_sound_header = False
            self._damage(path, _offset(wrong), f"{_what(wrong)}; it can be rebuilt")
        self._add(path, found, proven)

    def _rebuild(self, path: Path, name: SegmentName, following: SegmentName | None) -> Segment | None:
        before = self.report.segments[-1].header if self.report.segments else None
        after = read_header(self._directory / following.file_name) if following else None
        try:
            return open_with_rebuilt_header(path, name, before, after)
        except (OSError, CometlogError):
            return None

    def _add(self, path: Path, found: SegmentSurvey, proven: Proven | None) -> None:
        self.report.damages += found.damages
        self.report.waiting += [
            f"{path} at unit {unit}: left by a writer that died" for unit in found.waiting
        ]
        if found.in_flight is not None:
            self.report.in_flight.append(
                f"{path} at unit {found.in_flight}: being written, or its writer stopped"
            )
        if proven is not None:
            self._look_behind_proof(found)
        self._look_at_link(found)
        self._look_at_index(found)
        self.report.segments.append(found)

    def _look_behind_proof(self, found: SegmentSurvey) -> None:
        """Say what a recovery that distrusts the cache would leave out of a segment."""
        segment = Segment(self._directory / found.name.file_name, writable=False)
        units = tail_parts(segment.tail())[1]
        segment.close()
        if units > found.units:
            self.report.waiting.append(
                f"{segment.path} at unit {found.units}: does not prove itself up to the tail at unit {units}; the next recovery "
                f"ends the segment here"
            )

    def _pass_by(self, segment: Any, unit: int, tail_units: int) -> int | None:
        self._onlooker.check_not_durable(segment, unit)
        return self._onlooker.pass_by(segment, unit, tail_units)

    def _look_at_link(self, found: SegmentSurvey) -> None:
        """Check that a segment goes on from the one before it that could be read."""
        if not self.report.segments:
            return
        before = self.report.segments[-1]
        path = self._directory / found.name.file_name
        end = before.name.base + before.index
        if found.header.previous_uuid != before.header.uuid:
            missing = (end, found.name.base - 1) if found.name.base > end else None
            if all(
                damage.lost is None or damage.lost[1] != found.name.base - 1 for damage in self.report.damages
            ):
                self._damage(
                    path, layout.SEGMENT_PREVIOUS_UUID,
                    f"segment {found.name.number} does not follow segment {before.name.number}; what lay between is missing", missing,
                )  # fmt: skip
        elif found.name.base < end:
            self._damage(
                path, layout.SEGMENT_BASE,
                f"segment starts at entry {found.name.base}, the one before reaches {end}",
            )  # fmt: skip

    def _look_at_index(self, found: SegmentSurvey) -> None:
        path = self._directory / found.name.index_name
        if not path.exists():
            return
        if not found.has_sound_header:
            return
        segment = Segment(self._directory / found.name.file_name, writable=False)
        tail = segment.tail()  # loaded again: an index beside live writers covers what they appended since
        segment.close()
        if not is_true_index(path, found.header.uuid, tail):
            self.report.notes.append(f"{path}: not a true index; it will be rebuilt")

    def _look_at_mark(self) -> None:
        path = self._directory / "durable"
        mark = self._mark
        if mark is None:
            if path.exists() and path.stat().st_size:
                self.report.notes.append(f"{path}: no valid mark; the next sync writes one")
            return
        if not any(name.number >= mark.number for name in self._names):
            self._damage(path, 0, f"durable mark names segment {mark.number}, which is not there")
        for found in self.report.segments:
            if found.name.number != mark.number:
                continue
            reached = max(found.units, tail_parts(found.tail)[1])
            if found.header.uuid != mark.uuid or reached < mark.unit:
                self._damage(
                    self._directory / found.name.file_name, layout.SEGMENT_TAIL,
                    f"segment ends at unit {reached}, the durable mark says unit {mark.unit}, entry {mark.next_entry}",
                )  # fmt: skip

    def _look_at_control(self) -> None:
        path = self._directory / "control"
        try:
            control = Control(path, writable=False)
        except FileNotFoundError:
            self.report.notes.append(f"{path}: missing; the next writer makes it and recovers the shard")
            return
        except CometlogError as error:
            self.report.notes.append(f"{path}: {error}; it will be rebuilt")
            return
        try:
            if control.stored_boot_identity != control.boot_identity():
                self.report.notes.append(
                    f"{path}: written on another boot; the next writer recovers the shard"
                )
            elif control.active not in [name.number for name in list_segments(self._directory)]:
                self._damage(path, layout.CONTROL_ACTIVE, f"active segment {control.active} is not there")
            if control.poisoned:
                self.report.notes.append(
                    f"{path}: a sync failed; the next to open the shard alone recovers it"
                )
        finally:
            control.close()

    def _look_at_groups(self) -> None:
        """Look at the positions of consumer groups: nothing else holds them."""
        try:
            offsets = GroupOffsets(self._directory, self.report.stream)
        except FileNotFoundError:
            return
        except CometlogError as error:
            self._damage(self._directory / OFFSETS_FILE, _offset(error), _what(error))
            return
        try:
            for line in offsets.lines():
                if line.position is None:
                    self._damage(
                        offsets.path, layout.OFFSETS_GROUPS + line.index * layout.GROUP_SIZE_BYTES,
                        f"the position of group {line.name!r} and its checkpoint are damaged; reset the group",
                    )  # fmt: skip
        except CometlogError as error:
            self._damage(offsets.path, _offset(error), _what(error))
        finally:
            offsets.close()

    def _look_for_left_overs(self) -> None:
        self.report.notes += [
            f"{path}: set aside by a recovery" for path in sorted(self._directory.glob("*.discarded"))
        ]


def survey_shard(directory: Path, stream: str) -> ShardSurvey:
    """Look at everything in the directory of a shard, read-only, and return what was found."""
    return _Chain(directory, stream).run()
