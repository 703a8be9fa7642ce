"""Reading a Kafka topic from given offsets: no group of the brokers' is joined and nothing committed there. Needs ``cometlog[kafka]``.

Partitions that a topic gets later are seen when the import is started again.
"""

from collections.abc import Mapping
from typing import Any

from cometlog.errors import ConfigurationError, ExtraMissingError, TargetError
from cometlog.forward.kafka_topics import KafkaTopics
from cometlog.forward.source import Record, Source
from cometlog.forward.target import CHECK_TIMEOUT_S, ID_HEADER

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
except ImportError as error:
    raise ExtraMissingError(
        "importing from Kafka needs the package confluent-kafka: pip install 'cometlog[kafka]'"
    ) from error

_ENDS = (
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._AUTO_OFFSET_RESET,
)  # fmt: skip
"""Errors after which waiting does not help; _AUTO_OFFSET_RESET: retention removed what was to be read next."""


class KafkaSource(Source):
    """Every partition of one topic; what a transaction did not commit is not seen.

    The end of a partition lies behind transactions that are open, which are waited for: a commit returns to who made it before its
    marks are in every partition, so what was just forwarded exactly once may still look open.
    """

    def __init__(self, servers: list[str], topic: str, properties: Mapping[str, str]) -> None:
        """Nothing is connected yet. Raises ConfigurationError for a property that the client does not know."""
        self._topic = topic
        self._where = ", ".join(servers)
        self._said = ""
        common = {
            "bootstrap.servers": ",".join(servers),
            "client.id": "cometlog",
            "log_level": "2",
            **properties,
        }
        settings = {"group.id": "cometlog-import", "isolation.level": "read_committed"} | common | {
            "enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "error", "error_cb": self._note,
        }  # fmt: skip
        try:
            self._consumer: Any = Consumer(settings)
        except (KafkaException, TypeError, ValueError) as error:
            raise ConfigurationError(f"the client of Kafka refuses a property: {error}") from error
        self._topics = KafkaTopics(common, self._where, None)
        self._unread: dict[int, int] = {}

    def _note(self, error: Any) -> None:
        self._said = str(error.str())

    def check(self) -> None:
        """See ``Source.check``."""
        self._partitions()

    def go_to(self, offsets: Mapping[str, int]) -> int:
        """See ``Source.go_to``."""
        lost, assigned = 0, []
        for partition in self._partitions():
            place = TopicPartition(self._topic, partition)
            first, _ = self._ask(self._consumer.get_watermark_offsets, place)
            end = self._topics.end(self._topic, partition)
            wanted = offsets.get(str(partition), first)
            if wanted > end:
                raise TargetError(
                    f"the import stands at offset {wanted} of partition {partition} of {self._topic} at {self._where}, which ends at "
                    f"{end}: it is not the topic that was imported; give this import another group"
                )
            lost += max(0, first - wanted)
            place.offset = max(first, wanted)
            assigned.append(place)
            if place.offset < end:
                self._unread[partition] = end
        self._consumer.assign(assigned)
        return lost

    def _partitions(self) -> list[int]:
        found = self._ask(self._consumer.list_topics, self._topic).topics[self._topic]
        if found.error is not None:
            raise TargetError(f"topic {self._topic} at {self._where} cannot be read: {found.error.str()}")
        return sorted(found.partitions)

    def _ask(self, question: Any, about: Any) -> Any:
        try:
            return question(about, timeout=CHECK_TIMEOUT_S)
        except KafkaException as error:
            reason = self._said or error.args[0].str()
            raise TargetError(f"Kafka at {self._where} does not answer: {reason}") from error

    def read(self, count: int, wait_s: float) -> list[Record]:
        """See ``Source.read``; the client connects again by itself."""
        records = []
        for message in self._consumer.consume(count, wait_s):
            error, partition = message.error(), message.partition()
            if error is None:
                offset = message.offset()
                records.append(Record(str(partition), offset, _identity(message), message.value() or b""))
                self._note_reached(partition, offset + 1)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._note_reached(partition, message.offset())
            elif error.fatal() or error.code() in _ENDS:
                raise TargetError(f"topic {self._topic} at {self._where} cannot be read on: {error.str()}")
        return records

    def _note_reached(self, partition: int, offset: int) -> None:
        if offset >= self._unread.get(partition, 0):
            self._unread.pop(partition, None)

    def is_at_end(self) -> bool:
        """See ``Source.is_at_end``."""
        return not self._unread

    def close(self) -> None:
        """See ``Source.close``."""
        self._consumer.close()
        self._topics.close()


def _identity(message: Any) -> str:
    found = [value for name, value in message.headers() or () if name == ID_HEADER]
    return found[-1].decode("utf-8", "replace") if found and found[-1] else ""
