"""Statistics of a shard, read from its shared words: any process sees what all have done."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cometlog.control import Control, SlotView
from cometlog.errors import CorruptionError, NotALogError
from cometlog.kernel import layout
from cometlog.latency import LatencyHistogram
from cometlog.locks import LockProbe
from cometlog.statistics_file import map_statistics

_NOTHING_MEASURED = LatencyHistogram()
_STATE_NAMES = {
    layout.STATE_BUSY: "BUSY",
    layout.STATE_MARKED: "MARKED",
    layout.STATE_ROTATING: "ROTATING",
}


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """Counters since the files that hold them were made, and the durable position.

    Those up to ``sealed_torn`` stand in ``control``, the others in ``statistics``. Both files outlive processes and reboots; they
    are never synced, so a power loss may set counters back, and a file that was deleted or damaged starts them anew.

    ``frames``, ``entries`` and ``bytes`` (as stored, headers included) count appends, by every write path; ``retries`` the claims
    at which another writer was faster, ``fenced`` those that others gave up on, ``repairs`` words that live writers turned into PAD
    for their readers. ``recoveries`` were run by a client that came alone to a shard that was not left cleanly; they, and syncs,
    turned ``recovered_words`` words into PAD, and they set ``set_aside`` segments aside. ``sealed_torn`` segments were sealed at an
    append that was cut off. ``durable_entry`` is the entry number below which everything is on stable storage. ``live_writers``
    processes have the shard open to write, as far as their pids are seen from here.

    ``syncs`` took ``sync_time_ns`` in the system calls, and their callers, who may share one, ``sync_wait_ns``. Appends waited
    ``lock_wait_ns`` for the lock of their path, and ``growth_wait_ns`` for room in the segment, ``growth_waits`` times.
    ``checkpoints`` brought an index up to date. ``errors`` appends raised something other than their caller's mistake.
    ``compressions`` batches of ``compression_bytes_before`` bytes were given to the compressor, which took ``compress_time_ns``;
    ``compressed`` of them were stored compressed, all of them in ``compression_bytes_stored`` bytes. Consumer groups were given
    ``delivered`` entries, repetitions included; their handlers raised ``handler_errors`` times and were called again
    ``handler_retries`` times.

    ``latency``: every 64th append, while nobody else appended; ``latency_shared``: every 64th, among appends of other writers.
    """

    frames: int = 0
    entries: int = 0
    bytes: int = 0
    fenced: int = 0
    rotations: int = 0
    repairs: int = 0
    retries: int = 0
    recoveries: int = 0
    recovered_words: int = 0
    set_aside: int = 0
    sealed_torn: int = 0
    durable_entry: int = 0
    write_path: str | None = None
    poisoned: bool = False
    live_writers: int = 0
    syncs: int = 0
    sync_time_ns: int = 0
    sync_wait_ns: int = 0
    lock_wait_ns: int = 0
    growth_waits: int = 0
    growth_wait_ns: int = 0
    checkpoints: int = 0
    errors: int = 0
    compressions: int = 0
    compressed: int = 0
    compression_bytes_before: int = 0
    compression_bytes_stored: int = 0
    compress_time_ns: int = 0
    delivered: int = 0
    handler_errors: int = 0
    handler_retries: int = 0
    latency: LatencyHistogram = _NOTHING_MEASURED
    latency_shared: LatencyHistogram = _NOTHING_MEASURED

    @property
    def compression_ratio(self) -> float | None:
        """Bytes given to the compressor for each that was stored; None where nothing was given."""
        if not self.compression_bytes_stored:
            return None
        return self.compression_bytes_before / self.compression_bytes_stored


_STATISTICS_FIELDS = {
    "syncs": layout.STATISTICS_SYNCS,
    "sync_time_ns": layout.STATISTICS_SYNC_TIME,
    "sync_wait_ns": layout.STATISTICS_SYNC_WAIT,
    "lock_wait_ns": layout.STATISTICS_LOCK_WAIT,
    "growth_waits": layout.STATISTICS_GROWTH_WAITS,
    "growth_wait_ns": layout.STATISTICS_GROWTH_WAIT,
    "checkpoints": layout.STATISTICS_CHECKPOINTS,
    "errors": layout.STATISTICS_ERRORS,
    "compressions": layout.STATISTICS_COMPRESSIONS,
    "compressed": layout.STATISTICS_COMPRESSED,
    "compression_bytes_before": layout.STATISTICS_BYTES_BEFORE,
    "compression_bytes_stored": layout.STATISTICS_BYTES_STORED,
    "compress_time_ns": layout.STATISTICS_COMPRESS_TIME,
    "delivered": layout.STATISTICS_DELIVERED,
    "handler_errors": layout.STATISTICS_HANDLER_ERRORS,
    "handler_retries": layout.STATISTICS_HANDLER_RETRIES,
}


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
    counted = _read_statistics_file(directory)
    try:
        control = Control(directory / "control", writable=False)
    except (FileNotFoundError, CorruptionError):  # what a power loss leaves of a file that is never synced
        return replace(ShardStatistics(), **counted)
    load = control.mapping.load_acquire
    try:
        return ShardStatistics(
            frames=control.sum_over_slots(layout.SLOT_FRAMES),
            entries=control.sum_over_slots(layout.SLOT_ENTRIES),
            bytes=control.sum_over_slots(layout.SLOT_BYTES),
            fenced=control.sum_over_slots(layout.SLOT_FENCED),
            rotations=control.sum_over_slots(layout.SLOT_ROTATIONS),
            repairs=control.sum_over_slots(layout.SLOT_REPAIRS),
            retries=control.sum_over_slots(layout.SLOT_RETRIES),
            recoveries=load(layout.CONTROL_RECOVERIES),
            recovered_words=load(layout.CONTROL_RECOVERED_WORDS),
            set_aside=load(layout.CONTROL_SET_ASIDE),
            sealed_torn=load(layout.CONTROL_SEALED_TORN),
            durable_entry=control.durable_entry,
            write_path=control.write_path,
            poisoned=control.poisoned,
            live_writers=len(live_writers(directory, control)),
            **counted,
        )
    finally:
        control.close()


def _read_statistics_file(directory: Path) -> dict[str, Any]:
    mapping = map_statistics(directory, writable=False)
    if mapping is None:
        return {}
    words = memoryview(mapping.read(0, layout.STATISTICS_SIZE_BYTES)).cast("Q")
    mapping.close()
    return {name: words[offset // 8] for name, offset in _STATISTICS_FIELDS.items()} | {
        "latency": _histogram(words[layout.STATISTICS_ALONE // 8 :]),
        "latency_shared": _histogram(words[layout.STATISTICS_SHARED // 8 :]),
    }


def _histogram(words: memoryview) -> LatencyHistogram:
    first = layout.HISTOGRAM_COUNTS // 8
    counts = tuple(words[first : first + layout.LATENCY_BUCKETS])
    return LatencyHistogram(counts, words[layout.HISTOGRAM_SUM // 8], words[layout.HISTOGRAM_MAX // 8])


def live_writers(directory: Path, control: Control) -> dict[int, list[int]]:
    """Return the processes that hold slots of a shard, by pid, with the slots of each."""
    try:
        probe = LockProbe(directory / "lock")
    except (FileNotFoundError, NotALogError):
        return {}
    found: dict[int, list[int]] = {}
    try:
        for index in range(layout.SLOT_COUNT):
            pid = control.slot_owner_pid(index)
            if pid and probe.is_slot_locked(index):
                found.setdefault(pid, []).append(index)
    finally:
        probe.close()
    return found


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
