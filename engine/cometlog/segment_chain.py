"""The segments of a shard as a reader follows them: which are there, which comes next (PROTOCOL.md C).

Thread safety: belongs to the one reader that owns it. Invariants: the active number is loaded before the
directory is listed, so a segment that is missing from the list was either retired or not linked yet.
"""

from bisect import bisect_right
from pathlib import Path

from cometlog.durable_mark import read_mark
from cometlog.errors import CorruptionError
from cometlog.kernel import layout
from cometlog.kernel.scan import STOP_SEAL
from cometlog.onlooker import Onlooker
from cometlog.segment import SegmentName, list_segments, read_header
from cometlog.segment_reader import SegmentReader, Tail

OPEN_SEGMENTS_MAX = 8
TRIES_MAX = 5
"""How often a listing is tried again when retention was faster."""


class SegmentChain:
    """Opens segments as they are needed; ``names`` is the last listing."""

    def __init__(self, directory: Path, stream: str, index_entries_max: int) -> None:
        self.stream = stream
        self.names: list[SegmentName] = []
        self._directory = directory
        self._index_entries_max = index_entries_max
        self._open: dict[int, SegmentReader] = {}
        self._onlooker = Onlooker(directory, stream)
        self._listed: list[SegmentName] | None = None

    def refresh(self) -> list[SegmentName]:
        """List the directory again and return the segments that may be read, lowest number first.

        Raises CorruptionError where the segment that the durable mark names is gone with all that followed.
        """
        names = list_segments(self._directory)
        if names != self._listed:
            # A segment is linked before a mark names it, so it is in a listing made after the mark was read.
            mark = read_mark(self._directory / "durable")
            names = list_segments(self._directory)
            if mark is not None and (not names or names[-1].number < mark.number):
                raise CorruptionError(
                    f"segment {mark.number} of the durable mark is missing",
                    file=str(self._directory / "durable"), offset=0, stream=self.stream,
                )  # fmt: skip
            self._listed = names
        try:
            self.names = self._onlooker.visible(names)
        except CorruptionError as error:
            raise error.of_stream(self.stream) from error.__cause__
        for number, reader in self._open.items():
            reader.proven = self._onlooker.proven(number)
        return self.names

    @property
    def is_doubtful(self) -> bool:
        """Whether segments had to prove themselves at the last listing: a writer may have recovered the shard since."""
        return self._onlooker.is_doubtful

    def open(self, name: SegmentName) -> SegmentReader:
        """Return the open segment; the one used longest ago is closed where too many are open."""
        reader = self._open.pop(name.number, None)
        if reader is None:
            reader = SegmentReader(self._directory, name, self.stream, self._index_entries_max)
            reader.proven = self._onlooker.proven(name.number)
            try:
                self._check_follower(reader)
            except BaseException:
                reader.close()
                raise
        self._open[name.number] = reader
        if len(self._open) > OPEN_SEGMENTS_MAX:
            self._open.pop(next(iter(self._open))).close()
        return reader

    def _check_follower(self, segment: SegmentReader) -> None:
        """Raise CorruptionError where the segment after this one followed on another: one of the two is not this shard's."""
        place = bisect_right(self.names, segment.number, key=lambda name: name.number)
        if place == len(self.names):
            return
        path = self._directory / self.names[place].file_name
        try:
            header, _ = read_header(path)
        except (FileNotFoundError, CorruptionError):
            return  # retired meanwhile, or a damage of its own that whoever reads there is told
        if header.previous_uuid != segment.segment.header.uuid and segment.path.exists():
            raise self._not_following(segment, header.number, path)

    def _not_following(self, segment: SegmentReader, number: int, path: Path) -> CorruptionError:
        # Retention removes the oldest first, so what lies between a kept segment and a later one was not retired.
        return CorruptionError(
            f"segment {number} does not follow segment {segment.number}, which is still there",
            file=str(path), offset=layout.SEGMENT_PREVIOUS_UUID, stream=self.stream,
        )  # fmt: skip

    def first(self) -> SegmentReader | None:
        """Return the oldest segment, or None for a shard without any."""
        for _ in range(TRIES_MAX):
            names = self.refresh()
            if not names:
                return None
            try:
                return self.open(names[0])
            except FileNotFoundError:
                continue
        raise self.lost(names[0].file_name)

    def lost(self, what: str) -> CorruptionError:
        """Return the error for a segment that must be there and is not."""
        return CorruptionError(
            "a listed segment cannot be found", file=str(self._directory / what), offset=0, stream=self.stream
        )

    def active_number(self) -> int | None:
        """Return the active segment's number, or None where no live control says it."""
        control = self._onlooker.live_control()
        return None if control is None else control.active

    def check_not_durable(self, segment: SegmentReader, unit: int) -> None:
        """Raise CorruptionError for a word in flight where everything is on stable storage and final."""
        self._onlooker.check_not_durable(segment.segment, unit)

    def pass_by(self, segment: SegmentReader, unit: int) -> bool:
        """Let walks of this reader go on behind a word in flight whose writer is dead; False where it may live."""
        stop = self._onlooker.pass_by(segment.segment, unit, segment.look().units)
        if stop is not None and stop > unit:
            segment.passed[unit] = stop
        return stop is not None

    def following(self, segment: SegmentReader, walked: int) -> SegmentReader | None:
        """Return the segment after a finished one of ``walked`` entries, or None if that one is active."""
        for _ in range(TRIES_MAX):
            active = self.active_number()
            later = [name for name in self.refresh() if name.number > segment.number]
            if not later:
                if active is None or active <= segment.number:
                    return None
                continue
            try:
                following = self.open(later[0])
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
                raise self._not_following(segment, header.number, following.path)
            return following
        raise self.lost(f"{segment.number + 1:010d}-*.seg")

    def next_of(self, segment: SegmentReader, tail: Tail, stop: int, next_index: int) -> SegmentReader | None:
        """Return the segment that goes on behind the last frame of this one, or None at the end for now."""
        if tail.sealed or stop == STOP_SEAL:
            return self.following(segment, next_index)
        active = self.active_number()
        if active is None:
            later = any(name.number > segment.number for name in self.refresh())
        else:
            later = active > segment.number
        if not later or segment.look().word != tail.word:
            return None
        # A later segment exists, so this tail was sealed once. If the next base agrees, nothing is missing.
        following = self.following(segment, tail.entries)
        if following is not None and following.base != segment.base + tail.entries:
            raise CorruptionError(
                f"segment {following.number} starts at entry {following.base}, "
                f"the one before is not sealed and ends at {segment.base + tail.entries}",
                file=str(segment.path), offset=layout.SEGMENT_TAIL, stream=self.stream,
            )  # fmt: skip
        return following

    def close(self) -> None:
        """Close every file."""
        for segment in self._open.values():
            segment.close()
        self._open.clear()
        self.names.clear()
        self._onlooker.close()
