"""The contract of a write path.

A write path appends batches to one shard for one client. All write the format of FORMAT.md, so a shard written by one is read, and
after reopening continued, by any other. What *returned* means:

=========  =======================  =============================  ==========================================
path       processes on a shard     survives a killed process      survives power loss
=========  =======================  =============================  ==========================================
buffered   one                      everything that returned       what a returned ``sync`` covers
sync       any, one at a time       everything that returned       everything that returned
async      any, one at a time       everything that returned       everything that returned
uring      any, one at a time       everything that returned       everything that returned
mmap       any, at once             everything that returned       what a returned ``sync`` covers
=========  =======================  =============================  ==========================================

Implementations: thread-safe under the GIL; ``append`` and ``extend`` raise EntryTypeError and BatchTooLargeError before anything is
claimed or written, OSError when the disk is full (nothing half-visible), SyncError once a sync failed in any process.
"""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from cometlog.config import RetentionConfig
from cometlog.retention import ExcessBytes, RemovedSegment


@runtime_checkable
class Writer(Protocol):
    """The hot handle of one stream."""

    @property
    def stream(self) -> str:
        """Stream name."""

    def append(self, entry: bytes, /) -> int:
        """Append one entry and return its number."""

    def extend(self, entries: Iterable[bytes], /) -> range:
        """Append a batch that becomes visible as a whole; return the range of its entry numbers."""


class WritePath(Protocol):
    """A writer, and what its client does with it besides appending."""

    @property
    def writer(self) -> Writer:
        """The handle that appends."""

    def sync(self) -> None:
        """Make everything appended to the shard so far durable."""

    def repair(self, segment_number: int, unit: int) -> None:
        """Resolve a word that a reader found unresolved for long (PROTOCOL D)."""

    def retain(
        self, limits: RetentionConfig, excess_bytes: ExcessBytes | None = None
    ) -> list[RemovedSegment]:
        """Remove the shard's oldest segments as the limits say; ``excess_bytes`` more have to go where they may."""

    def close(self) -> None:
        """Leave the shard; the last to leave syncs it."""
