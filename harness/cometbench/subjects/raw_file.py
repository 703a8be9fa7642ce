"""Raw file: length-prefixed frames handed to write(2).

The least a durable-on-crash log can do (CLAIMS.md A4).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cometbench.subjects.contract import Chunk, Subject

_LENGTH = struct.Struct("<I")
_CHUNK_ENTRIES = 10_000


class RawFile(Subject):
    """One write() per append call; with config `sync` True fdatasync after each, with `buffered` True Python's buffer before it."""

    @property
    def _path(self) -> Path:
        return self.directory / "raw.log"

    def open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._buffer = os.fdopen(self._descriptor, "wb") if self.config.get("buffered", False) else None

    def append_call(self, batch: int) -> Callable[[Any], object]:
        append = self._append_one if batch == 1 else self._append_many
        if not self.config.get("sync", False):
            return append

        def append_and_sync(item: Any) -> None:
            append(item)
            os.fdatasync(self._descriptor)

        return append_and_sync

    def settle(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        if self._buffer is not None:
            self._buffer.close()
        else:
            os.close(self._descriptor)

    def read_back(self) -> Iterator[Chunk]:
        entries: list[bytes] = []
        with self._path.open("rb", buffering=1 << 20) as file:
            while header := file.read(_LENGTH.size):
                entries.append(file.read(_LENGTH.unpack(header)[0]))
                if len(entries) == _CHUNK_ENTRIES:
                    yield Chunk(None, entries)
                    entries = []
        if entries:
            yield Chunk(None, entries)

    def _append_one(self, entry: bytes) -> None:
        self._write(_LENGTH.pack(len(entry)) + entry)

    def _append_many(self, entries: list[bytes]) -> None:
        parts: list[bytes] = []
        for entry in entries:
            parts += (_LENGTH.pack(len(entry)), entry)
        self._write(b"".join(parts))

    def _write(self, frames: bytes) -> None:
        written = (
            self._buffer.write(frames) if self._buffer is not None else os.write(self._descriptor, frames)
        )
        if written != len(frames):
            raise OSError(f"{self._path}: short write, {written} of {len(frames)} bytes")
