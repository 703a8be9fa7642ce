"""What imports are tested with: a topic and a stream that a test fills, and where they are imported to."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from cometbench.services.kafka import KafkaBroker
from cometbench.services.nats import NatsServer
from jetstream import JetStream
from kafka_side import make_topic, wait_for_partitions

STREAM = "replay:v1:shard:0000"
FROM = "events:v1:shard:0000"
LOG = "0123456789ab"


def key(number: int, stream: str = FROM, epoch: int = 1, log: str = LOG) -> str:
    return f"{log}/{stream}/{epoch}/{number}"


class KafkaFeed:
    """A topic of one partition, unless more are added, that a test fills."""

    def __init__(self, broker: KafkaBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        make_topic(broker, topic)
        self.url = f"kafka://{broker.address}/{topic}"
        self.template = f"kafka://{broker.address}/{topic}"

    def put(self, records: Iterable[tuple[str, bytes]], partition: int = 0) -> None:
        producer = confluent_kafka.Producer({"bootstrap.servers": self._broker.address, "linger.ms": 5})
        self._send(producer, records, partition)

    def _send(self, producer: Any, records: Iterable[tuple[str, bytes]], partition: int = 0) -> None:
        reported: list[Any] = []
        for identity, data in records:
            headers = [("cometlog-id", identity.encode())] if identity else None
            producer.produce(
                self._topic, data, partition=partition, headers=headers,
                on_delivery=lambda error, _message: reported.append(error),
            )  # fmt: skip
        assert producer.flush(30.0) == 0
        assert [error for error in reported if error is not None] == []

    def put_uncommitted(self, records: Iterable[tuple[str, bytes]]) -> Callable[[], None]:
        """Put records in a transaction, and return what commits it."""
        settings = {"bootstrap.servers": self._broker.address, "transactional.id": self._topic}
        producer = confluent_kafka.Producer(settings)
        producer.init_transactions(30.0)
        producer.begin_transaction()
        self._send(producer, records)
        return lambda: producer.commit_transaction(30.0)

    def add_partition(self) -> None:
        """Give the topic, which has one partition, another."""
        admin = AdminClient({"bootstrap.servers": self._broker.address})  # its futures end with it
        admin.create_partitions([NewPartitions(self._topic, 2)])[self._topic].result(30.0)
        wait_for_partitions(self._broker, self._topic, 2)

    def remove(self, count: int) -> None:
        """Remove the first records."""
        place = confluent_kafka.TopicPartition(self._topic, 0, count)
        admin = AdminClient({"bootstrap.servers": self._broker.address})  # its futures end with it
        (removed,) = admin.delete_records([place]).values()
        removed.result(30.0)


class NatsFeed:
    """A stream of JetStream that a test fills."""

    def __init__(self, server: NatsServer, name: str) -> None:
        self._jetstream = JetStream(server.address)
        self._name = name
        self._jetstream.make(name, allow_atomic=True)
        self.url = f"nats://{server.address}/{name}"
        self.template = f"{self.url}.{{stream}}"

    def put(self, records: Iterable[tuple[str, bytes]]) -> None:
        self._jetstream.publish([(f"{self._name}.x", identity, data) for identity, data in records])

    def remove(self, count: int) -> None:
        """Remove the first records."""
        self._jetstream.purge(self._name, seq=count + 1)


@pytest.fixture(params=["kafka", "nats"])
def feed(request: pytest.FixtureRequest, topic: str) -> KafkaFeed | NatsFeed:
    if request.param == "kafka":
        return KafkaFeed(request.getfixturevalue("kafka"), topic)
    return NatsFeed(request.getfixturevalue("nats_server"), topic)


def wait_until(reached: Callable[[], Any], seconds: float = 60.0) -> None:
    until_s = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until_s
        time.sleep(0.002)
