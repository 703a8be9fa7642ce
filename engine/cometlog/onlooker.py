"""How a reader that may not write passes what dead writers left (PROTOCOL A: read-only openers recover in memory).

Two cases, told apart by the boot identity in ``control``, as recovery tells them apart.

Same boot: the page cache is whole, so a word that stays free or claimed is judged by the rules of repair (``judging.py``); liveness
is asked through a read-only description of ``lock``, slots are read from ``control``. A CLAIMED word of a dead owner counts as PAD of
the length it states, a free one as PAD up to the next non-zero word or the tail. Nothing is written: the reader remembers the
verdict and passes the word by in its own walks. A live owner, dead-looking or not, is waited for by whoever may fence it; an
onlooker stops in front of it.

Otherwise (reboot, no ``control``, one that is damaged) every slot is dead, but a tail may be older or newer than its frames, so holes
are not the question: from the durable mark on a segment reaches as far as it proves itself (``proof.py``), and what a distrustful
recovery would set aside is not delivered. A directory of segments with neither ``control`` nor ``durable`` is an archive: nothing says
that a cache was lost, so its tails stand and damage is an error, not an end.

After a failed sync (poison) the next recovery is a distrustful one that would end at the hole, so no hole is passed by.

Why a delivered prefix is never retracted by process crashes. A verdict of death is final. A repairer that comes later judges alike:
over the word at X it stores a PAD that ends where the onlooker went on, or, where that was the tail of its look, further: then over
claims that never got a word, which an onlooker passes by as well. What was judged is consulted only where a later walk still finds
the word in flight: an owner that committed or was fenced while its slot was looked at is seen, because a word that is still CLAIMED
after that look had no live owner during it. A free word is read once more after the grace period, before it is passed. A word
below the durable mark is never passed: it was final when the mark was written, so it is damage.

Thread safety: belongs to the one reader that owns it; writers, repairers and a recovery may run meanwhile.
"""

import time
from pathlib import Path

from cometlog.control import Control
from cometlog.durable_mark import read_mark
from cometlog.errors import CorruptionError, NotALogError, StalledWriterError
from cometlog.judging import Judge, is_resolved, next_used_unit
from cometlog.kernel import layout
from cometlog.locks import LockProbe
from cometlog.proof import Proven, visible_segments
from cometlog.segment import Segment, SegmentName, byte_offset

_GRACE_S = 0.05


class Onlooker:
    """What one reader believes about a shard it may not write to."""

    def __init__(self, directory: Path, stream: str) -> None:
        self._directory = directory
        self._stream = stream
        self._control: Control | None = None
        self._identity = b""
        self._probe: LockProbe | None = None
        self._proven: dict[int, Proven] = {}
        self._proven_names: list[SegmentName] | None = None

    def live_control(self) -> Control | None:
        """Return the shard's control file, or None where there is none that was written on this boot."""
        if self._control is not None and self._control.stored_boot_identity == self._identity:
            return self._control
        self._forget_control()
        try:
            control = Control(self._directory / "control", writable=False)
        except (FileNotFoundError, CorruptionError):
            return None
        self._identity = control.boot_identity()
        if control.stored_boot_identity != self._identity:
            control.close()
            return None
        self._control = control
        return control

    def visible(self, names: list[SegmentName]) -> list[SegmentName]:
        """Return the segments of a listing that may be read: all on this boot, otherwise those that prove themselves.

        Where each of the latter ends is then told by ``proven``.
        """
        if self.live_control() is not None:
            self._proven, self._proven_names = {}, None
            return names
        if names != self._proven_names:
            mark = read_mark(self._directory / "durable")
            is_archive = not any((self._directory / name).exists() for name in ("control", "durable"))
            self._proven = (
                {}
                if is_archive or not names
                else visible_segments(self._directory, names, mark, self._stream)
            )
            self._proven_names = list(names)
        last = max(self._proven, default=None)
        return names if last is None else [name for name in names if name.number <= last]

    @property
    def is_doubtful(self) -> bool:
        """Whether segments had to prove themselves when they were last listed."""
        return bool(self._proven)

    def proven(self, number: int) -> Proven | None:
        """Return where a segment ends that must prove itself, or None: its tail says it."""
        return self._proven.get(number)

    def check_not_durable(self, segment: Segment, unit: int) -> None:
        """Raise CorruptionError for a word in flight below the durable mark: everything there was final once."""
        mark = read_mark(self._directory / "durable")
        if mark is None or mark.number < segment.number:
            return
        if mark.number > segment.number or (mark.uuid == segment.header.uuid and unit < mark.unit):
            raise CorruptionError(
                "frame below the durable mark is free or claimed",
                file=str(segment.path), offset=byte_offset(unit), stream=self._stream,
            )  # fmt: skip

    def pass_by(self, segment: Segment, unit: int, tail_units: int) -> int | None:
        """Return the unit to go on at behind a word in flight whose writer is dead, or None where it may live.

        ``tail_units`` is a tail of the segment, loaded before the call. Raises CorruptionError for a claim past that tail.
        """
        control = self.live_control()
        if control is None or control.poisoned:
            return None
        try:
            if self._probe is None:
                self._probe = LockProbe(self._directory / "lock")
        except (OSError, NotALogError):
            return None  # whoever lives cannot be asked
        judge = Judge(control, self._probe.is_slot_locked)
        word = segment.word(unit)
        if is_resolved(word):
            return unit
        if word:
            return self._behind_claim(judge, segment, unit, word, tail_units)
        try:
            judge.grace_period(segment, time.monotonic() + _GRACE_S)
        except StalledWriterError:
            return None
        if segment.word(unit):
            return unit
        return next_used_unit(segment, unit + 1, tail_units)

    def _behind_claim(
        self, judge: Judge, segment: Segment, unit: int, word: int, tail_units: int
    ) -> int | None:
        if judge.owner_of_claim(segment, unit) is not None:
            return None
        units = word & layout.WORD_UNITS_MASK
        if not 0 < units <= tail_units - unit:
            raise CorruptionError(
                f"claim of {units} units at unit {unit} does not end before the tail at {tail_units}",
                file=str(segment.path), offset=byte_offset(unit), stream=self._stream,
            )  # fmt: skip
        return unit + units

    def _forget_control(self) -> None:
        for opened in (self._control, self._probe):
            if opened is not None:
                opened.close()
        self._control = self._probe = None

    def close(self) -> None:
        """Close what was opened."""
        self._forget_control()
