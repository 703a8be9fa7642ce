"""Verification: what was read back against what was appended, exactly, entry by entry.

A writer appends its pool over and over, so entry i of process p must equal pool[p][i % len(pool[p])].
Standard library only. The first difference ends the comparison and is named by stream and entry number.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from cometbench._native import first_mismatch, first_stray
from cometbench.subjects.contract import Chunk

_SHOWN_BYTES = 60


@dataclasses.dataclass
class Appended:
    """What one writer process appended: `count` entries, cyclically from `pool`.

    `acknowledged` maps entry numbers that the subject returned to the writer's own index of that entry.
    """

    pool: list[bytes]
    count: int = 0
    acknowledged: dict[int, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Finding:
    """The outcome: status "ok", "failed" or "not_applicable"; `detail` names the first bad entry."""

    status: str
    entries_expected: int = 0
    entries_found: int = 0
    detail: str = ""


def in_all(findings: Iterable[Finding]) -> Finding:
    """Several logs as one finding: counts in all, and what the first that failed says."""
    expected, found, worst = 0, 0, Finding("not_applicable")
    for one in findings:
        expected, found = expected + one.entries_expected, found + one.entries_found
        if worst.status != "failed" and one.status != "not_applicable":
            worst = one
    return dataclasses.replace(worst, entries_expected=expected, entries_found=found)


class _DifferenceError(Exception):
    """The first difference between the log and what was appended; carries the sentence that names it."""


def verify_entries(stream: str, writers: list[Appended], chunks: Iterable[Chunk]) -> Finding:
    """Check count, order, payload and acknowledged numbers of a log of entries written by `writers`."""
    expected = sum(writer.count for writer in writers)
    found = 0
    check = _SingleWriter(writers[0]) if len(writers) == 1 else _ManyWriters(writers)
    acknowledged = {
        number: writer.pool[index % len(writer.pool)]
        for writer in writers
        for number, index in writer.acknowledged.items()
    }
    next_number: int | None = None
    try:
        for chunk in chunks:
            numbers = chunk.numbers if chunk.numbers is not None else range(found, found + len(chunk.entries))
            _check_numbers(numbers, len(chunk.entries), next_number)
            check.chunk(numbers, chunk.entries)
            _check_acknowledged(numbers, chunk.entries, acknowledged)
            next_number = numbers.stop
            found += len(chunk.entries)
        check.end(next_number or 0)
        if acknowledged:
            raise _DifferenceError(f"entry {min(acknowledged)} was acknowledged and is not in the log")
    except _DifferenceError as difference:
        return Finding("failed", expected, found, f"stream {stream}: {difference}")
    return Finding("ok", expected, found)


def verify_bytes(stream: str, writer: Appended, chunks: Iterable[Chunk]) -> Finding:
    """Check an undivided byte string: the appended entries one behind the other, and nothing else."""
    ends = list(accumulate(map(len, writer.pool)))
    cycle = memoryview(b"".join(writer.pool))
    whole, rest = divmod(writer.count, len(writer.pool))
    bytes_expected = whole * len(cycle) + (ends[rest - 1] if rest else 0)
    offset = 0
    for chunk in chunks:
        for part in chunk.entries:
            view = memoryview(part)
            while view:
                at = offset % len(cycle)
                size = min(len(view), len(cycle) - at)
                if view[:size] != cycle[at : at + size]:
                    offset += next(i for i in range(size) if view[i] != cycle[at + i])
                    entry = _entry_at(offset, ends)
                    return Finding(
                        "failed",
                        writer.count,
                        entry,
                        f"stream {stream}: entry {entry} altered at byte {offset}",
                    )
                offset += size
                view = view[size:]
    if offset == bytes_expected:
        return Finding("ok", writer.count, writer.count)
    entry = _entry_at(offset, ends)
    detail = (
        f"stream {stream}: {offset} bytes read, {bytes_expected} appended; first difference in entry {entry}"
    )
    return Finding("failed", writer.count, entry, detail)


def _entry_at(offset: int, ends: list[int]) -> int:
    cycles, rest = divmod(offset, ends[-1])
    return cycles * len(ends) + bisect_right(ends, rest)


def _check_numbers(numbers: range, count: int, next_number: int | None) -> None:
    if len(numbers) != count:
        raise _DifferenceError(
            f"entries {numbers.start} to {numbers.stop - 1}: {count} read back, {len(numbers)} spanned"
        )
    if next_number is not None and numbers.start != next_number:
        raise _DifferenceError(f"entry {next_number} is missing: the log goes on at number {numbers.start}")


def _check_acknowledged(numbers: range, entries: list[bytes], acknowledged: dict[int, bytes]) -> None:
    for number in [number for number in acknowledged if number in numbers]:
        expected, found = acknowledged.pop(number), entries[number - numbers.start]
        if found != expected:
            raise _DifferenceError(
                f"entry {number} was acknowledged as {_shown(expected)} and holds {_shown(found)}"
            )


class _SingleWriter:
    """One writer: the log is its pool over and over. Compared in C, a chunk at a time."""

    def __init__(self, writer: Appended) -> None:
        self._writer, self._found = writer, 0

    def chunk(self, numbers: range, entries: list[bytes]) -> None:
        pool, count = self._writer.pool, self._writer.count
        at = first_mismatch(entries, pool, self._found)
        if at >= 0:
            raise _DifferenceError(self._name(numbers[at], self._found + at, entries[at]))
        self._found += len(entries)
        if self._found > count:
            extra = numbers[count - self._found + len(entries)]
            raise _DifferenceError(f"entry {extra} was never appended: {count} entries were")

    def end(self, next_number: int) -> None:
        if self._found < self._writer.count:
            raise _DifferenceError(
                f"entry {next_number} lost: {self._found} entries of {self._writer.count} in the log"
            )

    def _name(self, number: int, index: int, found: bytes) -> str:
        pool = self._writer.pool
        expected = pool[index % len(pool)]
        if found == pool[(index + 1) % len(pool)]:
            return f"entry {number} lost: {_shown(expected)} was appended, its successor stands in its place"
        return f"entry {number} altered: {_shown(expected)} was appended, {_shown(found)} read"


class _ManyWriters:
    """Several writers on one stream: any interleaving, but every writer's own entries in its own order, once each.

    Compared in C, a chunk at a time.
    """

    def __init__(self, writers: list[Appended]) -> None:
        self._writers = writers
        self._next = [0] * len(writers)
        self._pools = [writer.pool for writer in writers]
        self._process_of = {entry: p for p, writer in enumerate(writers) for entry in writer.pool}

    def chunk(self, numbers: range, entries: list[bytes]) -> None:
        at = first_stray(entries, self._process_of, self._pools, self._next)
        if at < 0:
            return
        process = self._process_of.get(entries[at])
        if process is None:
            raise _DifferenceError(f"entry {numbers[at]} altered: no process appended {_shown(entries[at])}")
        following, pool = self._next[process], self._pools[process]
        raise _DifferenceError(
            f"entry {numbers[at]} holds {_shown(entries[at])} of process {process}; its append number"
            f" {following}, {_shown(pool[following % len(pool)])}, is lost or out of order"
        )

    def end(self, next_number: int) -> None:
        for process, (writer, found) in enumerate(zip(self._writers, self._next, strict=True)):
            if found != writer.count:
                raise _DifferenceError(
                    f"entry {next_number} ends the log, yet process {process} appended {writer.count} entries"
                    f" and {found} are there; first lost: its append number {found}"
                )


def _shown(entry: bytes) -> str:
    return repr(entry if len(entry) <= _SHOWN_BYTES else entry[:_SHOWN_BYTES] + b"...")
