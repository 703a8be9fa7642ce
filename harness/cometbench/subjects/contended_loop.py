"""The C loop of several processes: each entry's place taken by compare-and-swap of one shared word, then a copy (DESIGN.md, Speed)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from mmap import PAGESIZE, mmap
from pathlib import Path
from time import perf_counter
from typing import Any

from cometbench._native import contended_copy
from cometbench.subjects.contract import Chunk, Subject, Timed
from cometbench.workloads import SINGLE_LINE_BYTES

HEAD_BYTES = 128


class ContendedLoop(Subject):
    """Each measured value copies into a file that all writers share, allocated and populated outside the timed stretch.

    Config: `writers`, how many processes there are. Entries are those of `json_line`: all of one length, which is how they are told
    apart again.
    """

    def open(self) -> None:
        self._parts = 0
        self._map: mmap | None = None

    def prepare(self, bytes_in_all: int) -> None:
        self.close()
        size = HEAD_BYTES + bytes_in_all * int(self.config["writers"])
        descriptor = os.open(self.directory / f"part-{self._parts:04d}.bin", os.O_RDWR | os.O_CREAT, 0o600)
        self._parts += 1
        try:
            os.posix_fallocate(descriptor, 0, size)
            self._map = mmap(descriptor, size)
        finally:
            os.close(descriptor)
        for page in range(0, size, PAGESIZE):
            self._map[page] = 0

    def append_call(self, batch: int) -> Callable[[Any], object]:
        """Return what copies a list of entries, each with a compare-and-swap of its own; one entry is given as such."""
        if self._map is None:
            raise RuntimeError("prepare makes the map that is copied into")
        copy = partial(contended_copy, self._map)
        return (lambda entry: copy([entry])) if batch == 1 else copy

    def time_calls(self, items: list[Any], batch: int) -> Timed:
        """Copy all entries in one call: the loop is the one in C."""
        del batch
        copy = self.append_call(0)
        started = perf_counter()
        copy(items)
        return Timed(perf_counter() - started, None)

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None

    def read_back(self) -> Iterator[Chunk]:
        for path in sorted(Path(self.directory).glob("part-*.bin")):
            data = path.read_bytes()
            end = HEAD_BYTES + int.from_bytes(data[:8], "little")
            starts = range(HEAD_BYTES, end, SINGLE_LINE_BYTES)
            yield Chunk(None, [data[start : min(start + SINGLE_LINE_BYTES, end)] for start in starts])
