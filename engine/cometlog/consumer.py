"""A consumer group: reading on where the group stands, acknowledging, lag, reset.

At least once: an entry is delivered until it is acknowledged, in order, and again after a crash if its acknowledgement was not counted
yet. Positions are shared words in each shard (``group_offsets``); they survive a killed process, and power loss up to a checkpoint.

Thread safety: any thread may use a consumer; each shard has a lock of its own. Two consumers of a group on the same shard both get
its entries: give each process its shards by ``assignment``.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from cometlog.config import Config
from cometlog.errors import ClosedError, CometlogError, ConfigurationError
from cometlog.group_offsets import GroupOffsets
from cometlog.group_shard import GroupShard
from cometlog.kernel.fork_guard import process_id
from cometlog.kernel.group_position import GroupPosition
from cometlog.names import check_group_name, parse_stream
from cometlog.processing import Handler, OnBatch, OnError, Processing
from cometlog.read_batch import Entry, ReadBatch
from cometlog.reader import ShardReader
from cometlog.sleeper import Sleeper

STARTS = ("first", "next")
Streams = str | Iterable[str]


class Consumer:
    """One process's part in a consumer group. Made by ``Client.consumer``; use it as a context manager, or call ``close``.

    ``start``: where a group begins on a shard that does not know it: "first" kept entry, or "next" to come; a shard that appears later
    is always begun at its first.
    """

    def __init__(
        self, group: str, root: Path, config: Config, reader_of: Callable[[str], ShardReader],
        streams: Callable[[str], list[str]], *, start: str = "first",
    ) -> None:  # fmt: skip
        if start not in STARTS:
            raise ConfigurationError(f"start is {' or '.join(map(repr, STARTS))}, got {start!r}")
        self.group = check_group_name(group)
        self._root = root
        self._config = config
        self._reader_of = reader_of
        self._streams = streams
        self._old_streams = frozenset(streams("*")) if start == "next" else frozenset()
        self._shards: dict[str, GroupShard] = {}
        self._lock = threading.RLock()
        self._sleeper = Sleeper(may_write=True)
        self._checkpoint_due_s = 0.0
        self._stopping = threading.Event()
        self._closed = False
        self._pid = process_id()

    # ---- Shards ----

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the consumer of group {self.group!r} is closed")
        if process_id() != self._pid:
            self._begin_in_child()

    def _begin_in_child(self) -> None:
        """Start anew after a fork: what the parent was delivered is the parent's; the group's position is shared."""
        self._pid = process_id()
        self._lock = threading.RLock()
        self._shards = {}
        self._sleeper = Sleeper(may_write=True)
        self._stopping = threading.Event()

    def _shard(self, stream: str) -> GroupShard:
        self._check_open()
        with self._lock:
            shard = self._shards.get(stream)
            if shard is None:
                directory = parse_stream(stream).directory(self._root)
                if not directory.is_dir():
                    raise CometlogError(f"{stream} does not exist: nobody has appended to it yet")
                shard = self._shards[stream] = GroupShard(
                    directory, stream, self.group, lambda: self._reader_of(stream),
                    at_end=stream in self._old_streams, file_mode=self._config.storage.file_mode,
                )  # fmt: skip
            return shard

    def matching(self, streams: Streams, assignment: tuple[int, int] | None = None) -> list[str]:
        """Return the streams on disk that a pattern, a name or several of either stand for, sorted.

        ``assignment`` is (id, total): only shards whose number modulo ``total`` is ``id``. Raises ConfigurationError for one that is
        not ``0 <= id < total``.
        """
        self._check_open()
        patterns = [streams] if isinstance(streams, str) else list(streams)
        found = sorted({name for pattern in patterns for name in self._streams(pattern)})
        if assignment is None:
            return found
        worker, workers = assignment
        if not 0 <= worker < workers:
            raise ConfigurationError(f"assignment is (id, total) with 0 <= id < total, got {assignment!r}")
        return [name for name in found if parse_stream(name).shard % workers == worker]

    # ---- Reading ----

    def read(self, streams: Streams = "*", count: int = 100) -> list[ReadBatch]:
        """Return up to ``count`` new entries of the group as one batch for each stream that has some, without waiting.

        ``streams`` is a name, a wildcard pattern, or several.
        """
        batches = []
        for stream in self.matching(streams):
            if count <= 0:
                break
            batch = self.read_one(stream, count)
            if len(batch):
                batches.append(batch)
                count -= len(batch)
        self.checkpoint_when_due()
        return batches

    def batches(
        self, streams: Streams = "*", batch_size: int = 100, *, wait_s: float = 0.0,
        assignment: tuple[int, int] | None = None,
    ) -> Iterator[ReadBatch]:  # fmt: skip
        """Yield batches of at most ``batch_size`` entries of one stream each, the streams in turn.

        Ends when every stream is read and nothing came for ``wait_s`` seconds, or after ``stop``.
        """
        while not self._stopping.is_set():
            ticket = self._sleeper.ticket()
            delivered = False
            names = self.matching(streams, assignment)
            for stream in names:
                batch = self.read_one(stream, batch_size)
                if len(batch):
                    delivered = True
                    yield batch
            self.checkpoint_when_due()
            if not delivered and not self._wait(names, ticket, wait_s):
                break
        self._stopping.clear()

    def _wait(self, streams: list[str], ticket: int, timeout_s: float) -> bool:
        """Sleep until one of the streams has something new; False when the time is up and nothing is there."""
        until = time.monotonic() + timeout_s

        def is_there() -> bool:
            return any(self.has_new(stream) for stream in streams)

        directories = [parse_stream(stream).directory(self._root) for stream in streams]
        while not is_there():
            left = until - time.monotonic()
            if left <= 0 or self._stopping.is_set():
                return False
            self._sleeper.sleep(directories, ticket, left, is_there)
            ticket = self._sleeper.ticket()
        return True

    def read_one(self, stream: str, count: int) -> ReadBatch:
        """Return up to ``count`` new entries of one stream; none where there is nothing new."""
        return self._shard(stream).read(count)

    def deliver_again(self, stream: str) -> None:
        """Go back to the group's position: what was delivered and not acknowledged comes again."""
        self._shard(stream).rewind()

    def has_new(self, stream: str) -> bool:
        """Return whether a stream has an entry that was not delivered here yet."""
        return self._shard(stream).has_new()

    def process(
        self, handler: Handler, stream: Streams = "*", *, shards: Iterable[int] | None = None, batch_size: int = 100,
        poll_interval: float = 1.0, auto_ack: bool = True, max_retries: int = 3, retry_delay: float = 0.1,
        assignment: tuple[int, int] | None = None, discovery_interval: float = 5.0,
        on_error: OnError | None = None, on_batch: OnBatch | None = None,
    ) -> None:  # fmt: skip
        """Call ``handler(batch)`` for batch after batch until ``stop``; see ``cometlog.processing`` for what each option does."""
        self._check_open()
        Processing(
            self, handler, stream,
            shards=None if shards is None else frozenset(shards), batch_size=batch_size,
            poll_interval_s=poll_interval, auto_ack=auto_ack, max_retries=max_retries, retry_delay_s=retry_delay,
            assignment=assignment, discovery_interval_s=discovery_interval, on_error=on_error, on_batch=on_batch,
            sleeper=self._sleeper, stopping=self._stopping, root=self._root,
        ).run()  # fmt: skip

    def stop(self) -> None:
        """Make ``process`` and ``batches`` return after the batch they are at; any thread or signal handler may call it."""
        self._stopping.set()
        self._sleeper.ring()

    # ---- Acknowledging ----

    def position(self, stream: str) -> GroupPosition:
        """Return the hot handle: ``position(stream).ack(number)`` acknowledges an entry without an allocation."""
        return self._shard(stream).position

    def ack(
        self, what: ReadBatch | Entry | str | Iterable[Entry], numbers: int | Iterable[int] | None = None
    ) -> None:
        """Acknowledge a read batch, an entry, several, or numbers of a stream: ``ack(stream, 7)``, ``ack(stream, range(9))``.

        In any order, and again: what is ahead of its turn counts once all before it is acknowledged. Raises EntryNotFoundError for
        a number beyond the end of the log.
        """
        if isinstance(what, ReadBatch):
            if len(what):
                self.position(what.stream).ack_range(what.start, what.next_entry)
        elif isinstance(what, Entry):
            self.position(what.stream).ack(what.number)
        elif isinstance(what, str):
            self._ack_numbers(what, numbers)
        else:
            for entry in what:
                self.position(entry.stream).ack(entry.number)

    def _ack_numbers(self, stream: str, numbers: int | Iterable[int] | None) -> None:
        position = self.position(stream)
        if isinstance(numbers, int):
            position.ack(numbers)
        elif isinstance(numbers, range) and numbers.step == 1:
            position.ack_range(numbers.start, numbers.stop)
        elif numbers is None:
            raise TypeError(f"ack({stream!r}, ...) needs an entry number, a range or several numbers")
        else:
            for number in numbers:
                position.ack(number)

    def lag(self, stream: str) -> int:
        """Return how many entry numbers of a stream the group has still to acknowledge."""
        return self._shard(stream).lag()

    def reset(self, stream: str, number: int) -> None:
        """Set where the group stands: ``number`` is the next entry to be delivered. Also for a position that is damaged.

        Raises EntryNotFoundError for a number beyond the end. Live consumers of the group go on from there.
        """
        self._check_open()
        reader = self._reader_of(stream)
        GroupShard.check_reset(self.group, stream, number, reader.next_entry())
        file_mode = self._config.storage.file_mode
        offsets = GroupOffsets(parse_stream(stream).directory(self._root), stream, file_mode)
        try:
            offsets.reset(self.group, number, file_mode)
        finally:
            offsets.close()
        with self._lock, suppress(KeyError):
            self._shards[stream].rewind()

    # ---- Ends ----

    def checkpoint_when_due(self) -> None:
        """Write a checkpoint if the last one is ``storage.checkpoint_interval_ms`` ago."""
        if time.monotonic() >= self._checkpoint_due_s:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make the positions of this consumer durable now; reading does it every ``storage.checkpoint_interval_ms`` anyway."""
        self._check_open()
        with self._lock:
            shards = list(self._shards.values())
        for shard in shards:
            shard.checkpoint()
        self._checkpoint_due_s = time.monotonic() + self._config.storage.checkpoint_interval_ms / 1000

    def close(self) -> None:
        """Write a checkpoint and let go. Closing twice is harmless."""
        if self._closed:
            return
        self.stop()
        try:
            self.checkpoint()
        finally:
            self._closed = True
            for shard in self._shards.values():
                shard.close()
            self._sleeper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
