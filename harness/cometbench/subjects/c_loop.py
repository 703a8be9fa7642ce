"""The C loop: copies the same bytes objects one by one into a populated map, and does only that (DESIGN.md.

Speed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cometbench._native import CopyTarget
from cometbench.subjects.contract import Chunk, Subject


class CLoop(Subject):
    """Each measured value copies into a file of its own, allocated and populated outside the timed stretch.

    So that the pages are as fresh as a new segment's and the loop never pays for a page fault.
    """

    reads_back = "bytes"

    def open(self) -> None:
        self._parts: list[tuple[str, int]] = []
        self._target: CopyTarget | None = None

    def prepare(self, bytes_in_all: int) -> None:
        self.settle()
        path = str(self.directory / f"part-{len(self._parts):04d}.bin")
        self._target = CopyTarget(path, max(bytes_in_all, 1))
        self._parts.append((path, bytes_in_all))

    def append_call(self, batch: int) -> Callable[[Any], object]:
        if self._target is None:
            raise RuntimeError("prepare makes the map that append_call copies into")
        return self._target.copy if batch == 1 else self._target.copy_list

    def settle(self) -> None:
        if self._target is not None:
            self._target.close()
            self._target = None

    def close(self) -> None:
        self.settle()

    def read_back(self) -> Iterator[Chunk]:
        for path, size in self._parts:
            with Path(path).open("rb") as file:
                yield Chunk(None, [file.read(size)])
