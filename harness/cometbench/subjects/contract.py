"""The contract of a subject: a write path, a peer system, or a floor.

A new peer is one file with one class. The worker calls, in this order: `open`, then for every measured value
`prepare` and, for durable subjects, `settle` (both untimed), then `time_calls` (timed), then `close`, and at
last `read_back`, which must show every entry that was appended. In a benchmark of several processes each
process opens its own subject on the same directory, and only one process reads back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, Literal, NamedTuple

from cometbench.benchmark import ConfigValue

ReadsBack = Literal["entries", "bytes", "nothing"]


class Chunk(NamedTuple):
    """A run of consecutive entries as read back.

    `numbers` are their entry numbers, or None where there are none.
    """

    numbers: range | None
    entries: list[bytes]


class Timed(NamedTuple):
    """Seconds from before the first call to after the last, and what the last call returned."""

    seconds: float
    last_result: Any


class Subject(ABC):
    """Base of all subjects.

    `reads_back` says what `read_back` yields: entries, one undivided byte string, nothing.
    """

    reads_back: ClassVar[ReadsBack] = "entries"

    def __init__(self, directory: Path, stream: str, config: Mapping[str, ConfigValue]) -> None:
        """`directory` is empty, on the file system under test, and shared by the writers of one benchmark."""
        self.directory = directory
        self.stream = stream
        self.config = config

    def open(self) -> None:  # noqa: B027 - optional for a subject
        """Create or attach to what is measured."""

    def open_beside(self, other: Subject) -> None:
        """Attach another thread's end beside `other`, which is open and is closed last; by default as a process of its own would."""
        del other
        self.open()

    @abstractmethod
    def append_call(self, batch: int) -> Callable[[Any], object]:
        """Return the callable under test: it takes one bytes object (batch 1) or a list of `batch` of them.

        It is called in a bare loop, so it should be a bound method or built-in, not a wrapper.
        """

    def time_calls(self, items: list[Any], batch: int) -> Timed:
        """Append each of `items`, one call each, and time the loop.

        Override where the loop itself must differ.
        """
        append, result = self.append_call(batch), None
        started = perf_counter()
        for item in items:
            result = append(item)
        return Timed(perf_counter() - started, result)

    def prepare(self, bytes_in_all: int) -> None:  # noqa: B027 - most subjects need no room made
        """Make room for one measured value of `bytes_in_all` payload bytes; untimed."""

    def settle(self) -> None:  # noqa: B027 - optional for a subject
        """Push dirty pages out, so that the next value does not pay for this one; untimed."""

    def last_number(self, result: Any) -> int | None:
        """Return the number of the last entry that a call with this result acknowledged; None without."""
        del result
        return None

    def version(self) -> str:
        """Name and version of the system that was measured; asked without `open`, after it was written to. "" where there is none."""
        return ""

    def close(self) -> None:  # noqa: B027 - optional for a subject
        """Release everything; what was appended stays."""

    def read_back(self) -> Iterator[Chunk]:
        """After `close`: all entries in order, through a fresh handle.

        "bytes" subjects yield their bytes as one entry per part.
        """
        return iter(())
