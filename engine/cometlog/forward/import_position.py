"""How far an import has come: a small file beside the stream's segments, replaced before each append.

It says where the source stands before the batch that is appended next, where it stands behind it, and what the batch holds. A batch
becomes visible as a whole or not at all, so whoever goes on looks for it in the stream and knows. Before the file is replaced,
what was appended before is synced: after a power loss, too, only the batch that the file names can be missing.

Invariant: the file and the stream together say which records are in the stream, at every instant.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

from cometlog.client import Client
from cometlog.errors import CorruptionError, EntryNotFoundError, ImportPositionError
from cometlog.files import create_exclusive, open_checked, open_or_create, sync_directory
from cometlog.names import check_group_name, parse_stream
from cometlog.segment import list_segments

FILE_SUFFIX = ".import"
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Place:
    """Where an import stands: the next offset of each partition, and epoch and number of each forwarded stream's last entry in it.

    ``numbers`` has them by ``PARTITION/LOG/STREAM``: only within a partition are lower numbers known to be there already.
    """

    offsets: dict[str, int]
    numbers: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was about to be appended: the stream's next entry then, how many entries, and their digest."""

    start: int
    count: int
    digest: str

    @classmethod
    def of(cls, start: int, entries: Sequence[bytes]) -> Self:
        """Return what is written down of a batch."""
        return cls(start, len(entries), _digest(entries))


def _digest(entries: Sequence[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for entry in entries:
        digest.update(len(entry).to_bytes(8, "little"))
        digest.update(entry)
    return digest.hexdigest()


def _from_format_1(place: Place) -> Place:
    """Return a place whose numbers were by LOG/STREAM: those of the only partition, or none where there are several."""
    partition, *others = place.offsets or ("",)
    known = {} if others else place.numbers
    return Place(place.offsets, {f"{partition}/{origin}": last for origin, last in known.items()})


class ImportPosition:
    """The position of one import, a group, in a stream; one process at a time holds it. Close it."""

    def __init__(self, client: Client, stream: str, group: str, source: str) -> None:
        """Take the position. ``source`` names what is imported. Raises ImportPositionError where another process has it."""
        self._client = client
        self._stream = stream
        self._source = source
        self._mode = client.config.storage.file_mode
        directory = parse_stream(stream).directory(client.path)
        self.path = directory / f"{check_group_name(group)}{FILE_SUFFIX}"
        client.writer(stream)  # makes the directory of a stream that begins now
        self._lock = open_or_create(self.path.with_name(self.path.name + ".lock"), self._mode)
        try:
            self._take(group)
        except BaseException:
            os.close(self._lock)
            raise
        self._is_unsynced = True

    def _take(self, group: str) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ImportPositionError(
                f"process {holder} is importing into {self._stream} as {group!r}; stop it, or give this import another group"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)

    def load(self) -> Place:
        """Return where to go on.

        Raises ImportPositionError where the file is of another source, CorruptionError where it is no position.
        """
        try:
            fd = open_checked(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return Place({}, {})
        with os.fdopen(fd, "rb") as file:
            stored = self._parsed(file.read())
        if stored["source"] != self._source:
            raise ImportPositionError(
                f"{self.path} is where an import of {stored['source']} stands, not of {self._source}; "
                f"give this import another group, or remove the file to begin anew"
            )
        batch = Batch(**stored["batch"])
        place = Place(**stored["after" if self._has(batch) else "before"])
        return place if stored["format"] == _FORMAT else _from_format_1(place)

    def _parsed(self, text: bytes) -> dict[str, Any]:
        try:
            stored: dict[str, Any] = json.loads(text)
            if (
                stored["format"] not in (1, _FORMAT)
                or not {"source", "before", "after", "batch"} <= stored.keys()
            ):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise CorruptionError(
                "this is no position of an import; remove it to import from the start",
                file=str(self.path),
                offset=0,
            ) from None
        return stored

    def _has(self, batch: Batch) -> bool:
        """Return whether a batch is in the stream; others may have appended before it.

        One whose first number was given and has been removed by retention is taken to have been there: nothing can tell any more.
        """
        if not batch.count:
            return True
        with suppress(EntryNotFoundError):  # retention removed the start, or a power loss what was before it
            if self._is_behind(batch):
                return True
        # The first entry says nothing: it lies behind numbers that died with their append. Asked last: retention may come meanwhile.
        return any(segment.base > batch.start for segment in list_segments(self.path.parent)[:1])

    def _is_behind(self, batch: Batch) -> bool:
        """Return whether the entries of a batch are in the stream from its start on."""
        window: list[bytes] = []
        for entry in self._client.scan(self._stream, batch.start):
            window.append(entry.data)
            if len(window) > batch.count:
                window.pop(0)
            if len(window) == batch.count and _digest(window) == batch.digest:
                return True
        return False

    def announce(self, before: Place, after: Place, entries: Sequence[bytes]) -> None:
        """Write down what is appended next; what was appended before is durable when this returns."""
        if self._is_unsynced:
            self._client.sync(self._stream)
        batch = Batch.of(self._client.next_entry(self._stream), entries)
        stored = {
            "format": _FORMAT, "source": self._source, "before": asdict(before), "after": asdict(after), "batch": asdict(batch)
        }  # fmt: skip
        self._replace(json.dumps(stored).encode())
        self._is_unsynced = bool(entries)

    def settle(self, place: Place) -> None:
        """Write down where the import stands, with everything before it durable and nothing under way."""
        self.announce(place, place, ())

    def _replace(self, text: bytes) -> None:
        temporary = self.path.with_name(f"{self.path.name}.tmp.{os.getpid()}.{os.urandom(4).hex()}")
        with os.fdopen(create_exclusive(temporary, self._mode), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.path)
        sync_directory(self.path.parent)

    def close(self) -> None:
        """Let another process have the position."""
        os.close(self._lock)
