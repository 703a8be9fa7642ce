"""Whether the writer of a word that stays free or claimed below the tail is dead (PROTOCOL D1 to D3).

A repairer (``repair.py``) acts on the verdict by CAS; an onlooker (``onlooker.py``), which may write nothing, passes the word by.

Thread safety: any number of judges, in any processes, beside live writers; a judge writes nothing.

Invariants: a verdict of death is final, because a dead owner never comes back: its slot is only taken over through IDLE. It is given
only after every slot that was BUSY on the segment has moved on or its lock was found free.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator

from cometlog.control import Control, SlotView
from cometlog.errors import StalledWriterError
from cometlog.kernel import layout
from cometlog.segment import Segment, byte_offset

LOOK_AGAIN_S = 0.0002
_SCAN_BYTES = 1 << 16
_ZEROS = bytes(_SCAN_BYTES)


def is_resolved(word: int) -> bool:
    """Return whether a word is final: neither free nor claimed."""
    return word != 0 and word >> layout.WORD_KIND_SHIFT & 7 != layout.KIND_CLAIMED


class Judge:
    """Judges words of one shard. ``is_slot_locked(index)`` asks the kernel whether a slot's lock is held by anybody."""

    def __init__(self, control: Control, is_slot_locked: Callable[[int], bool]) -> None:
        self._control = control
        self._is_slot_locked = is_slot_locked

    def is_live(self, slot: SlotView) -> bool:
        """Return whether somebody holds the lock of a slot."""
        return self._is_slot_locked(slot.index)

    def slots_in_use(self) -> Iterator[SlotView]:
        """Look at every slot that is not IDLE, state first."""
        for index in range(layout.SLOT_COUNT):
            slot = self._control.look_at_slot(index)
            if slot.state != layout.STATE_IDLE:
                yield slot

    def owner_of_claim(self, segment: Segment, unit: int) -> SlotView | None:
        """Return a live slot that may own the CLAIMED word at ``unit`` (D2), or None: its owner is dead.

        The owner of a claim that is not committed stands between B3 and B9, so its slot says BUSY here or MARKED there.
        """
        for slot in self.slots_in_use():
            at_claim = slot.state == layout.STATE_MARKED and slot.claim == unit
            if (
                slot.segment == segment.number
                and (at_claim or slot.state == layout.STATE_BUSY)
                and self.is_live(slot)
            ):
                return slot
        return None

    def grace_period(self, segment: Segment, deadline: float) -> list[SlotView]:
        """Wait until no live slot can be between its claim in this segment and its marker (D3); return dead slots.

        Raises StalledWriterError naming slot and process when one still may at ``deadline`` (monotonic seconds).
        """
        dead = []
        for seen in self.slots_in_use():
            if seen.state != layout.STATE_BUSY or seen.segment != segment.number:
                if not self.is_live(seen):
                    dead.append(seen)
                continue
            while self._control.look_at_slot(seen.index).word == seen.word:
                if not self.is_live(seen):
                    dead.append(seen)
                    break
                if time.monotonic() > deadline:
                    raise self.stalled(seen, segment, None)
                time.sleep(LOOK_AGAIN_S)
        return dead

    def stalled(self, slot: SlotView, segment: Segment, unit: int | None) -> StalledWriterError:
        """Return the error that names a live writer behind which others wait."""
        place = "between its claim and its marker" if unit is None else f"inside its frame at unit {unit}"
        return StalledWriterError(
            f"process {self._control.slot_owner_pid(slot.index)} (slot {slot.index}) stopped {place} of segment "
            f"{segment.number}; it is alive, so its range is not given away: continue it or kill it"
        )


def next_used_unit(segment: Segment, start: int, stop: int) -> int:
    """Return the first unit in [start, stop) that is not zero, or ``stop``; OSError where the file cannot be read.

    After the grace period no free word below the tail can change any more, so the units may be read in any order.
    """
    chunk = bytearray(_SCAN_BYTES)
    while start < stop:
        length = min(_SCAN_BYTES, (stop - start) * layout.UNIT_BYTES)
        del chunk[length:]
        # By a read, and at the speed of memory: what is allocated behind a tail, up to 32 MiB, is looked at whenever a shard is
        # opened, and to have it mapped would take as long again.
        if os.preadv(segment.fd, [chunk], byte_offset(start)) != length:
            raise OSError(errno.EIO, f"the file ends before unit {stop}", str(segment.path))
        if chunk != _ZEROS[:length]:
            zeros = length - len(chunk.lstrip(b"\0"))
            return start + zeros // layout.UNIT_BYTES
        start += length // layout.UNIT_BYTES
    return stop
