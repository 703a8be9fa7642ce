"""Repair of a word that stays free or claimed below the tail (PROTOCOL D).

Thread safety: any number of repairers, in any processes, beside live writers: every step is a CAS on a word or on a slot, and a
repairer that is killed or stalled anywhere changes nothing that another would not.

Invariants: only words are written, never payload; a PAD never passes the tail seen first nor covers a live owner that can still
commit: before a free word is judged, every slot that was BUSY on this segment has moved on or its lock was found free.
"""

import time
from collections.abc import Iterator

from cometlog.control import Control, SlotView
from cometlog.errors import StalledWriterError
from cometlog.kernel import layout
from cometlog.locks import REPAIR_BYTE, SLOT_BYTE_FIRST, ShardLocks
from cometlog.segment import Segment

FENCE_AFTER_S = 1.0
FENCE_AFTER_S_PER_BYTE = 1e-3 / (1 << 20)
_CROWD_WAIT_S = 0.1
_LOOK_AGAIN_S = 0.0002


def _kind(word: int) -> int:
    return word >> layout.WORD_KIND_SHIFT & 7


def is_resolved(word: int) -> bool:
    """Return whether a word is final: neither free nor claimed."""
    return word != 0 and _kind(word) != layout.KIND_CLAIMED


class Repairer:
    """Repairs words of one shard's segments. ``alone``: the caller holds byte 0 exclusively, so every slot is dead."""

    def __init__(self, control: Control, locks: ShardLocks, *, alone: bool = False) -> None:
        self._control = control
        self._locks = locks
        self._alone = alone
        self.repaired_words = 0

    def _is_live(self, slot: SlotView) -> bool:
        return not self._alone and self._locks.is_held(SLOT_BYTE_FIRST + slot.index)

    def _slots_in_use(self) -> Iterator[SlotView]:
        """Look at every slot that is not IDLE, state first."""
        for index in range(layout.SLOT_COUNT):
            slot = self._control.look_at_slot(index)
            if slot.state != layout.STATE_IDLE:
                yield slot

    def repair(self, segment: Segment, unit: int, timeout_s: float) -> None:
        """Return once the word at ``unit``, below the tail of a writable segment, is final.

        Raises StalledWriterError naming slot and process when a live writer keeps it from being judged for ``timeout_s`` seconds.
        """
        deadline = time.monotonic() + timeout_s
        if not self._alone and not self._thin_the_crowd(segment, unit):
            return
        try:
            self._resolve(segment, unit, deadline)
        finally:
            if not self._alone:
                self._locks.unlock(REPAIR_BYTE)

    def _thin_the_crowd(self, segment: Segment, unit: int) -> bool:
        """Wait a little for another repairer; False if the word is final meanwhile. Correctness does not need the lock."""
        until = time.monotonic() + _CROWD_WAIT_S
        while not self._locks.try_exclusive(REPAIR_BYTE) and time.monotonic() < until:
            if is_resolved(segment.word(unit)):
                return False
            time.sleep(_LOOK_AGAIN_S)
        return True

    def _resolve(self, segment: Segment, unit: int, deadline: float) -> None:
        claimed_since: float | None = None
        while True:
            tail_units = segment.tail() & layout.TAIL_UNITS_MASK
            word = segment.word(unit)
            if is_resolved(word):
                return
            if word:
                claimed_since = claimed_since or time.monotonic()
                self._resolve_claim(segment, unit, word, claimed_since, deadline)
                continue
            dead = self._grace_period(segment, deadline)
            if segment.word(unit) == 0:
                self._pad_free_words(segment, unit, tail_units)
            for slot in dead:
                self._control.set_slot_idle(slot)

    def _resolve_claim(
        self, segment: Segment, unit: int, word: int, claimed_since: float, deadline: float
    ) -> None:
        """Turn CLAIMED into PAD if its owner is dead or has had its time; else wait a moment (D2)."""
        units = word & layout.WORD_UNITS_MASK
        patience_s = FENCE_AFTER_S + units * layout.UNIT_BYTES * FENCE_AFTER_S_PER_BYTE
        owner = next(
            (
                slot
                for slot in self._slots_in_use()
                if slot.segment == segment.number
                and (
                    slot.state == layout.STATE_BUSY
                    or (slot.state == layout.STATE_MARKED and slot.claim == unit)
                )
                and self._is_live(slot)
            ),
            None,
        )
        if owner is None or time.monotonic() - claimed_since > patience_s:
            if segment.swap_word(unit, word, segment.marker_word(unit, layout.KIND_PAD, units)):
                self.repaired_words += 1
            return
        if time.monotonic() > deadline:
            raise self._stalled(owner, segment, unit)
        time.sleep(_LOOK_AGAIN_S)

    def _grace_period(self, segment: Segment, deadline: float) -> list[SlotView]:
        """Wait until no live slot can be between its claim in this segment and its marker (D3); return dead slots."""
        dead = []
        for seen in self._slots_in_use():
            if seen.state != layout.STATE_BUSY or seen.segment != segment.number:
                if not self._is_live(seen):
                    dead.append(seen)
                continue
            while self._control.look_at_slot(seen.index).word == seen.word:
                if not self._is_live(seen):
                    dead.append(seen)
                    break
                if time.monotonic() > deadline:
                    raise self._stalled(seen, segment, None)
                time.sleep(_LOOK_AGAIN_S)
        return dead

    def _stalled(self, slot: SlotView, segment: Segment, unit: int | None) -> StalledWriterError:
        place = "between its claim and its marker" if unit is None else f"inside its frame at unit {unit}"
        return StalledWriterError(
            f"process {self._control.slot_owner_pid(slot.index)} (slot {slot.index}) stopped {place} of segment "
            f"{segment.number}; it is alive, so its range is not given away: continue it or kill it"
        )

    def _pad_free_words(self, segment: Segment, unit: int, tail_units: int) -> None:
        """PAD a free stretch up to the next frame or the tail seen before the grace period (D4), last piece first."""
        # After the grace period no free word below the tail can change any more, so the units may be read in any order.
        stop = segment.next_used_unit(unit + 1, tail_units)
        pieces = [
            (start, min(layout.WORD_UNITS_MASK, stop - start))
            for start in range(unit, stop, layout.WORD_UNITS_MASK)
        ]
        for start, units in reversed(pieces):
            if segment.swap_word(start, 0, segment.marker_word(start, layout.KIND_PAD, units)):
                self.repaired_words += 1
