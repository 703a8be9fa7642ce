"""The oracle of the kill suites: a process of its own that hears every acknowledgement through a pipe and compares the log with them.

It never writes an entry. What it holds a log to: everything acknowledged is there, under its number, intact; nothing is there twice;
nothing that nobody sent; a batch is whole or absent; numbers rise; the count is what is read.
"""

import hashlib
import json
import os
import select
import sys
from pathlib import Path
from typing import Any

import cometlog
from kill_batches import EntryId, id_of
from support import KIB, SHARD, STREAM, make_config


class Acknowledged:
    """What writers said, read from a named pipe that this process keeps open at both ends."""

    def __init__(self, pipe: str) -> None:
        self.fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self.numbers: dict[int, tuple[int, int, int]] = {}
        self.next_batch: dict[int, int] = {}
        self.checked: Reading | None = None
        self._rest = b""

    def drain(self) -> None:
        """Take in every line that is in the pipe."""
        while select.select([self.fd], [], [], 0)[0]:
            lines = (self._rest + os.read(self.fd, 1 << 16)).split(b"\n")
            self._rest = lines.pop()
            for line in lines:
                self._note([int(word) for word in line.split()])

    def _note(self, words: list[int]) -> None:
        owner, batch, *numbers = words
        assert batch == self.next_batch.get(owner, 0), f"writer {owner} skipped a batch"
        self.next_batch[owner] = batch + 1
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "numbers of a batch have a gap"
        for position, number in enumerate(numbers):
            assert number not in self.numbers, f"number {number} was acknowledged twice"
            self.numbers[number] = (owner, batch, position)

    def close(self) -> None:
        os.close(self.fd)


class Reading:
    """Holds entries, in the order in which they are read, to what they may be; goes on behind an earlier reading if one is given."""

    def __init__(self, before: "Reading | None" = None) -> None:
        self.start = before.end if before is not None else 0
        self.end = self.start
        self.found: dict[int, EntryId] = {}
        self.last_batch: dict[int, int] = dict(before.last_batch) if before is not None else {}
        self._digest = hashlib.sha256()
        self._open: tuple[int, EntryId] | None = None

    def take(self, number: int, data: bytes, digest_until: int | None) -> None:
        entry = id_of(data)
        assert number >= self.end, f"number {number} does not rise"
        self.end = number + 1
        if self._open is not None:
            before, previous = self._open
            expected = (before + 1, previous.owner, previous.batch, previous.position + 1)
            assert (number, *entry[:3]) == expected, f"batch {previous} was torn at number {before}"
        else:
            assert entry.position == 0, f"batch of {entry} lacks its beginning"
            assert entry.batch > self.last_batch.get(entry.owner, -1), f"{entry} is there twice or too late"
            self.last_batch[entry.owner] = entry.batch
        self._open = (number, entry) if entry.position < entry.size - 1 else None
        self.found[number] = entry
        if digest_until is not None and len(self.found) <= digest_until:
            self._digest.update(number.to_bytes(8, "big") + data)

    def finish(self, acknowledged: Acknowledged, certain: dict[int, tuple[int, int, int]]) -> str:
        """Compare with what was acknowledged before the reading began; return the digest of the beginning."""
        assert self._open is None, f"batch {self._open} lacks its end"
        for number, (owner, batch, position) in certain.items():
            entry = self.found.get(number)
            assert entry is not None, (
                f"number {number} (writer {owner}, batch {batch}) was acknowledged and is lost"
            )
            assert entry[:3] == (owner, batch, position), f"number {number} holds {entry}"
        for owner, batch in self.last_batch.items():
            heard = acknowledged.next_batch.get(owner, 0)
            assert batch <= heard, (
                f"writer {owner} cannot have sent batch {batch} yet: {heard} were acknowledged"
            )
        return self._digest.hexdigest()


def check(
    root: str, acknowledged: Acknowledged, *, write_path: str, attach: bool, quiet: bool, whole: bool, digest_until: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Read the log: the ``whole`` of it, or what came since the last check.

    ``attach``: as a writer, so that whatever died is recovered first. ``quiet``: nobody appends meanwhile.
    """
    acknowledged.drain()
    reading = Reading(None if whole else acknowledged.checked)
    certain = {number: entry for number, entry in acknowledged.numbers.items() if number >= reading.start}
    with cometlog.open(root, make_config(64 * KIB), write_path=write_path) as client:
        if attach:
            client.writer(STREAM)
        for entry in client.scan(STREAM, reading.start, None if quiet else client.next_entry(STREAM)):
            reading.take(entry.number, entry.data, digest_until)
        if quiet and whole:
            assert client.entry_count(STREAM) == len(reading.found), "the count is not what is read"
    acknowledged.drain()
    digest = reading.finish(acknowledged, certain)
    acknowledged.checked = reading
    assert not quiet or not list((Path(root) / SHARD).glob("*.discarded")), "a segment was set aside"
    return {"read": len(reading.found), "acknowledged": len(certain), "digest": digest}


class Oracle:
    """Obeys the test, one answer for each order, and listens to the writers all the while."""

    def __init__(self) -> None:
        self._acknowledged: Acknowledged | None = None
        self._root = ""
        self._wrong: str | None = None

    def obey(self, order: dict[str, Any]) -> Any:
        """Return what the test is told; what was found wrong, once something was."""
        what = order.pop("do")
        if what == "listen":
            if self._acknowledged is not None:
                self._acknowledged.close()
            self._acknowledged, self._root = Acknowledged(order["pipe"]), order["root"]
            return None
        assert self._acknowledged is not None
        self.drain()
        if self._wrong is None and what == "check":
            try:
                return check(self._root, self._acknowledged, **order)
            except (AssertionError, cometlog.CometlogError, OSError) as error:
                self._wrong = f"{type(error).__name__}: {error}"
        return {"wrong": self._wrong} if self._wrong else self._acknowledged.next_batch

    def drain(self) -> None:
        """Hear what the writers said, unless they already said what cannot be."""
        try:
            if self._acknowledged is not None and self._wrong is None:
                self._acknowledged.drain()
        except AssertionError as error:
            self._wrong = f"{type(error).__name__}: {error}"

    def run(self) -> None:
        """Lines of JSON in, one line out for each, until the test ends."""
        pending = b""
        while True:
            heard = [] if self._acknowledged is None or self._wrong else [self._acknowledged.fd]
            ready = select.select([0, *heard], [], [])[0]
            self.drain()
            if 0 not in ready:
                continue
            piece = os.read(0, 1 << 16)
            if not piece:
                return
            *orders, pending = (pending + piece).split(b"\n")
            for order in orders:
                os.write(1, json.dumps(self.obey(json.loads(order))).encode() + b"\n")


def oracle() -> None:
    """What the process does."""
    Oracle().run()


if __name__ == "__main__":
    sys.exit(oracle())
