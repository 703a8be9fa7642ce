"""The mmap write path: lock-free appends into shared memory by any number of processes (PROTOCOL A to H). The default.

Durable means: a returned append survives the death of every process; power loss only what a returned ``sync`` covers.
"""

import time
from pathlib import Path

from cometlog.compression import Compressor
from cometlog.config import Config, RetentionConfig
from cometlog.errors import AppendFencedError, ClosedError, CometlogError
from cometlog.forked import attach_lock
from cometlog.kernel import layout
from cometlog.kernel.appender import FENCED, FENCES_MAX, UNBACKED, Appender
from cometlog.kernel.fork_guard import process_id
from cometlog.kernel.histogram import LatencySampler
from cometlog.kernel.waiting import wait_until_backed
from cometlog.names import StreamName
from cometlog.retention import ExcessBytes, RemovedSegment
from cometlog.rotation import batch_bytes_max_for
from cometlog.shard import Shard
from cometlog.statistics_file import count

# Waiting for the helper costs no system call, and a step of it takes 0.1 ms. One that takes longer lacks a CPU, which spinning only
# takes from it: then the writer grows by itself at once until a wait succeeds again.
_PATIENCE_NS_MAX = 400_000
_PATIENCE_NS_MIN = 20_000
_GUARD_CLOSED = 0
_GUARD_ASLEEP = 2


class MmapPath:
    """Appends through the kernel's Appender; this object does what an append cannot do in one stretch."""

    def __init__(self, root: Path, stream: StreamName, config: Config) -> None:
        self._arguments = (root, stream, config)
        self._pid = process_id()
        self._closed = False
        self._patience_ns = _PATIENCE_NS_MAX
        self.shard = Shard(root, stream, config, "mmap", exclusive=False, populate=True)
        self.shard.attach()
        self._compressor = Compressor(config.compression, self.shard.directory)
        self._sampler = LatencySampler(self.shard.statistics)
        self.writer = Appender(
            str(stream), self.shard.guard, self._sampler,
            resolve=self._resolve, compress=self._compressor.compress,
            compress_from_bytes=config.compression.threshold_bytes,
            batch_bytes_max=batch_bytes_max_for(config.storage.segment_size_bytes),
        )  # fmt: skip
        try:
            self._connect()
        except BaseException:
            self.shard.detach()
            raise

    def _connect(self) -> None:
        self._sampler.bind(self.shard.statistics)
        self._compressor.statistics = self.shard.statistics
        self.writer.bind_control(self.shard.control.mapping)
        self.writer.bind_slot(self.shard.slots.take())
        self._bind_segment()
        self.writer.open()

    def _bind_segment(self) -> None:
        segment = self.shard.follow_active()
        header = segment.header
        self._compressor.refresh()
        self.writer.bind_segment(
            segment.mapping, header.number, header.base, header.capacity_units, header.uuid
        )

    def _resolve(self, status: int) -> None:
        """Arrange what an append found missing, or raise. No claim is held here."""
        try:
            self._arrange(status)
        except ClosedError:
            raise
        except (CometlogError, OSError):
            count(self.shard.statistics, layout.STATISTICS_ERRORS)
            raise

    def _arrange(self, status: int) -> None:
        if status == FENCED:
            raise AppendFencedError(
                f"{self.writer.stream}: the append stalled so long that other processes gave its range up, "
                f"{FENCES_MAX} times; nothing of it is visible"
            )
        if self._closed:
            raise ClosedError(f"the writer of {self.writer.stream} is closed")
        state = self.writer.guard_state
        if state == _GUARD_CLOSED and process_id() != self._pid:
            self._attach_in_child()
            return
        if state == _GUARD_ASLEEP:
            self.shard.watch.wake()
            return
        self.shard.check_poison()
        with self.shard.lock:
            if self._closed:
                raise ClosedError(f"the writer of {self.writer.stream} is closed")
            if status == UNBACKED:
                self._back(self.writer.needed_units)
            else:
                self._bind_segment()

    def _back(self, units: int) -> None:
        if self.shard.control.active != self.shard.segment.number:
            return
        started_ns = time.monotonic_ns()
        segment = self.shard.segment.mapping
        if not self.shard.watch.growth_failed() and wait_until_backed(segment, units, self._patience_ns):
            self._patience_ns = _PATIENCE_NS_MAX
        else:
            self._patience_ns = _PATIENCE_NS_MIN
            self.shard.watch.grow(units)
        count(self.shard.statistics, layout.STATISTICS_GROWTH_WAITS)
        count(self.shard.statistics, layout.STATISTICS_GROWTH_WAIT, time.monotonic_ns() - started_ns)

    def _attach_in_child(self) -> None:
        """Attach anew after a fork: the child owns nothing that it inherited (A3)."""
        root, stream, config = self._arguments
        with attach_lock():
            if process_id() == self._pid:
                return
            inherited = self.shard
            shard = Shard(root, stream, config, "mmap", exclusive=False, populate=True, guard=inherited.guard)
            shard.attach()
            self.shard = shard
            try:
                self._connect()
            except BaseException:
                self.shard = inherited
                shard.detach()
                raise
            self._pid = process_id()
            inherited.abandon()

    def sync(self) -> None:
        """Make everything appended to the shard so far durable."""
        if process_id() != self._pid:
            self._attach_in_child()
        self.shard.sync()

    def repair(self, segment_number: int, unit: int) -> None:
        """Resolve a word that a reader found unresolved for long."""
        if process_id() != self._pid:
            self._attach_in_child()
        self.shard.repair(segment_number, unit)

    def retain(
        self, limits: RetentionConfig, excess_bytes: ExcessBytes | None = None
    ) -> list[RemovedSegment]:
        """Remove the shard's oldest segments as the limits say."""
        if process_id() != self._pid:
            self._attach_in_child()
        return self.shard.retain(limits, excess_bytes)

    def close(self) -> None:
        """Leave the shard; the last to leave syncs it. In a forked child that never appended, nothing happens."""
        if self._closed:
            return
        self._closed = True
        self.writer.close()
        if process_id() == self._pid:
            self.shard.detach()
