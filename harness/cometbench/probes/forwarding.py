"""Forwarding a log to Kafka, beside the performance tools of the client library and of Kafka itself: one broker, the same settings.

Each turn sends as many records of the same length to a new topic of as many partitions and takes the time from the start of the
client inside a running process to the last confirmation. A forwarded topic is read back and compared with the log, entry by entry;
of a tool's topic the records are counted.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, perf_counter_ns
from typing import Any, Literal

import cometlog
from cometbench.errors import SubjectError
from cometbench.peers import built_directory, find_program, import_peer, not_installed
from cometbench.probe import Outcome, Task
from cometbench.verification import Finding

SHARDS = 4
ENTRY_BYTES = 117
# What the client library is told in both: by the forwarder's caller, and by the forwarder itself.
_SETTINGS = {
    "linger.ms": "5",
    "batch.size": "1000000",
    "compression.type": "none",
    "queue.buffering.max.messages": "101000",
}
_FORWARDER_S_OWN = {"acks": "all", "enable.idempotence": "true", "batch.num.messages": "10000"}
# The same in the words of Kafka's own client, where a batch is what goes to one partition and the queue is counted in bytes.
_JAVA_SETTINGS = {
    "acks": "all",
    "enable.idempotence": "true",
    "linger.ms": "5",
    "batch.size": "1000000",
    "buffer.memory": "33554432",
    "compression.type": "none",
}
_ENTRIES_PER_SECOND = 100_000
_ENTRIES_MAX = 1_000_000
_APPEND_ENTRIES = 1000
_CHUNK_RECORDS = 10_000
_CONSUME_S = 0.2
_SECONDS_MAX = 120.0
_LIBRDKAFKA_SAID = re.compile(r"(\d+) delivered \(offset -?\d+, (\d+) failed\) in (\d+)ms")
_KAFKA_SAID = re.compile(r"^(\d+) records sent, ([\d.]+) records/sec", re.MULTILINE)

Mode = Literal["at-least-once", "exactly-once"]


def forward(task: Task) -> Outcome:
    """Return the ns that an entry takes in config `mode`, from opening the target to the last acknowledgement."""
    topic = _Topic(task)
    mode: Mode = "exactly-once" if task.probe.config["mode"] == "exactly-once" else "at-least-once"
    root = task.directory / "log"
    _write_log(root, _entries(task))
    forwarder_class = import_forwarder()
    with cometlog.open(root) as client:
        forwarder = forwarder_class(
            client, to=f"kafka://{topic.address}/{topic.name}", mode=mode, properties=_SETTINGS
        )
        with forwarder:
            started = perf_counter_ns()
            forwarder.run(until_caught_up=True)
            taken = perf_counter_ns() - started
            forwarded = forwarder.stats().forwarded
    if forwarded != _entries(task):
        raise SubjectError(f"{forwarded} of {_entries(task)} entries were forwarded")
    finding = _compare(root, topic)
    topic.remove()
    return Outcome({"time": taken / forwarded}, finding, {"entries": float(forwarded)})


def rdkafka_performance(task: Task) -> Outcome:
    """Return the ns that a record takes in the client library's own tool, with a header as long as the forwarder's."""
    place = built_directory("rdkafka_performance")
    program = place / "rdkafka_performance"
    if not program.exists():
        raise not_installed("rdkafka_performance", "rdkafka_performance")
    topic, entries = _Topic(task), _entries(task)
    options = [
        word for key, value in (_SETTINGS | _FORWARDER_S_OWN).items() for word in ("-X", f"{key}={value}")
    ]
    header = f"cometlog-id=0123456789ab/events:v1:shard:0000/1/{'0' * len(str(entries // SHARDS))}"
    command = [
        *(str(program), "-P", "-b", topic.address, "-t", topic.name),
        *("-s", str(ENTRY_BYTES), "-c", str(entries), "-H", header, *options),
    ]
    found = _LIBRDKAFKA_SAID.findall(said := _run(command))
    delivered, failed, taken_ms = map(int, found[-1]) if found else (0, 0, 0)
    if (delivered, failed) != (entries, 0):
        raise SubjectError(f"rdkafka_performance did not deliver {entries} records: {said[-300:]}")
    finding = topic.count(entries)
    topic.remove()
    version = re.search(r"librdkafka version ([\d.]+)", _run([str(program)], success=1))
    extra: dict[str, float | str] = {
        "entries": float(entries),
        "version": version[1] if version else "unknown",
    }
    return Outcome({"time": taken_ms * 1e6 / entries}, finding, extra)


def producer_perf_test(task: Task) -> Outcome:
    """Return the ns that a record takes in kafka-producer-perf-test, which sends no headers."""
    jars = built_directory("kafka")
    if not list(jars.glob("kafka-tools-[0-9]*.jar")):
        raise not_installed("kafka", "kafka-producer-perf-test")
    topic, entries = _Topic(task), _entries(task)
    properties = [f"{key}={value}" for key, value in _JAVA_SETTINGS.items()]
    command = [
        *(
            find_program("kafka", "java"),
            "-Xmx512m",
            "-cp",
            f"{jars}/*",
            "org.apache.kafka.tools.ProducerPerformance",
        ),
        *("--topic", topic.name, "--num-records", str(entries), "--record-size", str(ENTRY_BYTES)),
        *("--throughput", "-1", "--bootstrap-server", topic.address, "--command-property", *properties),
    ]
    found = _KAFKA_SAID.findall(said := _run(command))
    if not found or int(found[-1][0]) != entries:
        raise SubjectError(f"kafka-producer-perf-test did not send {entries} records: {said[-300:]}")
    finding = topic.count(entries)
    topic.remove()
    return Outcome({"time": 1e9 / float(found[-1][1])}, finding, {"entries": float(entries)})


def import_forwarder() -> Any:
    """Return the engine's forwarder. Raises CannotMeasureError where the client library is not installed."""
    import_peer("confluent_kafka")
    return import_peer("cometlog.forward").Forwarder


def _entries(task: Task) -> int:
    """Return how many entries a turn sends, the same number to each partition."""
    wanted = min(_ENTRIES_MAX, int(task.seconds * _ENTRIES_PER_SECOND))
    return max(1, wanted // (SHARDS * _APPEND_ENTRIES)) * SHARDS * _APPEND_ENTRIES


def _stream(shard: int) -> str:
    return f"events:v1:shard:{shard:04d}"


def _entry(shard: int, number: int) -> bytes:
    return b'{"shard":%d,"number":%d,"text":"' % (shard, number) + b"." * ENTRY_BYTES


def _write_log(root: Path, entries: int) -> None:
    with cometlog.open(root) as client:
        for shard in range(SHARDS):
            writer = client.writer(_stream(shard))
            for first in range(0, entries // SHARDS, _APPEND_ENTRIES):
                numbers = range(first, first + _APPEND_ENTRIES)
                writer.extend([_entry(shard, number)[:ENTRY_BYTES] for number in numbers])


def _compare(root: Path, topic: _Topic) -> Finding:
    """Compare each partition with its shard."""
    found = expected = 0
    with cometlog.open(root, read_only=True) as client:
        for shard in range(SHARDS):
            values = topic.values(shard)
            for entry in client.scan(_stream(shard)):
                expected += 1
                if next(values, None) != entry.data:
                    detail = f"entry {entry.number} of shard {shard} is not what partition {shard} holds"
                    return Finding("failed", expected, found, detail)
                found += 1
            if next(values, None) is not None:
                return Finding("failed", expected, found, f"partition {shard} holds more than shard {shard}")
    return Finding("ok", expected, found)


def _run(command: list[str], success: int = 0) -> str:
    """Run a tool to its end and return what it printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_SECONDS_MAX, check=False
    )
    said = done.stdout + done.stderr
    if done.returncode != success:
        raise SubjectError(f"{Path(command[0]).name} ended with code {done.returncode}: {said[-300:]}")
    return said


class _Topic:
    """A topic of this turn's own."""

    def __init__(self, task: Task) -> None:
        self.address = str(task.probe.config["address"])
        self.name = "bench-" + hashlib.sha256(str(task.directory).encode()).hexdigest()[:16]
        self._client = import_peer("confluent_kafka")
        self._servers = {"bootstrap.servers": self.address, "log_level": 0}
        self._admin_module = import_peer("confluent_kafka.admin")
        self._admin = self._admin_module.AdminClient(self._servers)
        made = self._admin.create_topics([self._admin_module.NewTopic(self.name, SHARDS)])
        made[self.name].result(_SECONDS_MAX)

    def values(self, partition: int) -> Iterator[bytes]:
        """Yield what a partition holds and transactions have committed, up to its end as it is now.

        A commit returns before its marks are in the partitions: what is still open there is waited for.
        """
        end = self._end(partition)
        settings = {"group.id": self.name, "enable.auto.commit": False, "enable.partition.eof": True}
        consumer = self._client.Consumer(self._servers | settings | {"isolation.level": "read_committed"})
        consumer.assign([self._client.TopicPartition(self.name, partition, 0)])
        at_end, heard_s = False, monotonic()
        while not at_end:
            messages = consumer.consume(
                _CHUNK_RECORDS, _CONSUME_S
            )  # returns early only where there are so many
            heard_s = monotonic() if messages else heard_s
            if monotonic() > heard_s + _SECONDS_MAX:
                raise SubjectError(f"partition {partition} of {self.name} cannot be read back")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message.value()
                elif error.code() == self._client.KafkaError._PARTITION_EOF:
                    at_end = message.offset() >= end
                else:
                    raise SubjectError(f"partition {partition} of {self.name}: {error}")
        consumer.close()

    def _end(self, partition: int) -> int:
        """Return the end of a partition, transactions that are open included."""
        place = self._client.TopicPartition(self.name, partition)
        told = self._admin.list_offsets(
            {place: self._admin_module.OffsetSpec.latest()},
            isolation_level=self._client.IsolationLevel.READ_UNCOMMITTED,
        )
        return int(told[place].result(_SECONDS_MAX).offset)

    def count(self, expected: int) -> Finding:
        """Compare the number of records."""
        consumer = self._client.Consumer(self._servers | {"group.id": self.name})
        found = 0
        for partition in range(SHARDS):
            place = self._client.TopicPartition(self.name, partition)
            found += consumer.get_watermark_offsets(place, _SECONDS_MAX)[1]
        consumer.close()
        status = "ok" if found == expected else "failed"
        return Finding(status, expected, found, "" if found == expected else "the topic holds another number")

    def remove(self) -> None:
        self._admin.delete_topics([self.name])[self.name].result(_SECONDS_MAX)
