"""Kafka as a target, through confluent-kafka. Needs the extra ``cometlog[kafka]``.

At least once: an idempotent producer, which keeps the order of each partition through its own retries and sends nothing behind a batch
that was refused; a chunk is confirmed when its queue is empty and no error was reported. Exactly once: each chunk is a transaction
that also holds the positions (``kafka_positions``), and the transactional id is the log's, the group's and the assignment's, so a
successor ends what its predecessor left open.

Entries of a shard go to partition shard modulo partitions, or where the hash of their key says if asked to. A record's timestamp is
the entry's, in ms; its header ``cometlog-id`` is the idempotency key ``log/stream/epoch/number``.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from cometlog.errors import ConfigurationError, TargetError
from cometlog.forward.destination import Destination
from cometlog.forward.kafka_client import KafkaError, load_librdkafka
from cometlog.forward.kafka_positions import POSITIONS_PROPERTY, POSITIONS_TOPIC, KafkaPositions
from cometlog.forward.kafka_topics import LIMIT_BYTES, KafkaTopics
from cometlog.forward.target import (
    ID_HEADER,
    EntriesRefusedError,
    KeepWaiting,
    Position,
    Refusal,
    Shipment,
    Target,
)
from cometlog.forward.targets import TargetOptions
from cometlog.kernel.kafka_producer import Producer, ProducerError, code_text

OWNED = frozenset(
    {
        "bootstrap.servers", "enable.idempotence", "acks", "transactional.id", "delivery.report.only.error",
        "batch.num.messages", "message.max.bytes", "message.timeout.ms", "enable.gapless.guarantee",
    }
)  # fmt: skip
"""Properties that the forwarder sets itself."""
OVERHEAD_BYTES = 512
"""The most that a batch of one record is longer than its value and key: headers, the idempotency key among them."""
BATCH_BYTES = 1_000_000
MESSAGE_BYTES = (1000, 1_000_000_000)
"""What librdkafka takes for message.max.bytes; a topic's limit may be any whole number of 32 bits."""
PARTITIONER = "consistent"
"""CRC32, as by default, but not at random for a key that is empty: what is sent again goes where it went before."""
WAIT_MS = 200
COMMIT_MS = 2000
RETRY_S = 30.0
"""How long a call is repeated that Kafka says may succeed later; then the loop says so, and backs off."""
ANY_PARTITION = -1
HEADER = ID_HEADER.encode()
REFUSALS = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD)
"""What a broker says of a batch in which something is wrong with a record, and would say again."""


class KafkaTarget(Target):
    """One producer at a time; it is made anew after an error, and where topics with other limits appear."""

    keeps_position = True

    def __init__(self, destination: Destination, options: TargetOptions) -> None:
        self._destination = destination
        self._options = options
        properties = dict(options.properties)
        positions_topic = properties.pop(POSITIONS_PROPERTY, POSITIONS_TOPIC)
        owned = sorted(OWNED & set(properties))
        if owned:
            raise ConfigurationError(
                f"the property {owned[0]} is the forwarder's own; leave it out of properties"
            )
        self._settings = {
            "client.id": "cometlog", "log_level": "2", **properties, "bootstrap.servers": destination.servers
        }  # fmt: skip
        self._topics = KafkaTopics(self._settings, destination.servers, options.partitions)
        self._positions = KafkaPositions(self._settings, positions_topic, self._topics)
        self._identity = ""
        self._keep_waiting: KeepWaiting = lambda: True
        self._sent: list[tuple[int, Shipment]] = []
        self._records = 0
        self._one_by_one = False
        self._limits_used: set[int] = set()
        load_librdkafka()
        self._producer = self._make_producer({})

    # ---- The producer ----

    def _make_producer(self, more: Mapping[str, str]) -> Producer:
        self._limits_used = set(self._topics.limits.values()) or {LIMIT_BYTES}
        settings = {
            "linger.ms": "5", "partitioner": PARTITIONER, "batch.size": str(max(1, min(BATCH_BYTES, *self._limits_used))),
            "queue.buffering.max.messages": str(self._options.chunk_entries + 1000), **self._settings,
            "message.max.bytes": str(min(max(MESSAGE_BYTES[0], *self._limits_used), MESSAGE_BYTES[1])), "enable.idempotence": "true",
            "delivery.report.only.error": "true", **more,
        }  # fmt: skip
        if self._one_by_one:
            settings |= {"batch.num.messages": "1", "linger.ms": "0"}
        try:
            return Producer(settings)
        except ProducerError as error:
            raise ConfigurationError(f"librdkafka refuses the properties: {error}") from None

    def check(self, names: Iterable[str]) -> None:
        """Find or make the topics."""
        self._topics.find_or_make(names)
        if self._options.exactly_once:
            self._positions.find_or_make_topic()

    def open(self, identity: str, keep_waiting: KeepWaiting) -> None:
        """Make a producer, after dropping what the last one has still to send; end the transactions of a predecessor."""
        self._identity = identity
        self._keep_waiting = keep_waiting
        self._producer.close()
        if not self._options.exactly_once:
            self._producer = self._make_producer(
                {"message.timeout.ms": "0", "enable.gapless.guarantee": "true"}
            )
            return
        number, total = self._options.assignment
        name = f"cometlog.{identity}.{self._options.group}.{number}-of-{total}"
        self._producer = self._make_producer({"transactional.id": name})
        self._until_done(
            lambda: self._producer.init_transactions(COMMIT_MS), f"taking up the transactions of {name}"
        )

    def _until_done(self, call: Callable[[], object], what: str) -> None:
        """Call until it returns; again for RETRY_S where Kafka says that this helps."""
        until_s = monotonic() + RETRY_S
        while True:
            try:
                call()
            except ProducerError as error:
                if not error.is_retriable or monotonic() >= until_s or not self._keep_waiting():
                    raise TargetError(f"{what} failed: {error}{self._complaint()}") from error
            else:
                return

    def _complaint(self) -> str:
        said = self._producer.complaint
        return f" ({said})" if said else ""

    # ---- A chunk ----

    def limit_bytes(self, stream: str) -> int:
        """Return the limit of the stream's topic, less what a record has around it."""
        limit = self._topics.limits.get(self._destination.name_for(stream), LIMIT_BYTES)
        return max(0, limit - OVERHEAD_BYTES)

    def positions(self, streams: Iterable[str], keep_waiting: KeepWaiting) -> dict[str, Position]:
        """Read the positions back."""
        return self._positions.read(self._identity, self._options.group, streams, keep_waiting)

    def begin(self) -> None:
        """Begin a transaction, in exactly-once mode; with a new producer where the limits are others now."""
        if not self._one_by_one and self._limits_used != (set(self._topics.limits.values()) or {LIMIT_BYTES}):
            self.open(self._identity, self._keep_waiting)
        self._sent.clear()
        self._records = 0
        if self._options.exactly_once:
            self._until_done(self._producer.begin_transaction, "beginning a transaction")

    def ship(self, shipment: Shipment, keep_waiting: KeepWaiting) -> None:
        """Put the entries into the client's queue."""
        topic = self._destination.name_for(shipment.stream)
        partition = shipment.shard % self._topics.partitions[topic]
        self._sent.append((self._records, shipment))
        done, total = 0, len(shipment.numbers)
        while done < total:
            try:
                done = self._producer.produce(
                    topic.encode(), partition, ANY_PARTITION if self._options.by_key else partition, HEADER, shipment.prefix,
                    shipment.payloads, shipment.keys, shipment.numbers, shipment.timestamps_ns, done, self._records,
                )  # fmt: skip
            except ProducerError as error:
                self._producer.poll(0)
                self._raise_failures()
                raise TargetError(f"librdkafka takes no record for {topic}: {error}") from error
            self._serve(0 if done == total else WAIT_MS, keep_waiting)
        self._records += total

    def _serve(self, wait_ms: int, keep_waiting: KeepWaiting) -> None:
        self._producer.poll(wait_ms)
        self._raise_failures()
        if not keep_waiting():
            raise TargetError(
                f"Kafka at {self._destination.servers} did not confirm what was sent{self._complaint()}"
            )

    def finish(self, positions: Mapping[str, Position], keep_waiting: KeepWaiting) -> None:
        """Wait until the queue is empty; in exactly-once mode, add the positions and commit."""
        if self._options.exactly_once:
            self._send_positions(positions)
        while not self._producer.flush(WAIT_MS):
            self._serve(0, keep_waiting)
        self._raise_failures()
        if self._options.exactly_once:
            self._until_done(lambda: self._producer.commit_transaction(COMMIT_MS), "committing a transaction")
        if self._one_by_one:
            self._one_by_one = False
            self._limits_used = set()

    def _send_positions(self, positions: Mapping[str, Position]) -> None:
        try:
            self._positions.send(self._producer, self._identity, self._options.group, positions)
        except ProducerError as error:
            self._producer.poll(0)
            self._raise_failures()
            raise TargetError(f"librdkafka takes no record for {self._positions.topic}: {error}") from error

    def _raise_failures(self) -> None:
        """Raise what delivery reports have told since the producer was made."""
        failed, listed = self._producer.failures()
        if not failed:
            return
        if self._one_by_one:
            refused = [(record, code) for record, code in listed if code in REFUSALS and record >= 0]
            if refused:
                raise EntriesRefusedError([self._refusal(record, code) for record, code in refused])
        self._one_by_one |= any(code in REFUSALS for _, code in listed)
        raise TargetError(
            f"Kafka at {self._destination.servers} did not take {failed} records: {code_text(listed[0][1])}{self._complaint()}"
        )

    def _refusal(self, record: int, code: int) -> Refusal:
        place = bisect_right(self._sent, record, key=lambda sent: sent[0]) - 1
        first, shipment = self._sent[place]
        return Refusal(shipment.stream, shipment.numbers[record - first], code_text(code))

    def close(self) -> None:
        """Drop what was not confirmed; a transaction that is open is ended by the next forwarder, or by Kafka."""
        self._producer.close()
        self._topics.close()
