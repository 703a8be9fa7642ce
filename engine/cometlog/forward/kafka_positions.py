"""How far each stream was forwarded, kept in Kafka in the same transactions as the entries: a compacted topic.

A record's key is ``<log>/<group>/<stream>``, its value JSON with ``epoch`` and ``next_entry``; the last one of a key counts. All of a
log and group lie in one partition, chosen by their hash, so the number of partitions must not change. They are read back up to the
end of that partition as it was when reading began, and only what was committed, which waits for transactions that are open.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from zlib import crc32

from cometlog.errors import TargetError
from cometlog.forward.kafka_client import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
    text_of,
)
from cometlog.forward.kafka_topics import KafkaTopics
from cometlog.forward.target import KeepWaiting, Position
from cometlog.kernel.kafka_producer import Producer

POSITIONS_TOPIC = "cometlog-positions"
POSITIONS_PROPERTY = "cometlog.positions.topic"
"""The property that names another topic."""
CONFIG = {"cleanup.policy": "compact"}
_WAIT_S = 0.2


class KafkaPositions:
    """The positions of one log and group."""

    def __init__(self, client: dict[str, str], topic: str, topics: KafkaTopics) -> None:
        self.topic = topic
        self._settings = client
        self._topics = topics

    def find_or_make_topic(self) -> None:
        """See that the topic is there. Raises TargetError."""
        self._topics.find_or_make([self.topic], CONFIG)

    def partition(self, identity: str, group: str) -> int:
        """Return where the positions of a log and group are."""
        return crc32(f"{identity}/{group}".encode()) % self._topics.partitions[self.topic]

    def send(self, producer: Producer, identity: str, group: str, positions: Mapping[str, Position]) -> None:
        """Add the positions to the transaction that is open."""
        partition = self.partition(identity, group)
        for stream, position in positions.items():
            value = json.dumps(position._asdict()).encode()
            key = f"{identity}/{group}/{stream}".encode()
            producer.produce_plain(self.topic.encode(), partition, key, value)

    def read(
        self, identity: str, group: str, streams: Iterable[str], keep_waiting: KeepWaiting
    ) -> dict[str, Position]:
        """Return the committed positions. Raises TargetError where Kafka does not give them."""
        prefix = f"{identity}/{group}/"
        wanted = {f"{prefix}{stream}".encode(): stream for stream in streams}
        found: dict[str, Position] = {}
        partition = self.partition(identity, group)
        end = self._topics.end(self.topic, partition)
        consumer = self._consumer()
        try:
            consumer.assign([TopicPartition(self.topic, partition, OFFSET_BEGINNING)])
            reached = 0
            while reached < end:
                if not keep_waiting():
                    raise TargetError(f"the positions in the topic {self.topic!r} were not read to their end")
                record = consumer.poll(_WAIT_S)
                if record is None:
                    continue
                reached = _behind(record)
                if record.error() is None and record.key() in wanted:
                    with suppress(ValueError, TypeError):  # not of this project's making
                        found[wanted[record.key()]] = Position(**json.loads(record.value()))
        except KafkaException as error:
            raise TargetError(
                f"the positions in the topic {self.topic!r} cannot be read: {text_of(error)}"
            ) from error
        finally:
            consumer.close()
        return found

    def _consumer(self) -> Any:
        return Consumer(
            self._settings
            | {
                "group.id": "cometlog-positions", "enable.auto.commit": False, "enable.partition.eof": True,
                "isolation.level": "read_committed", "auto.offset.reset": "error",
            }
        )  # fmt: skip


def _behind(record: Any) -> int:
    """Return the offset up to which a record, or the end of the partition, says that all was read."""
    error = record.error()
    if error is None:
        return int(record.offset()) + 1
    if error.code() == KafkaError._PARTITION_EOF:
        return int(record.offset())
    raise KafkaException(error)
