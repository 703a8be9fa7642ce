"""A storm: a log that is written and forwarded by real processes while the forwarder is killed again and again.

A turn is the life of one forwarder: the writer appends a piece, and the forwarder is killed with SIGKILL in the midst of shipping it.
After each kill the group's positions are noted: that is where the next forwarder may begin to repeat what was sent already.
"""

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cometlog.group_offsets import GroupOffsets
from storm_workers import ENTRY_BYTES
from support import Worker, owner_and_sequence

STREAMS = tuple(f"storm:v1:shard:{shard:04d}" for shard in range(4))
GROUP = "storm"
_WORKERS = Path(__file__).with_name("storm_workers.py")
_LEASH = ("setpriv", "--pdeathsig", "KILL")  # a forwarder does not outlive the thread that started it
_LOOK_S = 0.002
_UNACKNOWLEDGED = 500  # more than the marks with which transactions end
_DRAIN_S_MAX = 240.0
_LIFE_S_MAX = 120.0


@dataclass(frozen=True)
class Pace:
    """How a storm goes: its entries, how many forwarders are killed, and how long one lives.

    ``life_s`` seconds, and where it has sent nothing by then, until it has; None: until a part of its piece, drawn anew each time, has
    reached the target and some of that is not acknowledged, however long that takes. ``batch_entries`` are confirmed together.
    """

    entries: int
    kills: int
    life_s: float | None
    batch_entries: int


class Storm:
    """A log, its writer, and one forwarder after the other; ``arrived`` counts what has reached the target."""

    def __init__(
        self, directory: Path, start_worker: type[Worker], rng: random.Random, pace: Pace, arrived: Callable[[], int],
        arguments: Iterable[str],
    ) -> None:  # fmt: skip
        self.root = directory / "log"
        self.said = directory / "forwarders.log"
        self.kills = Counter[str]()
        self.resumed: list[set[int]] = [{0} for _ in STREAMS]
        self.written = [0] * len(STREAMS)
        self._pace = pace
        self._arguments = [
            *(str(self.root), "--group", GROUP, "--streams", "storm:*"),
            *("--batch-size", str(pace.batch_entries), *arguments),
        ]
        self._rng = rng
        self._arrived = arrived
        self.server_is_away = threading.Event()
        self._giving_up = threading.Event()
        self._writer = start_worker("write", script=_WORKERS, root=str(self.root), streams=STREAMS)
        self._writer.hear()

    def run(self) -> None:
        """Go through all turns; afterwards every entry is written and no forwarder lives."""
        pace, before = self._pace, 0
        for turn in range(1, pace.kills + 1):
            until = pace.entries * turn // pace.kills
            self._turn(until - before)
            before = until
        self._writer.tell(None)
        assert self._writer.end() == 0, "the writer failed"

    def drain(self) -> None:
        """Forward what is left by a forwarder that nobody kills."""
        last = self._start("--until-caught-up")
        try:
            code = last.wait(_DRAIN_S_MAX)
        finally:
            _end(last)
        assert code == 0, f"the last forwarder ended with code {code}:\n{self._tail()}"

    def standing(self) -> list[int]:
        """Return the number of the next entry of the group in each shard."""
        return [self._standing(shard) for shard in range(len(STREAMS))]

    def give_up(self) -> None:
        """End the turn that is under way: what was to be shown cannot be shown any more."""
        self._giving_up.set()

    def _turn(self, piece: int) -> None:
        """Have a piece written, and end the life of a forwarder in the midst of it; one that finds no server is started again."""
        began, before, life_s = time.monotonic(), self._arrived(), self._pace.life_s
        positions = self.standing()
        self._writer.tell([piece, life_s or 0.0])
        part = self._rng.randint(piece // 5, piece // 2)

        def is_over() -> bool:
            if self._giving_up.is_set():
                return True
            if life_s is not None and time.monotonic() < began + life_s:
                return False
            arrived = self._arrived() - before
            if life_s is not None:
                return arrived > 0
            acknowledged = sum(self.standing()) - sum(positions)
            return arrived >= part and (arrived >= acknowledged + _UNACKNOWLEDGED or acknowledged >= piece)

        while self._live(is_over, began + _LIFE_S_MAX) != -signal.SIGKILL:
            self.kills["starts_without_a_server"] += 1
        self.written = self._writer.hear()
        for shard, number in enumerate(self.standing()):
            self.resumed[shard].add(number)
        self.kills["forwarders_killed"] += 1
        self.kills["killed_after_something_arrived"] += self._arrived() > before
        self.kills["killed_after_acknowledging"] += self.standing() != positions

    def _live(self, is_over: Callable[[], bool], deadline_s: float) -> int:
        """Start a forwarder and kill it when it is time; return how it ended: killed, or with code 2 while its server was away."""
        was_away = self.server_is_away.is_set()
        forwarder = self._start()
        try:
            while forwarder.poll() is None and not is_over():
                assert time.monotonic() < deadline_s, f"a forwarder got nowhere:\n{self._tail()}"
                time.sleep(_LOOK_S)
        finally:
            _end(forwarder)
        code = forwarder.returncode
        may_refuse = was_away or self.server_is_away.is_set()
        assert code == -signal.SIGKILL or (code == 2 and may_refuse), (
            f"a forwarder ended with code {code}:\n{self._tail()}"
        )
        return code

    def _start(self, *more: str) -> "subprocess.Popen[bytes]":
        with self.said.open("ab") as said:
            return subprocess.Popen(
                [*_LEASH, sys.executable, "-m", "cometlog", "forward", *self._arguments, *more],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def _standing(self, shard: int) -> int:
        directory = self.root / "storm" / "v1" / f"{shard:04d}"
        try:
            offsets = GroupOffsets(directory, STREAMS[shard])
        except FileNotFoundError:
            return 0  # no forwarder has come that far yet
        try:
            line = offsets.find(GROUP)
            return 0 if line is None else line.position or 0
        finally:
            offsets.close()

    def _tail(self) -> str:
        return self.said.read_text(errors="replace")[-3000:]


def _end(forwarder: "subprocess.Popen[bytes]") -> None:
    if forwarder.poll() is None:
        forwarder.kill()
    forwarder.wait(_LIFE_S_MAX)


def sequence_of(value: bytes, shard: int) -> int:
    """Return which entry of a shard a record is, having checked every byte of it."""
    owner, sequence = owner_and_sequence(value)
    assert (owner, len(value)) == (shard, ENTRY_BYTES), f"shard {shard} got {value!r}"
    return sequence


@dataclass(frozen=True)
class Arrivals:
    """What arrived of a shard: entries, entries that came again, and the runs in which they came."""

    entries: int
    repeated: int
    runs: int


def check_runs(numbers: Iterable[int], may_begin_again: set[int]) -> Arrivals:
    """Check that numbers come in order from 0, begun again only where a forwarder was told to; nothing is left out.

    A run of repeated entries begins at a position that the group had when a forwarder was killed, goes on without a gap, and leads
    into what is new unless it is broken off by another run.
    """
    expected = following = repeated = runs = 0
    for number in numbers:
        if number != expected:
            assert number < following, f"entry {number} came before {following}"
            assert number in may_begin_again, (
                f"entry {number} came again after {expected - 1}, no forwarder began there"
            )
            runs += 1
        repeated += number < following
        expected = number + 1
        following = max(following, expected)
    return Arrivals(following, repeated, runs)
