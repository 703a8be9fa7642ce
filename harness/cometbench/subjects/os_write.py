"""os.write of the bare payload: what one system call costs, the yardstick of the single-append goal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from cometbench.errors import SubjectError
from cometbench.subjects.contract import Chunk, Subject, Timed


class OsWrite(Subject):
    """Appends bare bytes to a new file, one os.write each."""

    reads_back = "bytes"

    @property
    def _path(self) -> Path:
        return self.directory / "bare.bin"

    def open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append_call(self, batch: int) -> Callable[[Any], object]:
        if batch != 1:
            raise SubjectError(f"os_write appends single entries, not batches of {batch}")
        return partial(os.write, self._descriptor)

    def time_calls(self, items: list[Any], batch: int) -> Timed:
        """Time the contract's loop with the descriptor passed directly.

        A wrapper would flatter what is compared.
        """
        del batch
        write, descriptor, result = os.write, self._descriptor, 0
        started = perf_counter()
        for item in items:
            result = write(descriptor, item)
        return Timed(perf_counter() - started, result)

    def settle(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def read_back(self) -> Iterator[Chunk]:
        yield Chunk(None, [self._path.read_bytes()])
