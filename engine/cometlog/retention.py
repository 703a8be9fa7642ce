"""Retention: which of a shard's oldest segments may go, and their removal (PROTOCOL E, last paragraph).

Thread safety: lock byte 7 keeps two processes from choosing at once; whoever finds it held leaves the work to its holder. Readers
keep what they have mapped.

Invariants: removed is the oldest first and never the active segment, never one at or behind the durable mark's (a recovery starts
there), never one that a live rotator may still look at; between two removals the directory is synced, so that no power loss leaves a
gap. A segment with entries that a consumer group has not acknowledged stays, unless the forced limit is passed.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cometlog.config import RetentionConfig
from cometlog.control import Control
from cometlog.durable_mark import read_mark
from cometlog.files import sync_directory
from cometlog.group_offsets import GroupOffsets
from cometlog.kernel import layout
from cometlog.locks import RETAIN_BYTE, SLOT_BYTE_FIRST, ShardLocks
from cometlog.segment import SegmentHeader, SegmentName, list_segments, read_header

ExcessBytes = Callable[[], int]
"""Says how many bytes of a shard have to go because all shards together have too many."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A segment that is there: its size, and when the one behind it was begun (ns since 1970; None for the last)."""

    name: SegmentName
    size_bytes: int
    ended_ns: int | None
    next_base: int | None


@dataclass(frozen=True, slots=True)
class RemovedSegment:
    """A segment that retention removed and why: "age", "shard size", "total size" or "forced"."""

    stream: str
    number: int
    first_entry: int
    next_entry: int
    size_bytes: int
    reason: str


def kept_segments(directory: Path) -> list[Kept]:
    """Return the segments of a shard, oldest first."""
    names = list_segments(directory)
    headers: list[SegmentHeader] = []
    sizes = []
    for name in names:
        header, size_bytes = read_header(directory / name.file_name)
        headers.append(header)
        sizes.append(size_bytes)
    following = [*headers[1:], None]
    return [
        Kept(name, size, None if after is None else after.created_ns, None if after is None else after.base)
        for name, size, after in zip(names, sizes, following, strict=True)
    ]


def unconsumed_from(directory: Path, stream: str) -> int | None:
    """Return the lowest entry number that a consumer group has still to acknowledge; None where there is no group."""
    with suppress(FileNotFoundError):
        offsets = GroupOffsets(directory, stream)
        try:
            # A damaged position protects everything.
            return min((line.position or 0 for line in offsets.lines()), default=None)
        finally:
            offsets.close()
    return None


def choose(
    kept: list[Kept], limits: RetentionConfig, *, now_ns: int, unconsumed: int | None, excess_bytes: int = 0
) -> list[tuple[Kept, str]]:
    """Return the segments that the limits condemn, oldest first, each with the reason.

    ``excess_bytes``: how many bytes of this shard have to go because all shards together have too many.
    """
    condemned = []
    size_bytes = sum(segment.size_bytes for segment in kept)
    for segment in kept[: max(0, len(kept) - limits.min_segments)]:
        if segment.ended_ns is None or segment.next_base is None:
            break
        forced = bool(limits.forced_shard_bytes) and size_bytes > limits.forced_shard_bytes
        protected = limits.protect_unconsumed and unconsumed is not None and unconsumed < segment.next_base
        if limits.max_age_s and now_ns - segment.ended_ns > limits.max_age_s * 1e9:
            reason = "age"
        elif limits.max_shard_bytes and size_bytes > limits.max_shard_bytes:
            reason = "shard size"
        elif excess_bytes > 0:
            reason = "total size"
        elif forced:
            reason = "forced"
        else:
            break
        if protected and not forced:
            break
        condemned.append((segment, "forced" if protected else reason))
        size_bytes -= segment.size_bytes
        excess_bytes -= segment.size_bytes
    return condemned


class Retention:
    """Removes segments of one shard for a client that is attached to it. ``sync`` makes the shard durable."""

    def __init__(
        self, directory: Path, stream: str, control: Control, locks: ShardLocks, sync: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._stream = stream
        self._control = control
        self._locks = locks
        self._sync = sync

    def apply(self, limits: RetentionConfig, excess_bytes: ExcessBytes | None = None) -> list[RemovedSegment]:
        """Remove what the limits condemn and may go; nothing where another process is at it.

        ``excess_bytes()`` is asked once nobody else chooses from this shard: what another process removed meanwhile counts no more.
        """
        if not self._locks.try_exclusive(RETAIN_BYTE):
            return []
        try:
            kept = kept_segments(self._directory)
            unconsumed = unconsumed_from(self._directory, self._stream)
            condemned = choose(
                kept, limits, now_ns=time.time_ns(), unconsumed=unconsumed,
                excess_bytes=0 if excess_bytes is None else excess_bytes(),
            )  # fmt: skip
            if condemned and condemned[-1][0].name.number >= self._marked_number():
                self._sync()
            removed = []
            for segment, reason in condemned:
                if not self._may_go(segment.name.number):
                    break
                self._remove(segment.name)
                removed.append(self._report(segment, reason))
            return removed
        finally:
            self._locks.unlock(RETAIN_BYTE)

    def _marked_number(self) -> int:
        mark = read_mark(self._directory / "durable")
        return mark.number if mark is not None else 0

    def _may_go(self, number: int) -> bool:
        """Return whether nobody can need a segment any more: not active, behind the mark, and no live rotator that old."""
        if number >= self._control.active or number >= self._marked_number():
            return False
        # A rotator of an older segment may be about to link the number after it, which must never return once it was removed. It
        # says ROTATING, fences, and then looks at `active`: whoever is not seen here will find the shard past its segment.
        self._control.mapping.fence()
        for index in range(layout.SLOT_COUNT):
            slot = self._control.look_at_slot(index)
            if (
                slot.state == layout.STATE_ROTATING
                and slot.segment < number
                and self._locks.is_held(SLOT_BYTE_FIRST + index)
            ):
                return False
        return True

    def _remove(self, name: SegmentName) -> None:
        os.unlink(self._directory / name.file_name)
        (self._directory / name.index_name).unlink(missing_ok=True)
        sync_directory(self._directory)

    def _report(self, segment: Kept, reason: str) -> RemovedSegment:
        return RemovedSegment(
            self._stream,
            segment.name.number,
            segment.name.base,
            segment.next_base or 0,
            segment.size_bytes,
            reason,
        )
