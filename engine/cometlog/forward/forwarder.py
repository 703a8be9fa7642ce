"""The loop of a forwarder: read as a group, ship a chunk, wait until it is confirmed, acknowledge; again after an error.

Thread safety: ``run`` belongs to one thread; ``stop`` and ``stats`` may be called from any other and from a signal handler.
Invariants: the group's position never passes an entry that the target did not confirm or a dead letter does not hold; after an error
nothing that was under way can arrive behind what is sent next. Memory: one chunk, of ``batch_size`` entries and CHUNK_BYTES, and one
piece of a segment beyond that; back-pressure is the group's lag, never a writer's wait.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Literal, Self

from cometlog.client import Client
from cometlog.errors import ClosedError, ConfigurationError, ReadOnlyError, TargetError
from cometlog.forward.backoff import Backoff
from cometlog.forward.dead_letters import DeadLetters
from cometlog.forward.destination import parse_destination
from cometlog.forward.feed import Feed
from cometlog.forward.identity import log_identity
from cometlog.forward.positions import adopt_positions
from cometlog.forward.shipments import KeyExtractor, Packer, split
from cometlog.forward.stream_locks import StreamLocks
from cometlog.forward.target import EntriesRefusedError, ForwardStatistics, Position, Shipment
from cometlog.forward.targets import TargetOptions, open_target
from cometlog.kernel import layout
from cometlog.names import check_group_name, owns_shard
from cometlog.sleeper import Sleeper

MODES = ("at-least-once", "exactly-once")
PARTITION_BY = ("shard", "key")
BATCH_SIZE_DEFAULT = 100_000
BATCH_SIZE_MAX = 1_000_000
PARTITIONS_MAX = 10_000
READ_ENTRIES = 10_000
CHUNK_BYTES = 32 << 20
CHUNK_S = 0.3
LAG_S = 0.5
"""How often the loop looks at the lag while it forwards, or waits for the target."""
DRAIN_S = 10.0
"""How long a chunk that is under way may take once ``stop`` was called."""
_log = logging.getLogger("cometlog.forward")


class Forwarder:
    """Ships the matching streams of a client's log to ``to``; see ``cometlog.forward.destination`` for the URL.

    ``group`` the consumer group whose position says what was forwarded; ``streams`` a pattern or several; ``mode`` "at-least-once", or
    "exactly-once" where the target stores positions with the entries (Kafka, JetStream); ``key(data)`` gives an entry's key, or None;
    ``partition_by`` "shard" (entries of a shard stay in order in partition shard modulo partitions) or "key" (the key's hash
    chooses, so order holds per key only); ``batch_size`` the most entries that are confirmed together; ``assignment`` (id, total) this
    forwarder's part of the shards; ``dead_letter`` the namespace of what the target will not take (default: the group's name and
    "-dead-letter"); ``partitions`` of a topic that has to be made; ``properties`` go to the client library as they are, but for
    "cometlog.positions.topic", the topic of exactly-once positions (default: cometlog-positions).

    At least once, the group is the truth: what it has not acknowledged is sent, and after a kill the last batch may be sent again.
    Exactly once, what the target holds is the truth, and the group follows it, also after a reset.

    Raises DestinationError, ConfigurationError, GroupNameError, StreamNameError, ReadOnlyError, ExtraMissingError.
    """

    def __init__(
        self, client: Client, *, to: str, group: str = "forward", streams: str | list[str] = "*",
        mode: Literal["at-least-once", "exactly-once"] = "at-least-once", key: KeyExtractor | None = None,
        partition_by: Literal["shard", "key"] = "shard", batch_size: int = BATCH_SIZE_DEFAULT,
        assignment: tuple[int, int] | None = None, dead_letter: str | None = None, partitions: int | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if client.read_only:
            raise ReadOnlyError(
                f"the client of {client.path} was opened read-only; a forwarder must acknowledge"
            )
        self.group = check_group_name(group)
        self.destination = parse_destination(to)
        _check_choice("mode", mode, MODES)
        _check_choice("partition_by", partition_by, PARTITION_BY)
        if partition_by == "key" and key is None:
            raise ConfigurationError("partition_by='key' needs a key extractor: give key")
        _check_whole("batch_size", batch_size, BATCH_SIZE_MAX)
        if partitions is not None:
            _check_whole("partitions", partitions, PARTITIONS_MAX)
        owns_shard(0, assignment or (0, 1))
        self._client = client
        self._streams = streams
        self._exactly_once = mode == "exactly-once"
        self._batch_size = batch_size
        self._key = key
        self._assignment = assignment
        self._dead_letters = DeadLetters(client, dead_letter or f"{group}-dead-letter", CHUNK_BYTES)
        options = TargetOptions(
            group=group, assignment=assignment or (0, 1), exactly_once=mode == "exactly-once",
            by_key=partition_by == "key", partitions=partitions, chunk_entries=batch_size, properties=dict(properties or {}),
        )  # fmt: skip
        self._target = open_target(self.destination, options)
        if mode == "exactly-once" and not self._target.keeps_position:
            raise ConfigurationError(
                f"mode='exactly-once' needs a target that stores positions with the entries; {self.destination.scheme} does not"
            )
        self._consumer = client.consumer(group)
        self._locks = StreamLocks(client.path, group, client.config.storage.file_mode)
        self._sleeper = Sleeper(may_write=True)
        self._backoff = Backoff()
        self._stats = ForwardStatistics()
        self._feed: Feed | None = None
        self._chunk = Chunk()
        self._refused: dict[tuple[str, int], str] = {}
        self._give_up_s = float("inf")
        self._lag_noted_s = 0.0
        self._closed = False

    # ---- Ends ----

    def check(self) -> None:
        """See that the target answers and has, or makes, what the streams go to; writes nothing to the log.

        ``run`` does it first. Raises TargetError within 10 s, StreamNameError for a pattern that is none.
        """
        if self._closed:
            raise ClosedError(f"the forwarder of group {self.group!r} is closed")
        self._target.check(self._names_at_target(self._matching()))

    def stop(self) -> None:
        """Make ``run`` return once the chunk that is under way is confirmed, or 10 s later without; entries stay to be sent then.

        Any thread or signal handler may call it.
        """
        self._give_up_s = time.monotonic() + DRAIN_S
        self._sleeper.stop()

    def close(self) -> None:
        """Let go of the target, the locks and the group. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._target.close()
        self._consumer.close()
        self._locks.close()
        self._sleeper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stats(self) -> ForwardStatistics:
        """Return what was done so far, and the lag as the loop saw it last: about a second ago, or before a pause of backing off."""
        feed = self._feed
        if feed is None:
            return replace(self._stats)
        return replace(self._stats, lost=feed.lost, streams=list(feed.names), left_out=list(feed.left_out))

    # ---- The loop ----

    def run(self, *, until_caught_up: bool = False) -> None:
        """Forward until ``stop``, or until everything that is there is confirmed.

        Raises TargetError where the target does not answer at the beginning; later it is tried again for as long as it takes. A
        stream that appears and that the target cannot take is left out and tried again; where ``until_caught_up`` ends without it,
        TargetError says so. Raises ForwarderBusyError where another process forwards one of the streams for this group,
        ForwardPositionError where the log is an older copy of what was forwarded, CorruptionError at damage.
        """
        self.check()
        self._identity = log_identity(self._client.path, self._client.config.storage.file_mode)
        feed = self._feed or Feed(
            self._client, self._consumer, Packer(self._identity, self._key), min(READ_ENTRIES, self._batch_size),
            self._matching, self._take_up, is_led=self._exactly_once,
        )  # fmt: skip
        self._feed = feed
        is_ready = False
        try:
            while not self._sleeper.stopped:
                ticket = self._sleeper.ticket()
                try:
                    if not is_ready or feed.needs_rewind:
                        self._get_ready(feed)
                        is_ready = True
                    feed.discover()
                    if self._forward_chunk(feed) or feed.needs_rewind:
                        continue
                except TargetError as error:
                    is_ready = False
                    self._note_failure(error)
                    continue
                self._note_lag()
                if until_caught_up:
                    _check_complete(feed)
                    break
                self._stats.state = "waiting"
                feed.sleep(self._sleeper, ticket)
            self._note_lag()
        finally:
            self._end()

    def _end(self) -> None:
        self._stats.state = "stopped"
        self._sleeper.stopped = False
        self._give_up_s = float("inf")
        if not self._consumer.closed:
            self._consumer.checkpoint()

    def _note_lag(self, every_s: float = 0.0) -> None:
        """Look at the lag, unless that was less than ``every_s`` ago; ``stats`` cannot, because readers have locks."""
        now_s = time.monotonic()
        is_due = now_s >= self._lag_noted_s + every_s
        if is_due and self._feed is not None and not self._consumer.closed:
            self._stats.lag = self._feed.lag()
            self._lag_noted_s = now_s

    def _keep_waiting(self) -> bool:
        self._note_lag(LAG_S)
        return time.monotonic() < self._give_up_s

    def _matching(self) -> list[str]:
        found = self._consumer.matching(self._streams, self._assignment)
        return [name for name in found if not self._dead_letters.owns(name)]

    def _names_at_target(self, streams: list[str]) -> list[str]:
        template = self.destination.template
        fixed = set() if "{" in template else {template}
        return sorted(fixed | set(map(self.destination.name_for, streams)))

    def _get_ready(self, feed: Feed) -> None:
        """Connect, and go back to what is known to have arrived."""
        if self._stats.failures:
            self._target.check(self._names_at_target(feed.names))
        self._target.open(self._identity, self._keep_waiting)
        feed.rewind(self._adopt)

    def _adopt(self, streams: list[str]) -> None:
        if self._exactly_once and streams:
            found = self._target.positions(streams, self._keep_waiting)
            adopt_positions(self._client, self._consumer, found)
            self._dead_letters.recall()

    def _take_up(self, streams: list[str]) -> None:
        """Get ready for streams that appeared."""
        self._target.check(self._names_at_target(streams))
        for stream in streams:
            self._consumer.position(stream)
            self._locks.take(stream)
        self._adopt(streams)

    def _note_failure(self, error: TargetError) -> None:
        """Wait before the target is tried again; at once where it only refused some entries, which go to the dead letters."""
        self._stats.last_error = str(error)
        self._stats.failures += 1
        self._stats.resent += self._chunk.entries
        for stream in self._chunk.positions:
            self._consumer.count(stream, layout.STATISTICS_HANDLER_ERRORS)
            self._consumer.count(stream, layout.STATISTICS_HANDLER_RETRIES)
        self._chunk = Chunk()
        if isinstance(error, EntriesRefusedError):
            self._refused.update({(item.stream, item.number): item.reason for item in error.refusals})
            return
        self._note_lag()
        pause_s = self._backoff.next_s()
        self._stats.state = "backing off"
        _log.warning("%s; tried again in %.1f s", error, pause_s)
        self._sleeper.pause(pause_s)

    def _forward_chunk(self, feed: Feed) -> bool:
        """Ship what is there, a chunk at most, and acknowledge it; return whether there was anything."""
        shipment = feed.next()
        if shipment is None:
            return False
        self._stats.state = "forwarding"
        chunk = self._chunk = Chunk()
        self._target.begin()
        until_s = time.monotonic() + CHUNK_S
        while shipment is not None:
            self._ship(shipment, chunk)
            is_full = chunk.entries + feed.read_entries > self._batch_size or chunk.size_bytes >= CHUNK_BYTES
            if is_full or time.monotonic() >= until_s or self._sleeper.stopped:
                break
            shipment = feed.next()
        self._target.finish(chunk.positions, self._keep_waiting)
        self._acknowledge(chunk)
        self._chunk = Chunk()
        return True

    def _ship(self, shipment: Shipment, chunk: "Chunk") -> None:
        limit_bytes = self._target.limit_bytes(shipment.stream)
        rest, letters = split(shipment, limit_bytes, self._refused)
        if letters:
            self._stats.dead_letters += self._dead_letters.append(letters)
        if rest.numbers:
            self._target.ship(rest, self._keep_waiting)
        chunk.add(shipment, rest)

    def _acknowledge(self, chunk: "Chunk") -> None:
        for stream, position in chunk.positions.items():
            self._consumer.position(stream).ack_range(chunk.starts[stream], position.next_entry)
        self._consumer.checkpoint_when_due()
        self._dead_letters.forget()
        self._refused.clear()
        self._backoff.reset()
        self._stats.forwarded += chunk.forwarded
        self._stats.forwarded_bytes += chunk.forwarded_bytes
        self._stats.chunks += 1
        self._note_lag(LAG_S)


class Chunk:
    """What was shipped since ``begin``: by stream, where it starts and the position behind it."""

    def __init__(self) -> None:
        self.starts: dict[str, int] = {}
        self.positions: dict[str, Position] = {}
        self.entries = 0
        self.size_bytes = 0
        self.forwarded = 0
        self.forwarded_bytes = 0

    def add(self, shipment: Shipment, rest: Shipment) -> None:
        """Count a shipment, of which ``rest`` went to the target and the others to the dead letters."""
        size_bytes = sum(map(len, shipment.payloads))
        self.starts.setdefault(shipment.stream, shipment.numbers[0])
        self.positions[shipment.stream] = Position(shipment.epoch, shipment.next_entry)
        self.entries += len(shipment.numbers)
        self.size_bytes += size_bytes
        self.forwarded += len(rest.numbers)
        self.forwarded_bytes += size_bytes if rest is shipment else sum(map(len, rest.payloads))


def _check_complete(feed: Feed) -> None:
    """Raise TargetError where a stream is left out."""
    for name, why in feed.left_out.items():
        total = len(feed.names) + len(feed.left_out)
        raise TargetError(f"{len(feed.left_out)} of {total} streams were left out, the first {name}: {why}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name} is {' or '.join(map(repr, choices))}, got {value!r}")


def _check_whole(name: str, value: object, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
        raise ConfigurationError(f"{name} is a whole number from 1 to {high}, got {value!r}")
