"""``async for batch in client.tail(...)``: new entries as an asynchronous iterator, without a thread for each reader.

One thread for each event loop sleeps on the futexes of every shard that some task waits for; it ends when nobody waits. A task that
is cancelled leaves nothing behind but a registration that it takes back.

Thread safety: ``_Watch`` is shared between the loop's thread and its own, by ``_lock``; futures are completed only in the loop.
Invariant (no append is missed): a task registers after it found nothing, and the watch asks ``has_new`` once the flags are set.
"""

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from cometlog.errors import CometlogError, ConfigurationError, EntryNotFoundError
from cometlog.names import parse_stream
from cometlog.read_batch import ReadBatch
from cometlog.reader import ShardReader
from cometlog.sleeper import Sleeper

IDLE_S = 1.0
SLEEP_S_MAX = 1.0


@dataclass(eq=False)
class _Registration:
    directories: list[Path]
    has_new: Callable[[], bool]
    future: asyncio.Future[None]


class _Watch:
    """The one thread of an event loop that waits for appends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, may_write: bool) -> None:
        self._loop = loop
        self._lock = threading.Condition()
        self._registered: list[_Registration] = []
        self._sleeper = Sleeper(may_write=may_write)
        self._running = False

    def register(self, directories: list[Path], has_new: Callable[[], bool]) -> _Registration:
        registration = _Registration(directories, has_new, self._loop.create_future())
        with self._lock:
            self._registered.append(registration)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="cometlog-tail", daemon=True).start()
            self._lock.notify()
        self._sleeper.ring()
        return registration

    def withdraw(self, registration: _Registration) -> None:
        with self._lock:
            if registration in self._registered:
                self._registered.remove(registration)

    def _run(self) -> None:
        while waiting := self._wait_for_somebody():
            ticket = self._sleeper.ticket()
            directories = list(dict.fromkeys(path for item in waiting for path in item.directories))
            self._sleeper.sleep(
                directories, ticket, SLEEP_S_MAX, lambda: any(_is_due(item) for item in waiting)
            )
            due = [item for item in waiting if _is_due(item)]
            for item in due:
                self.withdraw(item)
            try:
                self._loop.call_soon_threadsafe(_complete, due)
            except RuntimeError:  # the loop is closed
                break
        self._sleeper.close()

    def _wait_for_somebody(self) -> list[_Registration]:
        with self._lock:
            if not self._registered:
                self._lock.wait(IDLE_S)
            if not self._registered:
                self._running = False
            return list(self._registered)


def _is_due(registration: _Registration) -> bool:
    """Return whether a task should look again; an error is for the task to meet."""
    try:
        return registration.has_new()
    except (CometlogError, OSError):
        return True


def _complete(due: list[_Registration]) -> None:
    for item in due:
        if not item.future.done():
            item.future.set_result(None)


_watches: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch]" = weakref.WeakKeyDictionary()


def _watch_of(loop: asyncio.AbstractEventLoop, *, may_write: bool) -> _Watch:
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = _Watch(loop, may_write=may_write)
    return watch


class Tail:
    """Where a tail stands in each stream, and what it reads next.

    ``start``: "next" (only entries appended from now on), "first" (everything kept), or an entry number for a single stream. A shard
    that appears later is read from its first entry.
    """

    def __init__(
        self, root: Path, streams: Callable[[], list[str]], reader_of: Callable[[str], ShardReader], *,
        start: int | str, batch_size: int, discovery_interval_s: float, may_write: bool,
    ) -> None:  # fmt: skip
        if not isinstance(start, int) and start not in ("next", "first"):
            raise ConfigurationError(f"start is 'next', 'first' or an entry number, got {start!r}")
        if batch_size < 1:
            raise ConfigurationError(f"batch_size is at least 1, got {batch_size}")
        if not isinstance(discovery_interval_s, int | float) or discovery_interval_s <= 0:
            raise ConfigurationError(
                f"discovery_interval is seconds, more than 0, got {discovery_interval_s!r}"
            )
        self._root = root
        self._streams = streams
        self._reader_of = reader_of
        self._batch_size = batch_size
        self._discovery_interval_s = discovery_interval_s
        self._may_write = may_write
        self._following: dict[str, int] = {}
        for name in streams():
            self._following[name] = reader_of(name).next_entry() if start == "next" else 0
        if isinstance(start, int):
            if len(self._following) != 1:
                raise ConfigurationError(
                    f"an entry number to start from needs one stream, {len(self._following)} match"
                )
            self._following = dict.fromkeys(self._following, start)

    def _read(self, stream: str) -> ReadBatch:
        reader = self._reader_of(stream)
        start = self._following[stream]
        try:
            batch = reader.read(start, self._batch_size)
        except EntryNotFoundError:
            first = reader.first_entry()
            if start >= first:
                raise
            batch = reader.read(first, self._batch_size)
        self._following[stream] = batch.next_entry
        return batch

    def _has_new(self) -> bool:
        # A copy: this runs in the watch's thread, and the loop may be adding a stream.
        following = list(self._following.items())
        return any(len(self._reader_of(name).read(start, 1)) for name, start in following)

    async def batches(self) -> AsyncIterator[ReadBatch]:
        """Yield batch after batch, for ever; cancel the task, or leave the loop, to end."""
        loop = asyncio.get_running_loop()
        watch = _watch_of(loop, may_write=self._may_write)
        discovery_due_s = loop.time()
        while True:
            if loop.time() >= discovery_due_s:
                for stream in self._streams():
                    self._following.setdefault(stream, 0)
                discovery_due_s = loop.time() + self._discovery_interval_s
            delivered = False
            for stream in list(self._following):
                batch = self._read(stream)
                if len(batch):
                    delivered = True
                    yield batch
            if delivered:
                continue
            directories = [parse_stream(stream).directory(self._root) for stream in self._following]
            registration = watch.register(directories, self._has_new)
            try:
                await asyncio.wait([registration.future], timeout=max(0.0, discovery_due_s - loop.time()))
            finally:
                watch.withdraw(registration)
                registration.future.cancel()
