"""What the forwarder's tests see at the broker, and the logs that they forward."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

import cometlog
from cometbench.services.kafka import KafkaBroker

READ_S_MAX = 100.0
"""Longer than a broker keeps a transaction whose owner was killed."""
_ID = re.compile(rb"([0-9a-f]{12})/([^/]+)/(\d+)/(\d+)")


class Record(NamedTuple):
    """A committed record, and what its header says: log, stream, epoch, number."""

    partition: int
    value: bytes
    key: bytes | None
    timestamp_ms: int
    log: str
    stream: str
    epoch: int
    number: int


def records(broker: KafkaBroker, topic: str) -> list[Record]:
    """Return what is committed in a topic, partition by partition, up to the ends as they are now.

    A commit returns before its marks are in the partitions: what is still open there is waited for.
    """
    settings = {
        "bootstrap.servers": broker.address, "group.id": "tests", "enable.auto.commit": False,
        "enable.partition.eof": True, "isolation.level": "read_committed", "log_level": 2,
    }  # fmt: skip
    reader = Consumer(settings)
    try:
        ends = end_offsets(broker.address, topic)
        reader.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in ends])
        found: list[Record] = []
        left = {number for number, end in ends.items() if end}
        until_s = time.monotonic() + READ_S_MAX
        while left:
            assert time.monotonic() < until_s, f"partitions {left} of {topic} have no end"
            for message in reader.consume(5000, 0.2):
                error = message.error()
                if error is None:
                    found.append(_record(message))
                    continue
                assert error.code() == KafkaError._PARTITION_EOF, error
                if message.offset() >= ends[message.partition()]:
                    left.discard(message.partition())
        return sorted(found, key=lambda record: record.partition)  # stable: offsets stay in order
    finally:
        reader.close()


def end_offsets(address: str, topic: str) -> dict[int, int]:
    """Return the end of each partition, transactions that are open included."""
    admin = AdminClient({"bootstrap.servers": address, "log_level": 2})
    partitions = admin.list_topics(topic, timeout=30).topics[topic].partitions
    latest = {TopicPartition(topic, number): OffsetSpec.latest() for number in partitions}
    told = admin.list_offsets(latest, isolation_level=IsolationLevel.READ_UNCOMMITTED)
    return {place.partition: end.result(30).offset for place, end in told.items()}


def _record(message) -> Record:
    headers = dict(message.headers())
    parts = _ID.fullmatch(headers["cometlog-id"])
    assert parts is not None
    return Record(
        message.partition(), message.value(), message.key(), message.timestamp()[1],
        parts[1].decode(), parts[2].decode(), int(parts[3]), int(parts[4]),
    )  # fmt: skip


def numbers(found: list[Record]) -> dict[str, list[int]]:
    """Return the entry numbers of each stream in the order in which its partition has them."""
    by_stream: dict[str, list[int]] = {}
    for record in found:
        by_stream.setdefault(record.stream, []).append(record.number)
    return by_stream


def first_seen(arrived: list[int]) -> list[int]:
    """Return the numbers without their repetitions."""
    return list(dict.fromkeys(arrived))


def make_topic(broker: KafkaBroker, topic: str, partitions: int = 1, **config: str) -> None:
    """Make a topic; ``max_message_bytes`` stands for ``max.message.bytes``."""
    settings = {name.replace("_", "."): value for name, value in config.items()}
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
    made = admin.create_topics([NewTopic(topic, partitions, 1, config=settings)])
    made[topic].result(30)
    wait_for_partitions(broker, topic, partitions)


def wait_for_partitions(broker: KafkaBroker, topic: str, partitions: int) -> None:
    """Wait until all partitions are seen and led; making them returns before that."""
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
    until_s = time.monotonic() + READ_S_MAX
    while True:
        found = admin.list_topics(timeout=30).topics.get(topic)
        if found is not None and len(found.partitions) == partitions:
            with suppress(KafkaException):
                assert len(end_offsets(broker.address, topic)) == partitions
                return
        assert time.monotonic() < until_s, f"{topic} never had {partitions} partitions that answer"
        time.sleep(0.02)


def is_topic(broker: KafkaBroker, topic: str) -> bool:
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
    return topic in admin.list_topics(timeout=30).topics


def topic_config(broker: KafkaBroker, topic: str, name: str) -> str:
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
    (told,) = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values()
    return str(told.result(30)[name].value)


def stream(shard: int) -> str:
    return f"events:v1:shard:{shard:04d}"


def fill(client: cometlog.Client, entries: int, shards: int = 4, batch: int = 1000) -> None:
    """Append entries ``<shard>-<number>`` to each shard."""
    for shard in range(shards):
        for start in _steps(client, shard, entries, batch):
            stop = min(start + batch, entries)
            client.append(stream(shard), [b"%d-%d" % (shard, number) for number in range(start, stop)])


def _steps(client: cometlog.Client, shard: int, entries: int, batch: int) -> Iterator[int]:
    yield from range(client.next_entry(stream(shard)), entries, batch)


def files(root: Path) -> dict[str, bytes]:
    """Return every file of a log with its bytes, for what must not change."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }
