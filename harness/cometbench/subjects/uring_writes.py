"""Bare bytes written through io_uring, several writes in one submission, and no sync: what batching system calls can gain at most.

The same class writes the same bytes by one pwrite each where the config key `via` is "pwrite": its yardstick.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cometbench.errors import CannotMeasureError
from cometbench.subjects.contract import Chunk, Subject
from cometlog.errors import WritePathUnavailableError
from cometlog.write_paths.uring import open_ring


class UringWrites(Subject):
    """One call is one submission of as many writes as the batch has entries, or as many calls of pwrite."""

    reads_back = "bytes"

    @property
    def _path(self) -> Path:
        return self.directory / "uring.bin"

    def open(self) -> None:
        try:
            self._ring = open_ring()
        except WritePathUnavailableError as error:
            raise CannotMeasureError(str(error)) from error
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end = 0

    def append_call(self, batch: int) -> Callable[[Any], object]:
        submit = self._pwrite_each if self.config.get("via") == "pwrite" else self._submit
        return submit if batch > 1 else lambda entry: submit([entry])

    def prepare(self, bytes_in_all: int) -> None:
        os.posix_fallocate(self._descriptor, self._end, bytes_in_all)

    def settle(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.ftruncate(self._descriptor, self._end)
        os.close(self._descriptor)
        self._ring.close()

    def read_back(self) -> Iterator[Chunk]:
        yield Chunk(None, [self._path.read_bytes()])

    def _submit(self, entries: list[bytes]) -> None:
        self._ring.write(self._descriptor, entries, self._end)
        self._end += sum(map(len, entries))

    def _pwrite_each(self, entries: list[bytes]) -> None:
        for entry in entries:
            self._end += os.pwrite(self._descriptor, entry, self._end)
