"""What the paths that hold a lock share: frames written behind the tail under a lock, the tail store as their commit (PROTOCOL H).

Thread safety: ``shard.lock`` serialises the threads of a client; each path adds what keeps other processes out.
"""

import time
from collections.abc import Iterable
from pathlib import Path

from cometlog.compression import Compressor
from cometlog.config import Config, RetentionConfig
from cometlog.errors import BatchTooLargeError, ClosedError, CometlogError
from cometlog.forked import attach_lock
from cometlog.kernel import frame_writer, layout, waiting
from cometlog.kernel.batch import checked_items, encode_batch
from cometlog.kernel.fork_guard import process_id
from cometlog.kernel.frame_writer import FrameWriter
from cometlog.kernel.histogram import LatencySampler
from cometlog.names import StreamName
from cometlog.retention import ExcessBytes, RemovedSegment
from cometlog.rotation import batch_bytes_max_for
from cometlog.shard import Shard
from cometlog.statistics_file import count


class FileLockPath:
    """A writer that is its own write path. Subclasses say what is locked and what happens between write and commit."""

    name = ""
    exclusive = False
    index_in_background = True

    def __init__(self, root: Path, stream: StreamName, config: Config) -> None:
        self._arguments = (root, stream, config)
        self._compress_from_bytes = config.compression.threshold_bytes
        self._batch_bytes_max = batch_bytes_max_for(config.storage.segment_size_bytes)
        self._closed = False
        self.stream = str(stream)
        self._attach()
        self._pid = process_id()
        self._compressor = Compressor(config.compression, self.shard.directory)
        self._compressor.statistics = self.shard.statistics

    def _attach(self) -> None:
        root, stream, config = self._arguments
        shard = Shard(
            root, stream, config, self.name,
            exclusive=self.exclusive, populate=False, index_in_background=self.index_in_background,
        )  # fmt: skip
        shard.attach()
        self.shard = shard
        self._frames = self._new_frame_writer()
        self._frames.bind_slot(shard.control.mapping, shard.rotation_slot, LatencySampler(shard.statistics))
        try:
            self._begin()
        except BaseException:
            shard.detach()
            raise

    def _new_frame_writer(self) -> FrameWriter:
        return FrameWriter()

    def _begin(self) -> None:
        """Do what a path needs between attaching and its first append."""

    def _bind(self) -> None:
        segment = self.shard.follow_active()
        if segment.number != self._frames.number or self._frames.base != segment.base:
            header = segment.header
            self._compressor.refresh()
            self._frames.bind_segment(
                segment.mapping, segment.fd, header.number, header.base, header.capacity_units, header.uuid
            )

    @property
    def writer(self) -> "FileLockPath":
        """The handle that appends: this object."""
        return self

    def append(self, entry: bytes, /) -> int:
        """Append one entry and return its number."""
        if type(entry) is bytes:
            return self._append([entry], len(entry))
        return self._append(*checked_items((entry,)))

    def extend(self, entries: Iterable[bytes], /) -> range:
        """Append a batch that becomes visible as a whole; return the range of its entry numbers."""
        items, data_bytes = checked_items(entries)
        if not items:
            self._check_open()
            first = self.shard.position().next_entry
            return range(first, first)
        if len(items) > layout.MAX_BATCH_ENTRIES:
            raise BatchTooLargeError(
                f"a batch has at most {layout.MAX_BATCH_ENTRIES} entries, got {len(items)}"
            )
        first = self._append(items, data_bytes)
        return range(first, first + len(items))

    def _append(self, items: list[bytes], data_bytes: int) -> int:
        self._check_open()
        batch_bytes = data_bytes + (4 * (len(items) + 1) if len(items) > 1 else 0)
        if batch_bytes > self._batch_bytes_max:
            raise BatchTooLargeError(
                f"a batch for {self.stream} has at most {self._batch_bytes_max} bytes with its offsets, got {batch_bytes}"
            )
        started_ns = self._frames.begin()
        try:
            first = self._append_checked(items, data_bytes)
        except ClosedError:
            raise
        except (CometlogError, OSError):
            count(self.shard.statistics, layout.STATISTICS_ERRORS)
            raise
        if started_ns:
            self._frames.measure(started_ns)
        return first

    def _append_checked(self, items: list[bytes], data_bytes: int) -> int:
        encoded = None
        if data_bytes >= self._compress_from_bytes * len(items):
            encoded = self._compressor.compress(encode_batch(items))
        with self.shard.lock:
            self._check_open()
            self.shard.check_poison()
            self._lock()
            try:
                self._put(items, data_bytes, encoded)
                first = self._commit()
            finally:
                self._unlock()
            self._wake_readers()
            return first

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the writer of {self.stream} is closed")
        if process_id() != self._pid:
            self._attach_in_child()

    def _attach_in_child(self) -> None:
        """Attach anew after a fork: the child owns nothing that it inherited (A3)."""
        with attach_lock():
            if process_id() == self._pid:
                return
            inherited = self.shard
            try:
                self._attach()
            except BaseException:
                self.shard = inherited
                raise
            self._pid = process_id()
            self._compressor.statistics = self.shard.statistics
            inherited.abandon()

    def _put(self, items: list[bytes], data_bytes: int, encoded: tuple[bytes, int] | None) -> None:
        """Write the frame behind the tail, making room first where there is none."""
        if self._frames.number != self.shard.control.active:
            self._bind()
        while True:
            self._prepare_segment()
            if encoded is None:
                status = self._frames.put(items, data_bytes)
            else:
                status = self._frames.put_payload(encoded[0], len(items), encoded[1])
            if status == frame_writer.WRITTEN:
                return
            if status == frame_writer.NOT_BACKED:
                self._grow()
            else:
                self.shard.segment.seal()
                if status == frame_writer.TORN:
                    self.shard.control.count(layout.CONTROL_SEALED_TORN)
                self._bind()

    def _grow(self) -> None:
        started_ns = time.monotonic_ns()
        self.shard.watch.grow(self._frames.needed_units)
        count(self.shard.statistics, layout.STATISTICS_GROWTH_WAITS)
        count(self.shard.statistics, layout.STATISTICS_GROWTH_WAIT, time.monotonic_ns() - started_ns)

    def _prepare_segment(self) -> None:
        """Do what a path needs before its first frame in the bound segment; raises with nothing written."""

    def _commit(self) -> int:
        return self._frames.publish()

    def _wake_readers(self) -> None:
        """Wake whoever waits for an append: they set the flag, fence and look; this fences between its commit and its look."""
        control = self.shard.control.mapping
        control.fence()
        if control.load_acquire(layout.CONTROL_FLAGS) & layout.FLAG_WAITING:
            waiting.wake(control)

    def _lock(self) -> None:
        """Keep other processes out."""

    def _unlock(self) -> None:
        """Let other processes in."""

    def sync(self) -> None:
        """Make everything appended to the shard so far durable."""
        self._check_open()
        self.shard.sync()

    def repair(self, segment_number: int, unit: int) -> None:
        """Resolve a word that a reader found unresolved for long."""
        self._check_open()
        self.shard.repair(segment_number, unit)

    def retain(
        self, limits: RetentionConfig, excess_bytes: ExcessBytes | None = None
    ) -> list[RemovedSegment]:
        """Remove the shard's oldest segments as the limits say."""
        self._check_open()
        return self.shard.retain(limits, excess_bytes)

    def close(self) -> None:
        """Leave the shard; the last to leave syncs it."""
        if not self._closed:
            self._closed = True
            if process_id() == self._pid:
                self.shard.detach()
