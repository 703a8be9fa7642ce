"""A Kafka broker in KRaft mode: one process that is broker and controller, from the published jars.

A record is acknowledged after it was written to the page cache, with acks=1 and with acks=all alike where there is one replica;
that survives a crash of the broker, not a power loss. A topic with `flush.messages` = 1 is synced before the acknowledgement.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Self

from cometbench.peers import built_directory, find_program, import_peer, not_installed
from cometbench.services.service import HOST, Service, ServiceError, first_bytes, free_port

_FORMAT_SECONDS_MAX = 60.0
_PRODUCE_SECONDS_MAX = 10.0
_WARM_SECONDS = 4.0
_CLUSTER = "Y29tZXRiZW5jaC1jbHVzdA"  # 16 bytes as base64; each directory is a cluster of its own, so one id does for all
_JAR = re.compile(r"kafka_[\d.]+-(\d[\w.-]*)\.jar")
_HEAP = ("-Xms512m", "-Xmx512m")


class KafkaBroker(Service):
    """One broker; `jars` is the directory that `nox -s alternatives` fills (build/kafka of the checkout by default).

    A broker that was killed is taken back `session_timeout_s` after it starts again, and one that was paused for longer may
    refuse records for a moment.
    """

    name = "Kafka"
    start_seconds_max = 60.0

    def __init__(self, directory: Path, jars: Path | None = None, *, session_timeout_s: int = 3) -> None:
        super().__init__(directory)
        self._session_timeout_ms = 1000 * session_timeout_s
        self._jars = jars
        self._controller_port = free_port()

    def command(self) -> Sequence[str]:
        java = find_program("kafka", "java")
        jars = self._jars or built_directory("kafka")
        if not any(_JAR.fullmatch(file.name) for file in jars.glob("kafka_*.jar")):
            raise not_installed("kafka", "Kafka")
        import_peer("confluent_kafka")
        run = [java, *_HEAP, "-cp", f"{jars}/*"]
        properties = self.directory / "server.properties"
        if not properties.exists():
            properties.write_text(self._properties())
            self._format([*run, "kafka.tools.StorageTool", "format", "-c", str(properties)])
        return [*run, "kafka.Kafka", str(properties)]

    def is_ready(self) -> bool:
        """Whether a client can produce: the port answers before the broker takes records."""
        first_bytes(self.port, count=0)
        delivered: list[object] = []
        producer = self._producer()
        producer.produce("ready", b"?", on_delivery=lambda error, _message: delivered.append(error))
        return producer.flush(_PRODUCE_SECONDS_MAX) == 0 and delivered == [None]

    @property
    def version(self) -> str:
        jars = self._jars or built_directory("kafka")
        versions = [found[1] for file in jars.iterdir() if (found := _JAR.fullmatch(file.name))]
        return f"Kafka {', '.join(versions)}"

    def _producer(self) -> Any:
        settings = {"bootstrap.servers": self.address, "acks": "all", "log_level": 0}
        return import_peer("confluent_kafka").Producer(settings)

    def _properties(self) -> str:
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.directory / "data",
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "broker.session.timeout.ms": self._session_timeout_ms,
            "broker.heartbeat.interval.ms": min(self._session_timeout_ms // 5, 2000),
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())

    def _format(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            [*command, "--cluster-id", _CLUSTER],
            capture_output=True,
            text=True,
            timeout=_FORMAT_SECONDS_MAX,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceError(
                f"Kafka's storage cannot be formatted: {done.stderr.strip() or done.stdout.strip()}"
            )


class WarmBroker(KafkaBroker):
    """A broker for benchmarks: it may stay paused for an hour, and has taken records for a while before the first that counts.

    A Java program compiles what it does often; the first thousands of appends would be charged for that.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, session_timeout_s=3600)

    def start(self) -> Self:
        """Start, and append batches of 1 and of 100 to a topic of its own."""
        super().start()
        producer = self._producer()
        until = monotonic() + _WARM_SECONDS
        while monotonic() < until:
            for count in (1, 1, 1, 100):
                for _ in range(count):
                    producer.produce("ready", b"." * 120)
                producer.flush(_PRODUCE_SECONDS_MAX)
        return self
