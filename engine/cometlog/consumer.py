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
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Self

from cometlog.config import Config
from cometlog.errors import ClosedError, CometlogError, ConfigurationError, EntryNotFoundError
from cometlog.group_offsets import GroupOffsets
from cometlog.group_shard import GroupShard
from cometlog.kernel import layout
from cometlog.kernel.fork_guard import process_id
from cometlog.kernel.group_position import GroupPosition
from cometlog.names import check_group_name, owns_shard, parse_stream
from cometlog.processing import Handler, OnBatch, OnError, Processing
from cometlog.read_batch import Entry, ReadBatch
from cometlog.reader import ShardReader
from cometlog.sleeper import Sleeper

STARTS = ("first", "next")
DISCOVERY_INTERVAL_S = 1.0
"""How often ``batches`` looks for new streams while nothing comes."""
_WILDCARDS = frozenset("*?[")
Streams = str | Iterable[str]


class Consumer:
    """One process's part in a consumer group. Made by ``Client.consumer``; use it as a context manager, or call ``close``.

    ``start``: where a group begins on a shard that does not know it: at the "first" kept entry, or at the "next" to come when this
    consumer first looks at the shard; a shard that appears later is always begun at its first.
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
        self._looping = threading.RLock()  # held by the thread that processes
        self._closed = False
        self._pid = process_id()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

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
        self._looping = threading.RLock()

    def _shard(self, stream: str) -> GroupShard:
        if self._closed or process_id() != self._pid:
            self._check_open()
        known = self._shards.get(stream)
        if known is not None:
            return known
        with self._lock:
            shard = self._shards.get(stream)
            if shard is None:
                directory = parse_stream(stream).directory(self._root)
                if not directory.is_dir():
                    raise CometlogError(f"{stream} does not exist: nobody has appended to it yet")
                shard = self._shards[stream] = GroupShard(
                    directory, stream, self.group, self._reader_of(stream),
                    at_end=stream in self._old_streams, file_mode=self._config.storage.file_mode,
                )  # fmt: skip
            return shard

    def matching(self, streams: Streams, assignment: tuple[int, int] | None = None) -> list[str]:
        """Return the streams on disk that a pattern, a name or several of either stand for, sorted.

        ``assignment`` is (id, total): only shards whose number modulo ``total`` is ``id``. Raises ConfigurationError for one that is
        not ``0 <= id < total``, StreamNameError for what is neither a pattern nor a legal name.
        """
        self._check_open()
        patterns = [streams] if isinstance(streams, str) else list(streams)
        for pattern in patterns:
            if not isinstance(pattern, str) or not _WILDCARDS & set(pattern):
                parse_stream(pattern)
        found = sorted({name for pattern in patterns for name in self._streams(pattern)})
        if assignment is None:
            return found
        owns_shard(0, assignment)  # refuses a bad one also where nothing is found
        return [name for name in found if owns_shard(parse_stream(name).shard, assignment)]

    # ---- Reading ----

    def read(self, streams: Streams = "*", count: int = 100) -> list[ReadBatch]:
        """Return up to ``count`` new entries of the group as one batch for each stream that has some, without waiting.

        ``streams`` is a name, a wildcard pattern, or several. Raises StreamNameError, EntryNotFoundError where the group stands beyond
        the end, CorruptionError at damage.
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
        """Yield batches of at most ``batch_size`` entries of one stream each, the streams in turn; streams that appear join them.

        Ends when every stream is read and nothing came for ``wait_s`` seconds, or after ``stop``. Raises ConfigurationError for a
        size below 1.
        """
        if batch_size < 1:
            raise ConfigurationError(f"batch_size is at least 1, got {batch_size!r}")
        return self._batches(streams, batch_size, wait_s, assignment)

    def _batches(
        self, streams: Streams, batch_size: int, wait_s: float, assignment: tuple[int, int] | None
    ) -> Iterator[ReadBatch]:
        names = self.matching(streams, assignment)
        until_s: float | None = None
        list_s = 0.0
        while not self._sleeper.stopped:
            delivered = False
            for stream in names:
                batch = self._shard(stream).read(batch_size)
                if batch.runs:
                    delivered, until_s = True, None
                    yield batch
            self.checkpoint_when_due()
            if delivered:
                continue
            now_s = time.monotonic()
            if until_s is None:
                until_s, list_s = now_s + wait_s, now_s
            # Listed again where nothing waits for it: a reader that is woken reads at once.
            if now_s >= min(list_s, until_s):
                list_s = now_s + DISCOVERY_INTERVAL_S
                names, listed = self.matching(streams, assignment), names
                if names != listed:
                    continue
            if now_s >= until_s:
                break
            self._sleep(names, min(list_s, until_s))
        self._sleeper.stopped = False

    def _sleep(self, streams: list[str], until_s: float) -> None:
        """Sleep until one of the streams has something new, or may have, ``stop`` is called, or the time has come."""
        ticket = self._sleeper.ticket()
        if self._sleeper.stopped:  # a stop from here on makes the ticket old
            return
        directories = [parse_stream(stream).directory(self._root) for stream in streams]
        self._sleeper.sleep(
            directories,
            ticket,
            until_s - time.monotonic(),
            lambda: any(self.has_new(stream) for stream in streams),
        )

    def read_one(self, stream: str, count: int) -> ReadBatch:
        """Return up to ``count`` new entries of one stream; none where there is nothing new."""
        return self._shard(stream).read(count)

    def deliver_again(self, stream: str) -> None:
        """Go back to the group's position: what was delivered and not acknowledged comes again."""
        self._shard(stream).rewind()

    def count(self, stream: str, field: int) -> None:
        """Raise a counter in the statistics of a stream's shard; nothing once the consumer is closed."""
        if not self.closed:
            self._shard(stream).count(field)

    def has_new(self, stream: str) -> bool:
        """Return whether a stream has an entry that was not delivered here yet."""
        return self._shard(stream).has_new()

    def process(
        self, handler: Handler, stream: Streams = "*", *, shards: Iterable[int] | None = None, batch_size: int = 100,
        poll_interval: float = 1.0, auto_ack: bool = True, max_retries: int = 3, retry_delay: float = 0.1,
        assignment: tuple[int, int] | None = None, discovery_interval: float = 5.0,
        on_error: OnError | None = None, on_batch: OnBatch | None = None,
    ) -> None:  # fmt: skip
        """Call ``handler(batch)`` for batch after batch until ``stop``; see ``cometlog.processing`` for what each option does.

        Raises ProcessingError where a batch failed too often, ConfigurationError for an option out of range, CometlogError where
        another thread processes with this consumer: each takes a consumer of its own.
        """
        self._check_open()
        processing = Processing(
            self, handler, stream,
            shards=None if shards is None else frozenset(shards), batch_size=batch_size,
            poll_interval_s=poll_interval, auto_ack=auto_ack, max_retries=max_retries, retry_delay_s=retry_delay,
            assignment=assignment, discovery_interval_s=discovery_interval, on_error=on_error, on_batch=on_batch,
            sleeper=self._sleeper, root=self._root,
        )  # fmt: skip
        looping = self._looping
        if not looping.acquire(blocking=False):
            raise CometlogError(
                f"another thread processes with this consumer of group {self.group!r}; make one for each thread"
            )
        try:
            processing.run()
        finally:
            looping.release()

    def stop(self) -> None:
        """Make ``process`` and ``batches`` return after the batch they are at; any thread or signal handler may call it."""
        self._sleeper.stop()

    # ---- Acknowledging ----

    def position(self, stream: str) -> GroupPosition:
        """Return the hot handle: ``position(stream).ack(number)`` acknowledges an entry without an allocation."""
        return self._shard(stream).position

    def ack(
        self, what: ReadBatch | Entry | str | Iterable[Entry], numbers: int | Iterable[int] | None = None
    ) -> None:
        """Acknowledge a read batch, an entry, several, or numbers of a stream: ``ack(stream, 7)``, ``ack(stream, range(9))``.

        In any order, and again: what is ahead of its turn counts once all before it is acknowledged. Raises EntryNotFoundError for
        a number that is negative or beyond the end of the log, TypeError for what is no number.
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
        if numbers is None:
            raise TypeError(f"ack({stream!r}, ...) needs an entry number, a range or several numbers")
        if isinstance(numbers, range) and numbers.step == 1:
            if numbers:
                _check_number(stream, numbers[-1])
                position.ack_range(_check_number(stream, numbers.start), numbers.stop)
        elif isinstance(numbers, Iterable):
            for number in numbers:
                position.ack(_check_number(stream, number))
        else:
            position.ack(_check_number(stream, numbers))

    def lag(self, stream: str) -> int:
        """Return how many entry numbers of a stream the group has still to acknowledge.

        Raises CometlogError where nobody wrote to it yet.
        """
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
        """Write a checkpoint and let go. Closing twice is harmless.

        Stops ``process`` in another thread and waits until it has finished the batch that it is at.
        """
        if self._closed:
            return
        self._check_open()
        self.stop()
        with self._looping:
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


def _check_number(stream: str, number: object) -> int:
    """Return an entry number; raises EntryNotFoundError for one that no entry can have, TypeError for what is none."""
    found = index(number)  # type: ignore[arg-type]
    if not 0 <= found <= layout.MAX_ENTRY_NUMBER:
        raise EntryNotFoundError(
            f"entry {found} of {stream} cannot be acknowledged: numbers are 0 to {layout.MAX_ENTRY_NUMBER}"
        )
    return found
