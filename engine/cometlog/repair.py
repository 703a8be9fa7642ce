"""Repair of a word that stays free or claimed below the tail (PROTOCOL D).

Thread safety: any number of repairers, in any processes, beside live writers: every step is a CAS on a word or on a slot, and a
repairer that is killed or stalled anywhere changes nothing that another would not.

Invariants: only words are written, never payload; a PAD never passes the tail seen first nor covers a live owner that can still
commit: the word's owner was judged dead (``judging.py``), or had its time.

Memory orders: tail, then slots, then the word again, each with acquire: a claim below that tail implies BUSY or later in its slot,
and a slot that is past BUSY implies a word that is not zero. ARCHITECTURE.md, "Memory orders", gives the chains, and why the state of
a slot need not be loaded again after its segment.
"""

import time

from cometlog.control import Control
from cometlog.judging import LOOK_AGAIN_S, Judge, is_resolved, next_used_unit
from cometlog.kernel import layout
from cometlog.locks import REPAIR_BYTE, SLOT_BYTE_FIRST, ShardLocks
from cometlog.segment import Segment

FENCE_AFTER_S = 1.0
FENCE_AFTER_S_PER_BYTE = 1e-3 / (1 << 20)
_CROWD_WAIT_S = 0.1


class Repairer:
    """Repairs words of one shard's segments. ``alone``: the caller holds byte 0 exclusively, so every slot is dead."""

    def __init__(self, control: Control, locks: ShardLocks, *, alone: bool = False) -> None:
        self._control = control
        self._locks = locks
        self._alone = alone
        self._judge = Judge(control, self._is_slot_locked)
        self.repaired_words = 0

    def _is_slot_locked(self, index: int) -> bool:
        return not self._alone and self._locks.is_held(SLOT_BYTE_FIRST + index)

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
            time.sleep(LOOK_AGAIN_S)
        return True

    def _resolve(self, segment: Segment, unit: int, deadline: float) -> None:
        claimed_since: float | None = None
        while True:
            # Before any slot (acquire): what is claimed later is not judged below.
            tail_units = segment.tail() & layout.TAIL_UNITS_MASK
            word = segment.word(unit)
            if is_resolved(word):
                return
            if word:
                claimed_since = claimed_since or time.monotonic()
                self._resolve_claim(segment, unit, word, claimed_since, deadline)
                continue
            dead = self._judge.grace_period(segment, deadline)
            # After every slot (acquire): a live claim is CLAIMED by now, and seen so.
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
        owner = self._judge.owner_of_claim(segment, unit)
        if owner is None or time.monotonic() - claimed_since > patience_s:
            if segment.swap_word(unit, word, segment.marker_word(unit, layout.KIND_PAD, units)):
                self.repaired_words += 1
            return
        if time.monotonic() > deadline:
            raise self._judge.stalled(owner, segment, unit)
        time.sleep(LOOK_AGAIN_S)

    def _pad_free_words(self, segment: Segment, unit: int, tail_units: int) -> None:
        """PAD a free stretch up to the next frame or the tail seen before the grace period (D4), last piece first."""
        stop = next_used_unit(segment, unit + 1, tail_units)
        pieces = [
            (start, min(layout.WORD_UNITS_MASK, stop - start))
            for start in range(unit, stop, layout.WORD_UNITS_MASK)
        ]
        for start, units in reversed(pieces):
            if segment.swap_word(start, 0, segment.marker_word(start, layout.KIND_PAD, units)):
                self.repaired_words += 1
