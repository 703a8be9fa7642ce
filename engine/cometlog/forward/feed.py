"""What a forwarder reads: the streams of its group in turn, as shipments.

Invariant: between ``rewind`` and the next, each stream's shipments follow one another without a gap but for numbers that no entry has;
numbers that a forced retention removed are counted as lost. At least once, a reset of the group is followed once it is
noticed, as every consumer does.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator

from cometlog.client import Client
from cometlog.consumer import Consumer
from cometlog.errors import TargetError
from cometlog.forward.shipments import Packer
from cometlog.forward.target import CHECK_TIMEOUT_S, Shipment
from cometlog.names import parse_stream
from cometlog.read_batch import ReadBatch
from cometlog.sleeper import Sleeper

DISCOVERY_S = 1.0
POLL_S_MAX = 1.0
_log = logging.getLogger("cometlog.forward")


class Feed:
    """``matching()`` lists the streams on disk that belong here; ``take_up(new)`` is told of new ones before they are read.

    ``names`` are those that are read; ``left_out`` says why, of those that ``take_up`` did not take for now. ``is_led``: the group
    follows the target, so a stream whose group somebody moved back is not read until ``rewind``, which ``needs_rewind`` asks for.
    """

    def __init__(
        self, client: Client, consumer: Consumer, packer: Packer, read_entries: int,
        matching: Callable[[], list[str]], take_up: Callable[[list[str]], None], *, is_led: bool,
    ) -> None:  # fmt: skip
        self.lost = 0
        self.needs_rewind = False
        self.names: list[str] = []
        self.left_out: dict[str, str] = {}
        self.read_entries = read_entries
        self._client = client
        self._consumer = consumer
        self._packer = packer
        self._matching = matching
        self._take_up = take_up
        self._is_led = is_led
        self._turn = 0
        self._due_s = 0.0
        self._following: dict[str, int] = {}
        self._rest: Iterator[Shipment] = iter(())

    def discover(self) -> None:
        """Look for streams that appeared, once a second. Raises what ``take_up`` raises the first time.

        Later, where a target cannot take a new stream, the others go on, and the new one is tried again.
        """
        if time.monotonic() < self._due_s:
            return
        found = self._matching()
        new = [name for name in found if name not in self._following]
        if self._due_s:
            left_out = self._take_up_what_goes(new, time.monotonic() + CHECK_TIMEOUT_S)
            for name in left_out:
                if left_out[name] != self.left_out.get(name):
                    _log.warning("%s; %s is left out for now", left_out[name], name)
            self.left_out = left_out
        else:
            self._take_up_all(new)
        self.names = [name for name in found if name in self._following]
        self._due_s = time.monotonic() + DISCOVERY_S

    def _take_up_all(self, new: list[str]) -> None:
        if new:
            self._take_up(new)
        for name in new:
            self._following[name] = self._consumer.position(name).following

    def _take_up_what_goes(self, new: list[str], until_s: float) -> dict[str, str]:
        """Take up all of them, or of each half what goes, as long as there is time; return why the others are left out."""
        try:
            self._take_up_all(new)
        except TargetError as error:
            if len(new) == 1 or time.monotonic() >= until_s:
                return dict.fromkeys(new, str(error))
            random.shuffle(new)  # so that none is always behind those that take all the time
            half = len(new) // 2
            return self._take_up_what_goes(new[:half], until_s) | self._take_up_what_goes(new[half:], until_s)
        return {}

    def next(self) -> Shipment | None:
        """Return the next shipment, at most ``read_entries`` long; None where nothing is new in any stream."""
        while True:
            shipment = next(self._rest, None)
            if shipment is not None:
                return shipment
            batch = self._next_batch()
            if batch is None:
                return None
            self._rest = self._packer.pack(batch)

    def _next_batch(self) -> ReadBatch | None:
        """Give each stream its turn, beginning with the one behind the last that had something."""
        names = self.names
        for step in range(len(names)):
            stream = names[(self._turn + step) % len(names)]
            if self._is_led and self._consumer.position(stream).moved_back:
                self.needs_rewind = True
                continue
            batch = self._consumer.read_one(stream, self.read_entries)
            if len(batch):
                self._turn = (self._turn + step + 1) % len(names)
                self._count_lost(batch)
                return batch
        return None

    def _count_lost(self, batch: ReadBatch) -> None:
        expected, self._following[batch.stream] = self._following[batch.stream], batch.next_entry
        if batch.start <= expected:
            return
        lost = min(self._client.first_entry(batch.stream), batch.start) - expected
        if lost > 0:
            self.lost += lost
            _log.warning(
                "retention removed entries %d to %d of %s before they were forwarded",
                expected, expected + lost - 1, batch.stream,
            )  # fmt: skip

    def rewind(self, adopt: Callable[[list[str]], None]) -> None:
        """Go back to the group's position in every stream, as it is after ``adopt(names)``, which may move it."""
        self._rest = iter(())
        for stream in self._following:
            self._consumer.deliver_again(stream)
        adopt(self.names)
        for stream in self._following:
            self._following[stream] = self._consumer.position(stream).following
        self.needs_rewind = False

    def lag(self) -> int:
        """Return how many entries are still to be acknowledged in all streams."""
        return sum(self._consumer.lag(name) for name in self.names)

    def sleep(self, sleeper: Sleeper, ticket: int) -> None:
        """Sleep until something is appended, for a second at most."""
        names = self.names
        directories = [parse_stream(name).directory(self._client.path) for name in names]
        left_s = min(POLL_S_MAX, max(0.001, self._due_s - time.monotonic()))
        sleeper.sleep(
            directories, ticket, left_s, lambda: any(self._consumer.has_new(name) for name in names)
        )
