"""The contract of a target: what entries are shipped to, chunk by chunk.

A chunk is what is confirmed together: ``begin``, ``ship`` several times, ``finish``. Order per stream is the target's promise. Once
``finish`` returned, every entry of the chunk is in the target's care; whatever it or ``ship`` raised, nothing of the chunk counts as
confirmed, ``open`` lets go of what is under way so that none of it can arrive behind what is sent next, and the chunk is shipped
again from the positions on. A target is used by one thread.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cometlog.errors import TargetError

ID_HEADER = "cometlog-id"
"""The name under which the idempotency key travels beside an entry."""
CHECK_TIMEOUT_S = 6.0
"""How long a target may take to answer before it counts as unreachable; a bad address is reported within 10 s."""

KeepWaiting = Callable[[], bool]
"""Asked a few times a second while a target waits; False: give up, with TargetError."""


class Position(NamedTuple):
    """How far a stream was shipped: ``next_entry`` follows, and the last one shipped was of ``epoch``."""

    epoch: int
    next_entry: int


@dataclass(frozen=True, slots=True)
class Shipment:
    """Entries of one stream and one epoch, in order.

    ``prefix`` with an entry's number behind it is that entry's idempotency key: log, stream, epoch, number. ``keys`` has an item for
    each entry, or is None where there is no key extractor. ``next_entry`` is where the stream goes on.
    """

    stream: str
    shard: int
    epoch: int
    prefix: bytes
    numbers: list[int]
    timestamps_ns: list[int]
    payloads: list[bytes]
    keys: list[bytes | None] | None
    next_entry: int

    def ids(self) -> Iterable[bytes]:
        """Return the idempotency keys of the entries."""
        prefix = self.prefix
        return [b"%b%d" % (prefix, number) for number in self.numbers]


class Refusal(NamedTuple):
    """An entry that the target will never take, and why."""

    stream: str
    number: int
    reason: str


class EntriesRefusedError(TargetError):
    """Some entries of a chunk will never be taken. Attribute ``refusals`` names them; nothing of the chunk is confirmed."""

    def __init__(self, refusals: list[Refusal]) -> None:
        first = refusals[0]
        super().__init__(
            f"{len(refusals)} entries were refused, the first entry {first.number} of {first.stream}: {first.reason}"
        )
        self.refusals = refusals


class Target(ABC):
    """Something that takes entries. ``keeps_position``: it stores positions with the entries, which makes exactly-once possible."""

    keeps_position = False

    @abstractmethod
    def check(self, names: Iterable[str]) -> None:
        """Connect, and see that these topics or subjects are there, or make them.

        Called before anything is written to the log, and again with the names of streams that appear. Raises TargetError within 10 s
        where the target does not answer, or has no such topic and may not make it.
        """

    @abstractmethod
    def open(self, identity: str, keep_waiting: KeepWaiting) -> None:
        """Get ready to send for the log of this identity; after an error, let go of everything that is under way first.

        Raises TargetError.
        """

    @abstractmethod
    def limit_bytes(self, stream: str) -> int:
        """Return how many bytes an entry of a stream and its key may have; what is longer goes to the dead letters."""

    @abstractmethod
    def positions(self, streams: Iterable[str], keep_waiting: KeepWaiting) -> dict[str, Position]:
        """Return how far streams were shipped as the target remembers it; asked only of a target that keeps positions.

        A stream that it does not know is missing. Raises TargetError.
        """

    @abstractmethod
    def begin(self) -> None:
        """Begin a chunk."""

    @abstractmethod
    def ship(self, shipment: Shipment, keep_waiting: KeepWaiting) -> None:
        """Send entries without waiting for their confirmation; waits only where the target's own queue is full."""

    @abstractmethod
    def finish(self, positions: Mapping[str, Position], keep_waiting: KeepWaiting) -> None:
        """Wait until everything since ``begin`` is confirmed; a target that keeps positions stores these with it.

        Raises TargetError where it is not, EntriesRefusedError where some entries never will be.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go. Closing twice is harmless; what was not confirmed is dropped."""


@dataclass(slots=True)
class ForwardStatistics:
    """What one forwarder has done since it began, and how it stands.

    ``forwarded`` entries of ``forwarded_bytes`` were confirmed, in ``chunks``; ``dead_letters`` went to the dead-letter stream
    instead, or are dead letters themselves, which stay where they are.
    ``failures`` times the target failed, after which ``resent`` entries were sent again. ``lost`` entry numbers had been removed by a
    forced retention before they were forwarded. ``lag`` entries of ``streams`` are still to be forwarded; ``left_out`` are streams
    that appeared and that the target cannot take for now. ``state`` is "starting", "forwarding", "waiting" (for entries),
    "backing off" (after ``last_error``), or "stopped".
    """

    forwarded: int = 0
    forwarded_bytes: int = 0
    chunks: int = 0
    dead_letters: int = 0
    failures: int = 0
    resent: int = 0
    lost: int = 0
    lag: int = 0
    state: str = "starting"
    last_error: str = ""
    streams: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
