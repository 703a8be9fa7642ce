"""What a run did to its files: the trace of ``recorder.c`` read back as histories of pages, lengths and names.

A trace is a sequence of records: kind (one letter), length (u32), payload. ``E`` ends an event and moves the clock of the
recording by one. Nothing here judges what a disk would hold; ``crash_images`` does.
"""

import bisect
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("recorder.c")
PAGE_BYTES = 4096
ZEROS = bytes(PAGE_BYTES)


def build_recorder(directory: Path) -> Path | None:
    """Compile the library that is loaded into recorded processes; None where there is no C compiler."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        return None
    library = directory / "recorder.so"
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE), "-ldl", "-lpthread"], check=True)
    return library


@dataclass
class FileHistory:
    """One file: each page's versions and the lengths it had, with the times at which they were seen, its syncs, and the
    syncs of some of its pages.
    """

    pages: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    lengths: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    syncs: list[int] = field(default_factory=list)
    part_syncs: list[tuple[int, range]] = field(default_factory=list)

    def synced_until(self, time: int, page: int) -> int:
        """The time of the last sync of a page that had returned at ``time``; what stood there then is on disk. -1: none."""
        parts = (at for at, pages in self.part_syncs if at <= time and page in pages)
        return max(self._whole_until(time), max(parts, default=-1))

    def length_synced_until(self, time: int) -> int:
        """The time of the last sync of the file or a part of it, either of which keeps the length. -1: none."""
        parts = (at for at, _ in self.part_syncs if at <= time)
        return max(self._whole_until(time), max(parts, default=-1))

    def _whole_until(self, time: int) -> int:
        position = bisect.bisect_right(self.syncs, time)
        return self.syncs[position - 1] if position else -1

    def versions(self, page: int, since: int, time: int) -> list[bytes]:
        """What a page may hold at ``time`` if it was last written back at ``since`` or later, oldest first."""
        history = self.pages[page]
        first = bisect.bisect_right(history, since, key=lambda version: version[0]) - 1
        last = bisect.bisect_right(history, time, key=lambda version: version[0])
        before = [ZEROS] if first < 0 else []
        return before + [content for _, content in history[max(first, 0) : last]]

    def lengths_between(self, since: int, time: int) -> list[int]:
        """The lengths that the file had from ``since`` to ``time``."""
        first = max(bisect.bisect_right(self.lengths, since, key=lambda seen: seen[0]) - 1, 0)
        return [length for at, length in self.lengths[first:] if at <= time]


@dataclass(frozen=True)
class NameChange:
    """One step in the life of names: each name in ``binds`` gets a file, "directory" or None at once."""

    time: int
    binds: tuple[tuple[str, "FileHistory | str | None"], ...]


@dataclass(frozen=True)
class Note:
    """Something that the workload said when it was true."""

    time: int
    said: Any


@dataclass
class Recording:
    """Everything below one directory, from an empty or a wholly durable beginning to the end of the run."""

    files: list[FileHistory] = field(default_factory=list)
    changes: list[NameChange] = field(default_factory=list)
    directory_syncs: list[tuple[int, str]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    end: int = 0

    def directory_synced_until(self, directory: str, time: int) -> int:
        """The time of the last sync of a directory that had returned at ``time``; -1: none."""
        return max((at for at, path in self.directory_syncs if path == directory and at <= time), default=-1)


def records(trace: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield kind and payload of each record; an event that was cut off by a kill is left out."""
    position, event = 0, []
    while position + 5 <= len(trace):
        kind = chr(trace[position])
        (length,) = struct.unpack_from("<I", trace, position + 1)
        event.append((kind, trace[position + 5 : position + 5 + length]))
        position += 5 + length
        if kind == "E" and position <= len(trace):
            yield from event
            event = []


class _Reader:
    """Takes a trace apart. ``durable_start``: what the first process found lay on disk already."""

    def __init__(self, root: Path, durable_start: bool) -> None:
        self.recording = Recording()
        self._prefix = str(root)
        self._durable_start = durable_start
        self._by_inode: dict[int, FileHistory] = {}
        self._names: dict[str, FileHistory | str | None] = {}

    def _name(self, raw: bytes) -> str:
        return raw.decode().removeprefix(self._prefix).lstrip("/")

    def _change(self, *binds: tuple[str, FileHistory | str | None]) -> None:
        self._names.update(binds)
        self.recording.changes.append(NameChange(self.recording.end, binds))

    def _add_file(self, inode: int, name: str) -> None:
        file = FileHistory()
        self._by_inode[inode] = file
        self.recording.files.append(file)
        self._change((name, file))

    def take(self, kind: str, body: bytes) -> None:
        """Take in one record."""
        recording = self.recording
        if kind == "E":
            if recording.end == 0 and self._durable_start:
                for file in recording.files:
                    file.syncs.append(0)
                directories = [name for name, what in self._names.items() if what == "directory"]
                recording.directory_syncs += [(0, name) for name in ["", *directories]]
            recording.end += 1
        elif kind in "CO":
            (inode,) = struct.unpack_from("<Q", body)
            if kind == "C" or inode not in self._by_inode:
                self._add_file(inode, self._name(body[8:]))
        elif kind in "PZ":
            self._take_content(kind, body)
        elif kind == "F":
            self._by_inode[struct.unpack("<Q", body)[0]].syncs.append(recording.end)
        elif kind == "M":
            inode, first, last = struct.unpack("<QQQ", body)
            self._by_inode[inode].part_syncs.append((recording.end, range(first, last + 1)))
        elif kind == "N":
            recording.notes.append(Note(recording.end, json.loads(body)))
        else:
            self._take_names(kind, *(self._name(part) for part in body.split(b"\0")))

    def _take_content(self, kind: str, body: bytes) -> None:
        inode, value = struct.unpack_from("<QQ", body)
        file = self._by_inode[inode]
        if kind == "Z":
            if file.lengths[-1][1] != value:
                file.lengths.append((self.recording.end, value))
            return
        history = file.pages.setdefault(value, [])
        if (history[-1][1] if history else ZEROS) != body[16:]:
            history.append((self.recording.end, body[16:]))

    def _take_names(self, kind: str, first: str, second: str = "") -> None:
        if kind == "Y":
            self.recording.directory_syncs.append((self.recording.end, first))
        elif kind == "D":
            if first and self._names.get(first) != "directory":
                self._change((first, "directory"))
        elif kind == "L":
            self._change((second, self._names[first]))
        elif kind == "R":
            self._change((first, None), (second, self._names[first]))
        elif kind == "U":
            self._change((first, None))


def read_trace(trace: Path, root: Path, *, durable_start: bool = False) -> Recording:
    """Read the trace of a run whose files lie below ``root``."""
    reader = _Reader(root, durable_start)
    for kind, body in records(trace.read_bytes()):
        reader.take(kind, body)
    return reader.recording
