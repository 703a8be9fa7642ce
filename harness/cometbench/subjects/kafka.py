"""Kafka: records produced to one partition, flushed at the end of each append call, every delivery report checked.

Config `acks` is "1" or "all"; on a single broker both wait for its page cache. `flush` True makes the topic sync each record
set before it is acknowledged (flush.messages=1). On brokers given by --kafka acks=all promises what their replication does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from cometbench.errors import SubjectError
from cometbench.peers import import_peer
from cometbench.subjects.contract import Chunk
from cometbench.subjects.served import ServedSubject

_SECONDS_MAX = 30.0
_CHUNK_ENTRIES = 10_000


class Kafka(ServedSubject):
    """One topic of one partition; the offset of the last delivery report is the number of the last entry."""

    def open(self) -> None:
        topic_config = {"flush.messages": "1"} if self.config.get("flush") else {}
        topic = import_peer("confluent_kafka.admin").NewTopic(
            self.log_name, num_partitions=1, config=topic_config
        )
        admin = self._admin()  # its futures end with it
        admin.create_topics([topic])[self.log_name].result(_SECONDS_MAX)
        self._producer = import_peer("confluent_kafka").Producer(
            self._settings() | {"acks": str(self.config["acks"])}
        )
        self._delivered, self._last = 0, -1

    def append_call(self, batch: int) -> Callable[[Any], object]:
        return self._append_one if batch == 1 else self._append_many

    def last_number(self, result: Any) -> int | None:
        return int(result)

    def version(self) -> str:
        return f"{self.config['server']} (confluent-kafka {version('confluent-kafka')})"

    def close(self) -> None:
        self._producer.flush(_SECONDS_MAX)

    def read_back(self) -> Iterator[Chunk]:
        client = import_peer("confluent_kafka")
        consumer = client.Consumer(
            self._settings() | {"group.id": self.log_name, "enable.auto.commit": False}
        )
        partition = client.TopicPartition(self.log_name, 0, 0)
        first, end = consumer.get_watermark_offsets(partition, _SECONDS_MAX)
        consumer.assign([partition])
        while first < end:
            found = consumer.consume(min(end - first, _CHUNK_ENTRIES), _SECONDS_MAX)
            if not found or any(message.error() for message in found):
                raise SubjectError(f"Kafka: {end - first} records before offset {end} cannot be read back")
            first = found[-1].offset() + 1
            yield Chunk(range(found[0].offset(), first), [message.value() for message in found])
        consumer.close()
        admin = self._admin()
        admin.delete_topics([self.log_name])[self.log_name].result(_SECONDS_MAX)

    def _settings(self) -> dict[str, Any]:
        return {"bootstrap.servers": self.address, "log_level": 0}

    def _admin(self) -> Any:
        return import_peer("confluent_kafka.admin").AdminClient(self._settings())

    def _append_one(self, entry: bytes) -> int:
        self._producer.produce(self.log_name, entry, partition=0, on_delivery=self._on_delivery)
        return self._flush(1)

    def _append_many(self, entries: list[bytes]) -> int:
        produce, name, report = self._producer.produce, self.log_name, self._on_delivery
        for entry in entries:
            produce(name, entry, partition=0, on_delivery=report)
        return self._flush(len(entries))

    def _flush(self, count: int) -> int:
        left = self._producer.flush(_SECONDS_MAX)
        delivered, self._delivered = self._delivered, 0
        if left or delivered != count:
            raise SubjectError(f"Kafka delivered {delivered} of {count} records within {_SECONDS_MAX:.0f} s")
        return self._last

    def _on_delivery(self, error: Any, message: Any) -> None:
        if error is not None:
            raise SubjectError(f"Kafka did not take a record: {error}")
        self._delivered += 1
        self._last = message.offset()
