"""The oracle of the power-loss suites: what was promised up to an instant, and whether what is found afterwards keeps it.

An entry says of itself who wrote it, which batch of his it is in, where in that batch, and how many the batch has. Promised: what a
returned ``sync`` covers, or a returned append of a path whose appends are durable, is there under its number; what else is
there is a prefix of the order of numbers; nothing is there that was never written, twice, or in part.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import cometlog
from support import owner_and_sequence, payload


class Identity(NamedTuple):
    """What an entry says of itself."""

    owner: int
    batch: int
    position: int
    size: int
    length: int


def entry_bytes(owner: int, batch: int, position: int, size: int, length: int) -> bytes:
    """Return entry ``position`` of a batch of ``size`` entries."""
    return payload(owner << 32 | position << 16 | size, batch, length)


def identify(data: bytes) -> Identity:
    """Return what an entry says of itself, having checked every byte."""
    words, batch = owner_and_sequence(data)
    return Identity(words >> 32, batch, words >> 16 & 0xFFFF, words & 0xFFFF, len(data))


Found = dict[int, Identity]


def found_in(entries: Iterable[cometlog.Entry]) -> Found:
    """Number to identity of what a reader returned; numbers rise."""
    found: Found = {}
    last = -1
    for entry in entries:
        assert entry.number > last, f"entry {entry.number} after {last}"
        last = entry.number
        found[entry.number] = identify(entry.data)
    return found


@dataclass
class Promise:
    """What was acknowledged, and which part of it a power loss may not take.

    ``durable_before``: acknowledged entries with lower numbers are durable; ``durable``: numbers that are so by themselves.
    ``batches``: the newest batch that each owner had acknowledged; ``unheard``: owners that could not say what was.
    """

    acknowledged: Found = field(default_factory=dict)
    durable: set[int] = field(default_factory=set)
    durable_before: int = 0
    batches: dict[int, int] = field(default_factory=dict)
    unheard: set[int] = field(default_factory=set)

    def acknowledge(self, first: int, batch: list[Identity], *, durable: bool) -> None:
        """An append returned ``first`` as the number of a batch."""
        for number, identity in enumerate(batch, start=first):
            assert number not in self.acknowledged, f"number {number} was given twice"
            self.acknowledged[number] = identity
            if durable:
                self.durable.add(number)
        self.batches[batch[0].owner] = max(self.batches.get(batch[0].owner, -1), batch[0].batch)

    def synced(self, next_entry: int) -> None:
        """A sync returned that began when ``next_entry`` was the next number."""
        self.durable_before = max(self.durable_before, next_entry)

    def recovered(self, found: Found) -> None:
        """The log was opened again after a power loss: what it then holds is durable, the rest is gone and its numbers free."""
        self.acknowledged = dict(found)
        self.durable = set()
        self.durable_before = max(found, default=-1) + 1

    def must_be_there(self) -> list[int]:
        """The numbers that no power loss may take."""
        return [
            number for number in self.acknowledged if number < self.durable_before or number in self.durable
        ]

    def check(self, found: Found) -> None:
        """Raise AssertionError unless ``found`` keeps the promise."""
        lost = [number for number in self.must_be_there() if number not in found]
        assert not lost, f"durable entries are lost: {lost[:10]} ({len(lost)}); found {_ends(found)}"
        last = max(found, default=-1)
        holes = [number for number in self.acknowledged if number < last and number not in found]
        assert not holes, f"not a prefix: {holes[:10]} are gone, {last} is there"
        for number, identity in found.items():
            if identity != self.acknowledged.get(number):
                self._check_unacknowledged(number, identity, found)
        assert len(set(found.values())) == len(found), "an entry is there twice"
        _check_batches(found)

    def _check_unacknowledged(self, number: int, identity: Identity, found: Found) -> None:
        """An entry that no append returned is there: then it was on its way, each writer's next batch.

        Where another was given its number, it is the last of the log: an append that was killed before its commit is sealed away, and
        the next segment goes on with its number; while nothing of that segment is durable, the disk may hold what was before it. An
        owner that could not say so may also have recovered the log, and gone on with the numbers of what was gone.
        """
        if number in self.acknowledged:
            wanted = self.acknowledged[number]
            assert number not in self.must_be_there(), f"entry {number} is {identity}, durable is {wanted}"
            last = identity[:2] == found[max(found)][:2] or identity.owner in self.unheard
            assert last, f"entry {number} is {identity}, was acknowledged as {wanted}"
        if identity.owner not in self.unheard:
            newest = self.batches.get(identity.owner, -1)
            assert identity.batch > newest, f"entry {number} is {identity}, acknowledged as another number"
            assert identity.batch <= newest + 1, f"entry {number} is {identity}: nobody wrote that yet"


def _check_batches(found: Found) -> None:
    for number, identity in found.items():
        if identity.position + 1 < identity.size:
            follower = found.get(number + 1)
            whole = follower is not None and follower[:4] == (
                identity.owner,
                identity.batch,
                identity.position + 1,
                identity.size,
            )
            assert whole, f"batch in part: {identity} at {number}, then {follower}"
        if identity.position:
            assert number - 1 in found, f"batch in part: {identity} at {number} without the one before"


def _ends(found: Found) -> str:
    return f"{len(found)} entries, {min(found)} to {max(found)}" if found else "nothing"
