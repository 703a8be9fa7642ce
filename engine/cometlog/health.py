"""What limits a log at the moment: CPU, I/O or contention, looked at over a window, with the numbers it is concluded from.

The shares are of the writers' own time: the window, for each process that appended in it, less what the scheduler let its busiest
thread wait. Time inside appends is their number times the median of those that were measured in the window, because one sample that
was preempted would count 64 times over.
"""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from cometlog.control import Control
from cometlog.errors import ConfigurationError, CorruptionError
from cometlog.kernel import layout
from cometlog.statistics import (
    ShardStatistics,
    StalledWriter,
    find_stalled_writers,
    live_writers,
    read_statistics,
)

Bottleneck = Literal["cpu", "io", "contention", "none"]
Verdict = Literal["ok", "attention", "failing"]

SHARE_MIN = 0.10
"""A share of the writers' time below which nothing is called a bottleneck."""
SINGLES_MAX = 10.0
"""Fewer entries in the mean append than this are single entries."""
SMALL_ENTRY_BYTES = 2048
FREE_SHARE_MIN = 0.05
SEGMENTS_FREE_MIN = 2
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Health:
    """A look at a log over ``window_s`` seconds.

    ``verdict``: "failing" where a sync failed and a shard refuses appends, "attention" where a live writer stands still or the disk
    is nearly full, else "ok". ``bottleneck``: "cpu", "io", "contention", or "none" where writers spend less than a tenth of their
    time in the log. ``evidence``: the numbers behind it, by name; those that end in ``_share`` are of the writers' time, 0 to 1.
    ``reasons``: the same in sentences, with what helps.
    """

    verdict: Verdict
    bottleneck: Bottleneck
    evidence: Mapping[str, float]
    reasons: tuple[str, ...]
    stalled_writers: tuple[StalledWriter, ...]
    poisoned: tuple[str, ...]
    free_bytes: int
    window_s: float


@dataclass(frozen=True, slots=True)
class _Look:
    """A shard at one moment: its statistics, appends by slot, and the slots of each live process."""

    statistics: ShardStatistics
    frames: tuple[int, ...]
    slots: Mapping[int, list[int]]


@dataclass(frozen=True, slots=True)
class _Activity:
    """What a shard did in the window. ``pids``: the processes that appended and live still."""

    stream: str
    change: ShardStatistics
    pids: frozenset[int]
    writers: int

    @property
    def append_ns(self) -> float:
        """Time inside appends, all writers together."""
        median = (self.change.latency + self.change.latency_shared).percentile_ns(50)
        return self.change.frames * (median or 0)

    @property
    def entries_per_append(self) -> float:
        return self.change.entries / max(1, self.change.frames)

    @property
    def is_crowded(self) -> bool:
        """Whether several writers append single entries here: each waits for the others' stores to one tail, or for one lock."""
        return self.writers > 1 and self.entries_per_append < SINGLES_MAX


def examine(root: Path, shards: Mapping[str, Path], window_s: float, segment_size_bytes: int) -> Health:
    """Look at some shards (stream to directory) of a log twice, ``window_s`` seconds apart.

    Raises ConfigurationError unless the window is 0.01 to 3600 s.
    """
    if isinstance(window_s, bool) or not isinstance(window_s, (int, float)) or not 0.01 <= window_s <= 3600:
        raise ConfigurationError(f"window_s is 0.01 to 3600 seconds, got {window_s!r}")
    before = {stream: look for stream, path in shards.items() if (look := _look(path)) is not None}
    threads_before = _thread_times({pid for look in before.values() for pid in look.slots})
    started = time.monotonic()
    stalled = find_stalled_writers(shards, min(_LOOK_S, window_s))
    time.sleep(max(0.0, window_s - (time.monotonic() - started)))
    after = {stream: look for stream in before if (look := _look(shards[stream])) is not None}
    threads_after = _thread_times({pid for look in after.values() for pid in look.slots})
    elapsed_s = time.monotonic() - started
    active = [_activity(stream, before[stream], look) for stream, look in after.items()]
    processes = {pid for activity in active for pid in activity.pids}
    evidence = _shares(
        active, _processor_shares(processes, threads_before, threads_after, elapsed_s), elapsed_s
    )
    bottleneck, why = _name_bottleneck(active, evidence)
    poisoned = tuple(stream for stream, look in after.items() if look.statistics.poisoned)
    free_bytes, complaint = _free_room(root, segment_size_bytes)
    held = tuple(writer for writer in stalled if writer.alive)
    reasons = [*why, *complaint, *map(_stall_sentence, held), *map(_poison_sentence, poisoned)]
    verdict: Verdict = "failing" if poisoned else "attention" if held or complaint else "ok"
    return Health(
        verdict,
        bottleneck,
        MappingProxyType(evidence),
        tuple(reasons),
        tuple(stalled),
        poisoned,
        free_bytes,
        elapsed_s,
    )


def _look(directory: Path) -> _Look | None:
    statistics = read_statistics(directory)
    with ExitStack() as opened:
        try:
            control = Control(directory / "control", writable=False)
        except (FileNotFoundError, CorruptionError):
            return None
        opened.callback(control.close)
        frames = tuple(control.slot_counter(index, layout.SLOT_FRAMES) for index in range(layout.SLOT_COUNT))
        return _Look(statistics, frames, live_writers(directory, control))


def _activity(stream: str, before: _Look, after: _Look) -> _Activity:
    now, then = after.statistics, before.statistics
    names = [
        name for name in ShardStatistics.__dataclass_fields__
        if isinstance(getattr(now, name), int) and not isinstance(getattr(now, name), bool)
    ]  # fmt: skip
    change = replace(
        now,
        latency=now.latency.since(then.latency),
        latency_shared=now.latency_shared.since(then.latency_shared),
        **{name: max(0, getattr(now, name) - getattr(then, name)) for name in names},
    )
    moved = {index for index, frames in enumerate(after.frames) if frames > before.frames[index]}
    pids = frozenset(pid for pid, slots in after.slots.items() if moved & set(slots))
    return _Activity(stream, change, pids, max(len(pids), len(moved)))


# ---- Processors ----


def _thread_times(pids: Iterable[int]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return (ns run, ns waited for a CPU) by process and thread, of those that can be seen."""
    found = {}
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                run_ns, wait_ns, _ = path.read_text().split()
            except (OSError, ValueError):  # ended meanwhile, or a kernel that does not count
                continue
            found[pid, int(path.parent.name)] = int(run_ns), int(wait_ns)
    return found


def _processor_shares(
    pids: set[int], before: Mapping[tuple[int, int], tuple[int, int]],
    after: Mapping[tuple[int, int], tuple[int, int]], elapsed_s: float,
) -> dict[int, tuple[float, float]]:  # fmt: skip
    """Return what the busiest thread of each process did with the window: (share run, share waited for a CPU)."""
    shares: dict[int, tuple[float, float]] = {}
    for key, (run_ns, wait_ns) in after.items():
        if key[0] in pids and key in before:
            window_ns = elapsed_s * 1e9
            mine = (
                min(1.0, (run_ns - before[key][0]) / window_ns),
                min(1.0, (wait_ns - before[key][1]) / window_ns),
            )
            shares[key[0]] = max(shares.get(key[0], (0.0, 0.0)), mine, key=sum)
    return shares


# ---- The verdict ----


def _shares(
    active: list[_Activity], processors: dict[int, tuple[float, float]], elapsed_s: float
) -> dict[str, float]:
    """Return the evidence: what the writers' time went to."""
    writers = max(
        1,
        len({pid for activity in active for pid in activity.pids}),
        max((a.writers for a in active), default=0),
    )
    waited = sum(wait for _, wait in processors.values())
    own_ns = max(0.05 * writers, writers - waited) * elapsed_s * 1e9
    crowded = [activity for activity in active if activity.is_crowded]
    own_way = [activity for activity in active if not activity.is_crowded]
    append_ns = sum(activity.append_ns for activity in active)
    compress_ns = sum(activity.change.compress_time_ns for activity in active)
    crowded_ns = sum(max(activity.append_ns, activity.change.lock_wait_ns) for activity in crowded)
    # On the paths that sync each append under a lock, waiting for the lock is waiting for another's sync.
    sync_ns = sum(a.change.sync_wait_ns for a in active if a not in crowded or a.change.write_path == "mmap")
    # Room that a writer made by itself, or spun for while its helper had no CPU, is processor time: only what blocked it is I/O.
    blocked_ns = sum(max(0.0, 1 - run - wait) for run, wait in processors.values()) * elapsed_s * 1e9
    room_ns: float = sum(activity.change.growth_wait_ns for activity in own_way)
    room_ns = min(room_ns, blocked_ns) if processors else room_ns
    inside_ns = sum(a.change.sync_wait_ns for a in own_way if a.change.write_path in ("sync", "async"))
    alone_ns = sum(activity.append_ns for activity in own_way) - inside_ns - room_ns
    totals = {name: sum(getattr(activity.change, name) for activity in active) for name in ("frames", "entries", "bytes", "syncs",
              "retries", "fenced", "errors")}  # fmt: skip
    ran = [run for run, _ in processors.values()]
    return {
        "appends_per_s": totals["frames"] / elapsed_s,
        "entries_per_append": totals["entries"] / max(1, totals["frames"]),
        "syncs_per_s": totals["syncs"] / elapsed_s,
        "retries_per_append": totals["retries"] / max(1, totals["frames"]),
        "fenced": float(totals["fenced"]),
        "errors": float(totals["errors"]),
        "writers": float(writers if totals["frames"] or totals["syncs"] else 0),
        "crowded_shards": float(len(crowded)),
        "append_share": min(1.0, append_ns / own_ns),
        "contention_share": min(1.0, crowded_ns / own_ns),
        "io_share": min(1.0, (sync_ns + room_ns) / own_ns),
        "cpu_share": min(1.0, max(alone_ns, compress_ns, 0) / own_ns),
        "compress_share": min(1.0, compress_ns / own_ns),
        "sync_share": min(1.0, sync_ns / own_ns),
        "growth_share": min(1.0, room_ns / own_ns),
        "processor_share": sum(ran) / max(1, len(ran)),
        "run_queue_share": waited / max(1, len(ran)),
    }


def _name_bottleneck(active: list[_Activity], evidence: Mapping[str, float]) -> tuple[Bottleneck, list[str]]:
    if not evidence["writers"]:
        return "none", ["nobody appended or synced while this looked"]
    shares: dict[Bottleneck, float] = {
        "contention": evidence["contention_share"], "io": evidence["io_share"], "cpu": evidence["cpu_share"]
    }  # fmt: skip
    named: Bottleneck = max(shares, key=lambda name: shares[name])
    if shares[named] < SHARE_MIN:
        return "none", [
            f"the writers spend {evidence['append_share']:.0%} of their time in appends and {evidence['sync_share']:.0%} in syncs"
        ]
    return named, [
        {"contention": _crowd_sentence, "io": _io_sentence, "cpu": _cpu_sentence}[named](active, evidence)
    ]


def _crowd_sentence(active: list[_Activity], evidence: Mapping[str, float]) -> str:
    worst = max(
        (activity for activity in active if activity.is_crowded), key=lambda activity: activity.append_ns
    )
    return (
        f"{worst.writers} writers append {worst.entries_per_append:.1f} entries at a time to {worst.stream}, "
        f"{evidence['contention_share']:.0%} of their time; {evidence['retries_per_append']:.2%} of the claims were made again: "
        f"append batches, or give each process shards of its own"
    )


def _io_sentence(_active: list[_Activity], evidence: Mapping[str, float]) -> str:
    if evidence["growth_share"] > evidence["sync_share"]:
        return (
            f"the writers wait {evidence['growth_share']:.0%} of their time for room in their segments: the disk allocates more "
            f"slowly than they append; compress, or use faster storage"
        )
    return (
        f"the writers spend {evidence['sync_share']:.0%} of their time in {evidence['syncs_per_s']:.0f} syncs a second, one "
        f"for {evidence['appends_per_s'] / max(1e-9, evidence['syncs_per_s']):.1f} appends: sync once for many entries, "
        f"append batches, or use faster storage"
    )


def _cpu_sentence(active: list[_Activity], evidence: Mapping[str, float]) -> str:
    tried = sum(activity.change.compressions for activity in active)
    if evidence["compress_share"] >= evidence["cpu_share"] / 2 and tried:
        mean_bytes = (
            sum(activity.change.compression_bytes_before for activity in active)
            / tried
            / max(1.0, evidence["entries_per_append"])
        )
        hint = (
            "raise compression.threshold_bytes"
            if mean_bytes < SMALL_ENTRY_BYTES
            else "lower compression.level, or compress less"
        )
        share = evidence["compress_share"]
        return (
            f"compression takes {share:.0%} of the writers' time, entries of {mean_bytes:.0f} bytes: {hint}"
        )
    hint = (
        "append batches"
        if evidence["entries_per_append"] < SINGLES_MAX
        else "the entries are copied as fast as one CPU does it; use more"
    )
    return (
        f"the writers spend {evidence['append_share']:.0%} of their time in {evidence['appends_per_s']:.0f} appends a second of "
        f"{evidence['entries_per_append']:.1f} entries: {hint}"
    )


def _free_room(root: Path, segment_size_bytes: int) -> tuple[int, list[str]]:
    found = os.statvfs(root)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if free >= max(FREE_SHARE_MIN * total, SEGMENTS_FREE_MIN * segment_size_bytes):
        return free, []
    return free, [
        f"{free} of {total} bytes are free on the file system of {root}: less than {FREE_SHARE_MIN:.0%} or {SEGMENTS_FREE_MIN} "
        f"segments of {segment_size_bytes} bytes; let retention remove segments, or make room"
    ]


def _stall_sentence(writer: StalledWriter) -> str:
    return (
        f"process {writer.pid} stands still in an append to {writer.stream} ({writer.state}): continue it, or kill it, and the others "
        f"go on"
    )


def _poison_sentence(stream: str) -> str:
    return f"a sync of {stream} failed, and it refuses appends: check the disk, close every client of it and open it again"
