"""The client: opens a log, hands out writers and reads, leaves everything in order.

Thread safety: any thread may use a client; its tables are guarded by ``_lock``, which is not held while entries are appended.
Invariants: a stream has at most one write path object per client and process; names are validated before a path is built.
"""

import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cometlog.config import Config
from cometlog.consumer import Consumer
from cometlog.dictionaries import store_dictionary
from cometlog.errors import (
    ClosedError,
    CometlogError,
    ConfigurationError,
    ReadOnlyError,
    WritePathConflictError,
)
from cometlog.files import check_directories
from cometlog.forked import attach_lock
from cometlog.health import Health, examine
from cometlog.kernel.dispatch import Dispatch
from cometlog.kernel.fork_guard import process_id
from cometlog.log_root import prepare_root
from cometlog.names import compile_pattern, parse_stream
from cometlog.read_batch import Entry, ReadBatch
from cometlog.reader import ShardReader
from cometlog.retention import RemovedSegment
from cometlog.retention_thread import RetentionThread, share_excess
from cometlog.slo import SloRow, objectives
from cometlog.statistics import ShardStatistics, StalledWriter, find_stalled_writers, read_statistics
from cometlog.write_paths import WRITE_PATHS
from cometlog.write_paths.base import WritePath, Writer


def open(  # noqa: A001 - the name that DESIGN and every example use
    path: str | os.PathLike[str],
    config: Config | None = None,
    *,
    write_path: str | None = None,
    read_only: bool = False,
) -> "Client":
    """Open the log in a directory, creating it where it is missing, and return its client.

    ``write_path`` is "mmap" (default), "buffered", "sync", "async" or "uring". ``read_only`` takes no lock and writes nothing.
    Raises ConfigurationError, NotALogError, NewerFormatError, ReadOnlyError (platform), OSError (directory not writable).
    """
    return Client(path, config, write_path=write_path, read_only=read_only)


class Client(Dispatch):
    """A log directory as one process sees it. Use it as a context manager, or call ``close``."""

    def __init__(
        self, path: str | os.PathLike[str], config: Config | None = None, *, write_path: str | None = None,
        read_only: bool = False,
    ) -> None:  # fmt: skip
        if config is not None and not isinstance(config, Config):
            raise ConfigurationError(f"config is a cometlog.Config, got {config!r}")
        name = "mmap" if write_path is None else write_path
        if not isinstance(name, str) or name not in WRITE_PATHS:
            raise ConfigurationError(f"write_path is one of {', '.join(WRITE_PATHS)}, got {write_path!r}")
        if read_only and write_path is not None:
            raise ConfigurationError(f"read_only and write_path={write_path!r} exclude each other")
        if not read_only and sys.platform != "linux":
            raise ReadOnlyError(f"writing needs Linux, this is {sys.platform}; open with read_only=True")
        self.path = Path(path)
        self.config = config or Config.default()
        self.read_only = read_only
        self.write_path = None if read_only else name
        self._lock = threading.RLock()
        self._writers: dict[str, WritePath] = {}
        self._readers: dict[str, ShardReader] = {}
        self._consumers: list[Consumer] = []
        self._retaining = RetentionThread(self.config.retention, self._retain_written)
        self._closed = False
        self._pid = process_id()
        prepare_root(self.path, self.config.storage, read_only=read_only)

    def _table_lock(self) -> threading.RLock:
        """Return the lock of the tables; a new one in a forked child, whose parent's threads may have held the old, or a reader's."""
        if process_id() != self._pid:
            with attach_lock():
                if process_id() != self._pid:
                    self._lock = threading.RLock()
                    self._readers = {}
                    self._pid = process_id()
        return self._lock

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the client of {self.path} is closed")

    def writer(self, stream: str) -> Writer:
        """Return the hot handle of a stream; attaches to its shard on first use.

        Raises StreamNameError, ReadOnlyError, ShardBusyError, WritePathConflictError, OSError.
        """
        return self._write_path(stream).writer

    def _write_path(self, stream: str) -> WritePath:
        self._check_open()
        if self.read_only:
            raise ReadOnlyError(
                f"the client of {self.path} was opened read-only; it cannot append to {stream!r}"
            )
        name = parse_stream(stream)
        with self._table_lock():
            self._check_open()
            path = self._writers.get(stream)
            if path is None:
                path = WRITE_PATHS[self.write_path or ""](self.path, name, self.config)
                self._writers[stream] = path
                self._retaining.begin(self._pid)
                self.remember_writer(stream, path.writer)
            return path

    def _reader(self, stream: str) -> ShardReader:
        self._check_open()
        known = self._readers.get(stream) if isinstance(stream, str) else None
        if known is not None and self._pid == process_id():
            return known
        name = parse_stream(stream)
        with self._table_lock():
            reader = self._readers.get(stream)
            if reader is None:
                check_directories(self.path, name.directory(self.path))
                reader = ShardReader(
                    name.directory(self.path),
                    stream,
                    repair=self._repair_for(stream),
                    index_entries_max=self.config.indexing.max_index_entries,
                )
                self._readers[stream] = reader
            return reader

    def _repair_for(self, stream: str) -> Any:
        """Return what a reader calls at a word that stays unresolved: nothing for a client that may not write."""
        if self.read_only:
            return None

        def repair(segment_number: int, unit: int) -> None:
            self._write_path(stream).repair(segment_number, unit)

        return repair

    def read(self, stream: str, start: int = 0, count: int = 100) -> ReadBatch:
        """Return up to ``count`` committed entries from entry number ``start`` on; 0 is the first that is kept.

        Raises EntryNotFoundError for a start that retention removed or that lies beyond the next entry, CorruptionError at damage.
        """
        return self._reader(stream).read(start, count)

    def scan(self, stream: str, start: int | None = None, stop: int | None = None) -> Iterator[Entry]:
        """Iterate over the entries ``start`` to ``stop - 1`` that are committed now, in order. Raises what ``read`` raises."""
        return self._reader(stream).scan(start, stop)

    def recent(self, stream: str, count: int) -> ReadBatch:
        """Return the last ``count`` entries, or all where there are fewer. Raises CorruptionError at damage."""
        return self._reader(stream).recent(count)

    def entry_at_time(self, stream: str, time_ns: int) -> int:
        """Return the number of the first entry with a timestamp of ``time_ns`` (ns since 1970) or later, else the next to come.

        Exact where the clock was never set back by more than a second. Raises TypeError for a time that is no whole number.
        """
        return self._reader(stream).entry_at_time(time_ns)

    def entry_count(self, stream: str) -> int:
        """Return how many entries can be read; numbers burnt by appends that died do not count."""
        return self._reader(stream).entry_count()

    def first_entry(self, stream: str) -> int:
        """Return the number of the first entry that is kept, or the next one where there is none."""
        return self._reader(stream).first_entry()

    def next_entry(self, stream: str) -> int:
        """Return the number that the next entry gets."""
        return self._reader(stream).next_entry()

    def streams(self, pattern: str = "*") -> list[str]:
        """Return the names of the streams on disk that match a wildcard pattern, sorted."""
        self._check_open()
        matches = compile_pattern(pattern).fullmatch
        found = []
        for directory in self.path.glob("*/*/[0-9][0-9][0-9][0-9]"):
            namespace, version, shard = directory.relative_to(self.path).parts
            with suppress(CometlogError):
                name = str(parse_stream(f"{namespace}:{version}:shard:{shard}"))
                if matches(name) and directory.is_dir():
                    found.append(name)
        return sorted(found)

    def sync(self, stream: str | None = None) -> None:
        """Make every entry appended so far durable: to one stream, or to all this client has written to.

        Raises SyncError where the file system fails, StalledWriterError where a live writer stands still in the middle of an append.
        """
        self._check_open()
        if stream is not None:
            self._write_path(stream).sync()
            return
        with self._table_lock():
            paths = list(self._writers.values())
        for path in paths:
            path.sync()

    def tail(
        self,
        streams: str = "*",
        *,
        start: int | str = "next",
        batch_size: int = 1000,
        discovery_interval: float = 1.0,
    ) -> AsyncIterator[ReadBatch]:
        """Return an asynchronous iterator over new entries of the matching streams, batch by batch, for ever.

        ``start``: "next", "first", or an entry number for a single stream. Leaves consumer groups alone. See ``cometlog.tailing``.
        """
        from cometlog.tailing import Tail  # noqa: PLC0415 - asyncio is imported by those who use it

        self._check_open()
        return Tail(
            self.path, lambda: self.streams(streams), self._reader,
            start=start, batch_size=batch_size, discovery_interval_s=discovery_interval,
            may_write=not self.read_only,
        ).batches()  # fmt: skip

    def consumer(self, group: str, *, start: str = "first") -> Consumer:
        """Return this process's part in a consumer group; ``start`` is where a new group begins, "first" or "next".

        Raises GroupNameError, ConfigurationError, ReadOnlyError.
        """
        self._check_open()
        if self.read_only:
            raise ReadOnlyError(
                f"the client of {self.path} was opened read-only; group {group!r} could acknowledge nothing"
            )
        consumer = Consumer(group, self.path, self.config, self._reader, self.streams, start=start)
        with self._table_lock():
            self._check_open()
            self._consumers.append(consumer)
        return consumer

    def train_dictionary(self, stream: str, *, samples: int = 10_000, size_bytes: int = 64 << 10) -> int:
        """Train a compression dictionary on the last ``samples`` entries of a stream, store it with the shard, return its id.

        Writers take it up when they bind their next segment; frames name the dictionary they need, and old ones stay. Raises
        DictionaryError where there is too little to learn from.
        """
        from cometlog.compression import train  # noqa: PLC0415 - zstandard is imported by those who use it

        self._check_open()
        if self.read_only:
            raise ReadOnlyError(
                f"the client of {self.path} was opened read-only; it cannot store a dictionary"
            )
        trained = train(self.recent(stream, samples).payloads(), size_bytes, self.config.compression.level)
        return store_dictionary(
            parse_stream(stream).directory(self.path), trained, self.config.storage.file_mode
        )

    def retain(self, pattern: str = "*") -> list[RemovedSegment]:
        """Remove the oldest segments of the matching streams as ``config.retention`` says, and return what went.

        A stream that live processes write by another path, or that another process retains at the moment, is left to them. Raises
        ReadOnlyError, SyncError.
        """
        return self._retain(self.streams(pattern))

    def _retain_written(self) -> list[RemovedSegment]:
        with self._table_lock():
            written = list(self._writers)
        return self._retain(written)

    def _retain(self, streams: list[str]) -> list[RemovedSegment]:
        limits = self.config.retention
        removed: list[RemovedSegment] = []

        def excess() -> dict[str, int]:
            return share_excess(self.path, self.streams(), limits.max_total_bytes)

        shares = excess()
        for stream in streams:
            with suppress(WritePathConflictError):
                again = (lambda name=stream: excess().get(name, 0)) if stream in shares else None
                removed += self._write_path(stream).retain(limits, again)
        return removed

    def stats(self) -> dict[str, ShardStatistics]:
        """Return the statistics of every stream on disk, summed over all processes that wrote it since its control file was made."""
        return {name: read_statistics(directory) for name, directory in self._shards().items()}

    def _shards(self) -> dict[str, Path]:
        return {name: parse_stream(name).directory(self.path) for name in self.streams()}

    def stalled_writers(self, look_s: float = 0.1) -> list[StalledWriter]:
        """Return the writers, of all streams and processes, whose operation did not move for ``look_s`` seconds."""
        return find_stalled_writers(self._shards(), look_s)

    def health(self, window_s: float = 1.0) -> Health:
        """Look at the log, whoever writes it, for ``window_s`` seconds, and name what limits it; see ``cometlog.health``."""
        return examine(self.path, self._shards(), window_s, self.config.storage.segment_size_bytes)

    def slo(self) -> list[SloRow]:
        """Return the guide's seven service levels over all streams, judged by what the log has counted."""
        return objectives(self._shards(), self.next_entry)

    def close(self) -> None:
        """Leave every shard; the last process to leave one syncs it. Closing twice is harmless.

        A consumer that is processing in another thread finishes the batch it is at first.
        """
        # First: the thread of retention and the loops of consumers may be waiting for the lock of the tables.
        self._retaining.end(process_id())
        errors = _close_all(self._consumers)
        with self._table_lock():
            if self._closed:
                return
            self._closed = True
            self.forget_writers()
            errors += _close_all([*self._consumers, *self._writers.values(), *self._readers.values()])
        if errors:
            raise errors[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as path and configuration: another process gets a client of its own."""
        return _reopen, (self.path, self.config, self.write_path, self.read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<cometlog.Client {str(self.path)!r} write_path={self.write_path!r}>"


def _close_all(resources: Sequence[Consumer | WritePath | ShardReader]) -> list[Exception]:
    """Close each, whatever the others raise; return what they raised."""
    errors: list[Exception] = []
    for resource in list(resources):
        try:
            resource.close()
        except (CometlogError, OSError) as error:
            errors.append(error)
    return errors


def _reopen(path: Path, config: Config, write_path: str | None, read_only: bool) -> Client:
    return Client(path, config, write_path=write_path, read_only=read_only)
