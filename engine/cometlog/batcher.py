"""Collects single entries from any number of threads and appends them in batches, so that ``add`` returns at once.

An entry is safe when its batch was appended: ``flush`` and ``close`` say so by returning. Whatever ends the process in between takes
at most what was added in the last ``max_age_s``; a normal exit loses nothing.

Thread safety: ``_lock`` guards the queue and its counts; one daemon thread appends. Invariants: entries with the same key are appended
in the order they were added; an entry leaves the queue only after its append returned; the queue never holds more than
``capacity_entries``.
"""

import atexit
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from cometlog.client import Client
from cometlog.errors import (
    BatcherError,
    BatcherFullError,
    BatchTooLargeError,
    ClosedError,
    CometlogError,
    ConfigurationError,
)  # fmt: skip
from cometlog.forked import attach_lock
from cometlog.kernel.batch import as_bytes
from cometlog.kernel.fork_guard import process_id
from cometlog.names import pick_shard, pick_shard_stream
from cometlog.rotation import batch_bytes_max_for

Headers = Mapping[str, Any]
Encoder = Callable[[Any, Headers | None], bytes]
WhenFull = Literal["block", "raise", "drop"]
RETRY_S_MIN = 0.01
RETRY_S_MAX = 1.0


class _Added(NamedTuple):
    shard: int
    data: bytes


class Batcher:
    """Appends to the shards of ``namespace:version``.

    ``shards``: the key picks one of so many; entries without a key go round. ``encoder(data, headers)`` makes the entry's bytes, in
    the calling thread; without one ``data`` is bytes and headers are refused. A batch is appended when ``max_entries`` or
    ``max_bytes`` wait, or the oldest is ``max_age_s`` old. When ``capacity_entries`` wait, ``when_full`` decides: "block" the caller,
    "raise" BatcherFullError, or "drop" the new entry and count it in ``dropped``. ``on_error(error)`` is told of each append that
    failed; it is tried again until it succeeds or the batcher is closed.
    """

    def __init__(
        self, client: Client, namespace: str, version: str, *, shards: int = 1, encoder: Encoder | None = None,
        max_entries: int = 1000, max_bytes: int = 1 << 20, max_age_s: float = 0.01,
        capacity_entries: int = 100_000, when_full: WhenFull = "block",
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:  # fmt: skip
        for name, value in (
            ("max_entries", max_entries),
            ("max_bytes", max_bytes),
            ("capacity_entries", capacity_entries),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} is a whole number of at least 1, got {value!r}")
        if when_full not in ("block", "raise", "drop"):
            raise ConfigurationError(f"when_full is 'block', 'raise' or 'drop', got {when_full!r}")
        if max_age_s < 0:
            raise ConfigurationError(f"max_age_s is at least 0, got {max_age_s!r}")
        pick_shard_stream("", namespace, version, shards)
        self._streams = [f"{namespace}:{version}:shard:{shard:04d}" for shard in range(shards)]
        self._client = client
        # A batch stops at the entry that takes it past `max_bytes`, so it must still fit with the largest that `add` lets in.
        limit = batch_bytes_max_for(client.config.storage.segment_size_bytes) - 4 * (max_entries + 1)
        if not 1 <= max_bytes < limit:
            raise ConfigurationError(f"max_bytes is 1 to {limit - 1} with these segments, got {max_bytes}")
        self._entry_bytes_max = limit - max_bytes
        self._encoder = encoder
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._capacity_entries = capacity_entries
        self._when_full = when_full
        self._on_error = on_error
        self._turn = itertools.count()
        self.dropped = 0
        self._begin()
        atexit.register(_close_at_exit, weakref.ref(self))

    def _begin(self) -> None:
        """Start with an empty queue and a thread of this process's own; what a parent had queued is the parent's."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue: list[_Added] = []
        self._queued_bytes = 0
        self._in_flight = 0
        self._added = self._appended = 0
        self._oldest_s = 0.0
        self._flush_wanted = False
        self._closing = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="cometlog-batcher", daemon=True)
        self._thread.start()
        self._pid = process_id()  # last: in a child, another thread waits until the queue is there

    def _begin_in_child(self) -> None:
        if process_id() != self._pid:
            with attach_lock():
                if process_id() != self._pid:
                    self._begin()

    def add(self, data: Any, key: str | bytes | None = None, headers: Headers | None = None) -> bool:
        """Queue one entry and return at once; False where it was dropped because the queue is full.

        Raises ClosedError, BatcherFullError, and what the encoder raises.
        """
        self._begin_in_child()
        if self._encoder is not None:
            data = self._encoder(data, headers)
        elif headers is not None:
            raise ConfigurationError("headers need an encoder: entries are opaque bytes")
        if type(data) is not bytes:
            data = as_bytes(data, 0)
        if len(data) > self._entry_bytes_max:
            raise BatchTooLargeError(
                f"an entry has at most {self._entry_bytes_max} bytes here, got {len(data)}"
            )
        shards = len(self._streams)
        if shards == 1:
            shard = 0
        else:
            shard = next(self._turn) % shards if key is None else pick_shard(key, shards)
        with self._lock:
            if self._closing:
                raise ClosedError("the batcher is closed")
            waiting = len(self._queue) + self._in_flight
            if waiting >= self._capacity_entries and not self._make_room():
                return False
            self._queue.append(_Added(shard, data))
            self._queued_bytes += len(data)
            self._added += 1
            queued = len(self._queue)
            if queued == 1:
                self._oldest_s = time.monotonic()
                self._changed.notify_all()
            elif queued == self._max_entries or self._queued_bytes >= self._max_bytes:
                self._changed.notify_all()
        return True

    def _make_room(self) -> bool:
        """Do what ``when_full`` says; the lock is held. True once there is room."""
        if self._when_full == "raise":
            raise BatcherFullError(
                f"{self._capacity_entries} entries wait to be appended, the most that may (capacity_entries); "
                f"the last append failed: {self._error!r}"
            )
        if self._when_full == "drop":
            self.dropped += 1
            return False
        while len(self._queue) + self._in_flight >= self._capacity_entries:
            self._changed.wait()
            if self._closing:
                raise ClosedError("the batcher was closed while an entry waited for room")
        return True

    # ---- The appending thread ----

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._append(batch)

    def _next_batch(self) -> list[_Added] | None:
        """Wait for a batch that is due and take it; None when the batcher is closed and empty."""
        with self._lock:
            while not self._is_due():
                if self._closing:
                    return None
                wait_s = self._oldest_s + self._max_age_s - time.monotonic() if self._queue else None
                self._changed.wait(wait_s)
            count, taken_bytes = 0, 0
            for item in itertools.islice(self._queue, self._max_entries):
                count += 1
                taken_bytes += len(item.data)
                if taken_bytes >= self._max_bytes:
                    break
            taken = self._queue[:count]
            del self._queue[:count]
            self._queued_bytes -= taken_bytes
            self._oldest_s = time.monotonic()
            self._in_flight = len(taken)
            return taken

    def _is_due(self) -> bool:
        if not self._queue:
            self._flush_wanted = False
            return False
        return (
            self._flush_wanted
            or self._closing
            or len(self._queue) >= self._max_entries
            or self._queued_bytes >= self._max_bytes
            or time.monotonic() >= self._oldest_s + self._max_age_s
        )

    def _append(self, batch: list[_Added]) -> None:
        by_shard: dict[int, list[bytes]] = {}
        for item in batch:
            by_shard.setdefault(item.shard, []).append(item.data)
        for shard, entries in by_shard.items():
            if self._append_until_done(self._streams[shard], entries):
                with self._lock:
                    self._in_flight -= len(entries)
                    self._appended += len(entries)
                    self._changed.notify_all()

    def _append_until_done(self, stream: str, entries: list[bytes]) -> bool:
        """Append, trying again after an error; False where the batcher is being closed and it still fails."""
        delay_s = RETRY_S_MIN
        while True:
            try:
                self._client.append(stream, entries)
            except (CometlogError, OSError) as error:
                with self._lock:
                    self._error = error
                    self._changed.notify_all()
                if self._on_error is not None:
                    with suppress(Exception):
                        self._on_error(error)
                with self._lock:
                    if self._closing:
                        return False
                    self._changed.wait(delay_s)
                delay_s = min(2 * delay_s, RETRY_S_MAX)
            else:
                self._error = None
                return True

    # ---- Ends ----

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once everything added before is appended.

        Raises BatcherError naming what an append failed with, or that the time is up; the entries stay queued.
        """
        self._begin_in_child()
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            wanted = self._added
            self._error = None
            while self._appended < wanted:
                self._flush_wanted = True
                self._changed.notify_all()
                left_s = None if until is None else until - time.monotonic()
                if self._error is not None:
                    raise BatcherError(
                        f"{wanted - self._appended} entries are not appended yet: {self._error}"
                    ) from self._error
                if (left_s is not None and left_s <= 0) or not self._thread.is_alive():
                    raise BatcherError(f"{wanted - self._appended} entries are not appended yet")
                self._changed.wait(left_s)

    def close(self) -> None:
        """Append what is queued and end. Raises BatcherError with the number of entries that could not be appended."""
        if process_id() != self._pid:
            return
        with self._lock:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        lost = self._added - self._appended
        if lost:
            self._appended = self._added
            raise BatcherError(f"{lost} entries could not be appended: {self._error}") from self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close_at_exit(reference: "weakref.ref[Batcher]") -> None:
    batcher = reference()
    if batcher is not None:
        batcher.close()
