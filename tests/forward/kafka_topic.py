"""A topic that a test forwards to: how much has reached it, and everything in it, partition by partition."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from kafka_side import end_offsets

_ANSWER_S = 1.0
_SILENCE_S_MAX = 100.0
"""Longer than a broker keeps a transaction whose owner was killed."""
_CHUNK_RECORDS = 10_000
_CONSUME_S = 0.2


class Record(NamedTuple):
    """One record as it was read back; ``key`` is the idempotency key of its headers."""

    value: bytes
    headers: dict[str, bytes]
    timestamp_ms: int


class KafkaTopic:
    """One topic of a broker, made by this; every look has an end."""

    def __init__(self, address: str, name: str, partitions: int) -> None:
        self.name = name
        self._address = address
        self.partitions = partitions
        self._servers = {"bootstrap.servers": address, "log_level": 0}
        admin = AdminClient(self._servers)  # its futures end with it
        admin.create_topics([NewTopic(name, partitions)])[name].result(_SILENCE_S_MAX)
        self._looking: Any = None
        self._ends = [0] * partitions

    def arrived(self) -> int:
        """Return how many offsets are taken, also by open and aborted transactions; the last known number while nobody answers."""
        if self._looking is None:
            settings = {"group.id": f"look-{self.name}", "isolation.level": "read_uncommitted"}
            self._looking = confluent_kafka.Consumer(self._servers | settings)
        for partition in range(self.partitions):
            place = confluent_kafka.TopicPartition(self.name, partition)
            try:
                ends = self._looking.get_watermark_offsets(place, _ANSWER_S)
            except confluent_kafka.KafkaException:
                ends = None
            if (
                ends is None
            ):  # a client whose server was away may wait long before it tries again; a new one tries at once
                self.close()
                break
            self._ends[partition] = ends[1]
        return sum(self._ends)

    def records(self, partition: int, *, committed: bool) -> Iterator[Record]:
        """Yield what a partition holds, in order; with ``committed`` only what transactions have committed or never held.

        Up to the end as it is now, with what is still open there: a commit returns before its marks are in the partitions.
        """
        end = end_offsets(self._address, self.name)[partition]
        isolation = "read_committed" if committed else "read_uncommitted"
        settings = {
            "group.id": f"read-{self.name}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
        }
        consumer = confluent_kafka.Consumer(self._servers | settings)
        try:
            consumer.assign([confluent_kafka.TopicPartition(self.name, partition, 0)])
            yield from self._read(consumer, end)
        finally:
            consumer.close()

    def _read(self, consumer: Any, end: int) -> Iterator[Record]:
        heard_s = time.monotonic()
        while True:
            found = consumer.consume(
                _CHUNK_RECORDS, _CONSUME_S
            )  # which returns early only where there are so many
            heard_s = time.monotonic() if found else heard_s
            assert time.monotonic() < heard_s + _SILENCE_S_MAX, (
                f"{self.name} said nothing for {_SILENCE_S_MAX} s"
            )
            for message in found:
                error = message.error()
                if error is None:
                    yield Record(message.value(), dict(message.headers() or ()), message.timestamp()[1])
                elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    if message.offset() >= end:
                        return
                else:
                    raise AssertionError(f"{self.name}: {error}")

    def close(self) -> None:
        """Let go of the client that looks; another look makes a new one."""
        if self._looking is not None:
            self._looking.close()
            self._looking = None
