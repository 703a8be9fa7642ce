"""The client: opens a log, hands out writers and reads, leaves everything in order.

Thread safety: any thread may use a client; its tables are guarded by ``_lock``, which is not held while entries are appended.
Invariants: a stream has at most one write path object per client and process; names are validated before a path is built.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cometlog.config import Config, RetentionConfig
from cometlog.errors import (
    ClosedError,
    CometlogError,
    ConfigurationError,
    NewerFormatError,
    NotALogError,
    ReadOnlyError,
)
from cometlog.kernel import layout
from cometlog.kernel.dispatch import Dispatch
from cometlog.kernel.fork_guard import process_id
from cometlog.names import compile_pattern, parse_stream
from cometlog.read_batch import Entry, ReadBatch
from cometlog.reader import ShardReader
from cometlog.rotation import sync_ancestors, sync_directory
from cometlog.segment import open_checked
from cometlog.statistics import ShardStatistics, read_statistics
from cometlog.write_paths import WRITE_PATHS
from cometlog.write_paths.base import WritePath, Writer

FORMAT_FILE = "FORMAT"
_MARKER_BYTES_MAX = 100


def open(  # noqa: A001 - the name that DESIGN and every example use
    path: str | os.PathLike[str],
    config: Config | None = None,
    *,
    write_path: str | None = None,
    read_only: bool = False,
) -> "Client":
    """Open the log in a directory, creating it where it is missing, and return its client.

    ``write_path`` is "mmap" (default), "buffered", "sync" or "async". ``read_only`` takes no lock and writes nothing.
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
        if config is not None and config.retention != RetentionConfig():
            raise ConfigurationError(
                f"this version applies no retention; leave config.retention at its defaults, got {config.retention}"
            )
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
        self._closed = False
        self._pid = process_id()
        self._prepare_root()

    def _prepare_root(self) -> None:
        marker = self.path / FORMAT_FILE
        if not self.read_only:
            with suppress(FileExistsError):
                self.path.mkdir(self.config.storage.directory_mode, parents=True, exist_ok=True)
        if not self.path.is_dir():
            raise NotALogError(f"{self.path} is not a directory")
        line = f"cometlog {layout.FORMAT_VERSION}\n"
        try:
            with os.fdopen(open_checked(marker, os.O_RDONLY), "rb") as file:
                text = file.read(_MARKER_BYTES_MAX).decode("ascii", "replace")
        except FileNotFoundError:
            if self.read_only:
                raise NotALogError(f"{self.path} holds no log: {marker} is missing") from None
            self._write_marker(marker, line)
            return
        word, _, version = text.strip().partition(" ")
        if word != "cometlog" or not version.isdecimal():
            raise NotALogError(f"{marker} says {text[:40]!r}, not {line!r}")
        if int(version) > layout.FORMAT_VERSION:
            raise NewerFormatError(
                f"{marker} says format {version}; this engine reads up to {layout.FORMAT_VERSION}"
            )

    def _write_marker(self, marker: Path, line: str) -> None:
        """Put the marker in place, durable before anything that a sync promises to keep lies beside it.

        Where it is, the names that lead to the log are durable: who made those may have been killed before it could sync them.
        """
        temporary = marker.with_name(f"{FORMAT_FILE}.tmp.{os.getpid()}.{os.urandom(4).hex()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, self.config.storage.file_mode)
        try:
            with os.fdopen(fd, "w", encoding="ascii") as file:
                file.write(line)
                file.flush()
                os.fsync(fd)
            sync_ancestors(self.path)
            temporary.rename(marker)
        except BaseException:
            temporary.unlink()
            raise
        sync_directory(self.path)

    def _table_lock(self) -> threading.RLock:
        """Return the lock of the tables; a new one in a forked child, whose parent's threads may have held the old."""
        if process_id() != self._pid:
            self._lock = threading.RLock()
            self._pid = process_id()
        return self._lock

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the client of {self.path} is closed")

    def writer(self, stream: str) -> Writer:
        """Return the hot handle of a stream; attaches to its shard on first use."""
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
                self.remember_writer(stream, path.writer)
            return path

    def _reader(self, stream: str) -> ShardReader:
        self._check_open()
        name = parse_stream(stream)
        with self._table_lock():
            reader = self._readers.get(stream)
            if reader is None:
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
        """Return up to ``count`` committed entries from entry number ``start`` on; 0 is the first that is kept."""
        return self._reader(stream).read(start, count)

    def scan(self, stream: str, start: int | None = None, stop: int | None = None) -> Iterator[Entry]:
        """Iterate over the entries ``start`` to ``stop - 1`` that are committed now, in order."""
        return self._reader(stream).scan(start, stop)

    def recent(self, stream: str, count: int) -> ReadBatch:
        """Return the last ``count`` entries."""
        return self._reader(stream).recent(count)

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
        """Make every entry appended so far durable: to one stream, or to all this client has written to."""
        self._check_open()
        if stream is not None:
            self._write_path(stream).sync()
            return
        with self._table_lock():
            paths = list(self._writers.values())
        for path in paths:
            path.sync()

    def stats(self) -> dict[str, ShardStatistics]:
        """Return the statistics of every stream on disk, summed over all processes that ever wrote it on this boot."""
        self._check_open()
        return {name: read_statistics(parse_stream(name).directory(self.path)) for name in self.streams()}

    def close(self) -> None:
        """Leave every shard; the last process to leave one syncs it. Closing twice is harmless."""
        with self._table_lock():
            if self._closed:
                return
            self._closed = True
            self.forget_writers()
            errors = []
            resources: list[WritePath | ShardReader] = [*self._writers.values(), *self._readers.values()]
            for resource in resources:
                try:
                    resource.close()
                except (CometlogError, OSError) as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<cometlog.Client {str(self.path)!r} write_path={self.write_path!r}>"
