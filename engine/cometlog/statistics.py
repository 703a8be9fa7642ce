"""Statistics of a shard, read from its shared words: any process sees what all have done."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cometlog.control import Control, SlotView
from cometlog.errors import CorruptionError, NotALogError
from cometlog.kernel import layout
from cometlog.locks import LockProbe

_STATE_NAMES = {
    layout.STATE_BUSY: "BUSY",
    layout.STATE_MARKED: "MARKED",
    layout.STATE_ROTATING: "ROTATING",
}


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """Counters since the control file was made, and the durable position.

    The control file outlives processes and reboots; it is never synced, so a power loss may set counters back, and a file that was
    deleted starts them anew.

    ``frames``, ``entries`` and ``bytes`` count appends of the mmap path; ``repairs`` words that live writers turned into PAD for their
    readers. ``recoveries`` were run by a client that came alone to a shard that was not left cleanly; they, and syncs, turned
    ``recovered_words`` words into PAD, and they set ``set_aside`` segments aside. ``sealed_torn`` segments were sealed at an append
    that was cut off. ``durable_entry`` is the entry number below which everything is on stable storage.
    """

    frames: int = 0
    entries: int = 0
    bytes: int = 0
    fenced: int = 0
    rotations: int = 0
    repairs: int = 0
    recoveries: int = 0
    recovered_words: int = 0
    set_aside: int = 0
    sealed_torn: int = 0
    durable_entry: int = 0
    write_path: str | None = None
    poisoned: bool = False


@dataclass(frozen=True, slots=True)
class StalledWriter:
    """A writer whose operation did not move between two looks.

    ``alive`` says whether its slot's lock is held, which the kernel releases when the last process that has it dies; ``pid`` and
    ``start_time`` (clock ticks after boot, as in /proc/<pid>/stat) name who took the slot. ``state`` is BUSY (before its marker, so
    ``unit`` is None), MARKED (copying the frame at ``unit``) or ROTATING. What a dead one left is repaired by whoever meets it.
    """

    stream: str
    slot: int
    state: str
    pid: int
    start_time: int
    alive: bool
    segment: int
    unit: int | None


def read_statistics(directory: Path) -> ShardStatistics:
    """Return the statistics of the shard in ``directory``; zeros where nobody has written."""
    try:
        control = Control(directory / "control", writable=False)
    except (FileNotFoundError, CorruptionError):  # what a power loss leaves of a file that is never synced
        return ShardStatistics()
    load = control.mapping.load_acquire
    try:
        return ShardStatistics(
            frames=control.sum_over_slots(layout.SLOT_FRAMES),
            entries=control.sum_over_slots(layout.SLOT_ENTRIES),
            bytes=control.sum_over_slots(layout.SLOT_BYTES),
            fenced=control.sum_over_slots(layout.SLOT_FENCED),
            rotations=control.sum_over_slots(layout.SLOT_ROTATIONS),
            repairs=control.sum_over_slots(layout.SLOT_REPAIRS),
            recoveries=load(layout.CONTROL_RECOVERIES),
            recovered_words=load(layout.CONTROL_RECOVERED_WORDS),
            set_aside=load(layout.CONTROL_SET_ASIDE),
            sealed_torn=load(layout.CONTROL_SEALED_TORN),
            durable_entry=control.durable_entry,
            write_path=control.write_path,
            poisoned=control.poisoned,
        )
    finally:
        control.close()


def _working_slots(control: Control) -> dict[int, SlotView]:
    looks = map(control.look_at_slot, range(layout.SLOT_COUNT))
    return {look.index: look for look in looks if look.state != layout.STATE_IDLE}


def find_stalled_writers(shards: Mapping[str, Path], look_s: float) -> list[StalledWriter]:
    """Look at every slot of some shards (stream to directory) twice, ``look_s`` seconds apart, and return those that did not move.

    A slot's state holds a counter of operations, so a writer that works is never mistaken for one that stands still. Shards that
    nobody has written on this boot have none.
    """
    with ExitStack() as opened:
        looked: list[tuple[str, Control, LockProbe, dict[int, SlotView]]] = []
        for stream, directory in shards.items():
            try:
                control = Control(directory / "control", writable=False)
                opened.callback(control.close)
                probe = LockProbe(directory / "lock")
                opened.callback(probe.close)
            except (FileNotFoundError, NotALogError):
                continue
            if control.stored_boot_identity == control.boot_identity():
                looked.append((stream, control, probe, _working_slots(control)))
        time.sleep(look_s)
        return [
            _describe(stream, control, probe, before)
            for stream, control, probe, first in looked
            for before in first.values()
            if control.look_at_slot(before.index).word == before.word
        ]


def _describe(stream: str, control: Control, probe: LockProbe, slot: SlotView) -> StalledWriter:
    pid, start_time = control.slot_owner(slot.index)
    return StalledWriter(
        stream, slot.index, _STATE_NAMES[slot.state], pid, start_time, probe.is_slot_locked(slot.index), slot.segment,
        slot.claim if slot.state == layout.STATE_MARKED else None,
    )  # fmt: skip
