"""The topics that a forwarder writes to: are they there, may they be made, how many partitions, how long a message may be."""

import re
from collections.abc import Iterable, Mapping
from time import monotonic, sleep
from typing import Any

from cometlog.errors import TargetError
from cometlog.forward.kafka_client import (
    AdminClient,
    ConfigResource,
    IsolationLevel,
    KafkaError,
    KafkaException,
    NewTopic,
    OffsetSpec,
    TopicPartition,
    error_of,
    text_of,
)
from cometlog.forward.target import CHECK_TIMEOUT_S

LIMIT_BYTES = 1_000_000
"""The longest message where the broker does not tell its limit."""
NAME_LENGTH_MAX = 249
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LOOK_AGAIN_S = 0.1


class KafkaTopics:
    """``partitions`` and ``limits`` (bytes of a message) of the topics that were seen to be there, by name."""

    def __init__(self, client: dict[str, str], servers: str, new_partitions: int | None) -> None:
        """``new_partitions``: what a topic that is made gets, or None."""
        self._settings = client
        self._servers = servers
        self._said = ""
        self._new_partitions = new_partitions
        self._admin: Any = None
        self.partitions: dict[str, int] = {}
        self.limits: dict[str, int] = {}

    def find_or_make(self, names: Iterable[str], config: Mapping[str, str] | None = None) -> None:
        """See that the topics are there, making those that are not, with ``config``. Raises TargetError within 10 s."""
        wanted = list(names)
        for name in wanted:
            if not _NAME.fullmatch(name) or len(name) > NAME_LENGTH_MAX or name in {".", ".."}:
                raise TargetError(
                    f"{name!r} is no name of a Kafka topic: 1 to {NAME_LENGTH_MAX} letters, digits, '.', '_' and '-'"
                )
        until_s = monotonic() + CHECK_TIMEOUT_S
        missing = self._missing(wanted, until_s)
        if missing:
            self._make(missing, config or {}, until_s)
        while missing := self._missing(wanted, until_s):
            if monotonic() > until_s:
                raise TargetError(
                    f"the topic {missing[0]!r} was made on {self._servers}, but does not appear"
                )
            sleep(_LOOK_AGAIN_S)
        self._read_limits(wanted, until_s)

    def close(self) -> None:
        """Let go of the client: it calls this object back, so without this only a garbage collection would end its threads."""
        self._admin = None

    def _client(self) -> Any:
        if self._admin is None:
            self._admin = AdminClient(self._settings | {"error_cb": self._note_complaint})
        return self._admin

    def _note_complaint(self, error: KafkaError) -> None:
        self._said = error.str()

    def _missing(self, names: list[str], until_s: float) -> list[str]:
        """Note the partitions of the topics that are there, and return those that are not."""
        try:
            found = self._client().list_topics(timeout=max(1.0, until_s - monotonic())).topics
        except KafkaException as error:
            said = f" ({self._said})" if self._said else ""
            raise TargetError(
                f"no Kafka broker answers at {self._servers}: {text_of(error)}{said}"
            ) from error
        for name in names:
            topic = found.get(name)
            if topic is None:
                continue
            if topic.error is not None:
                raise TargetError(
                    f"the topic {name!r} of {self._servers} cannot be used: {topic.error.str()}"
                )
            self.partitions[name] = len(topic.partitions)
        return [name for name in names if name not in found]

    def _make(self, names: list[str], config: Mapping[str, str], until_s: float) -> None:
        partitions = -1 if self._new_partitions is None else self._new_partitions
        topics = [
            NewTopic(name, num_partitions=partitions, replication_factor=-1, config=dict(config))
            for name in names
        ]
        left_s = max(1.0, until_s - monotonic())
        for name, made in self._client().create_topics(topics, request_timeout=left_s).items():
            try:
                made.result(left_s)
            except (KafkaException, TimeoutError) as error:
                found = error_of(error)
                if found is None or found.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise TargetError(
                        f"the topic {name!r} does not exist on {self._servers} and cannot be made: {text_of(error)}; make it, or give "
                        f"this client the right to"
                    ) from error

    def end(self, name: str, partition: int) -> int:
        """Return the end of a partition, what no transaction has committed yet included. Raises TargetError."""
        place = TopicPartition(name, partition)
        asked = self._client().list_offsets(
            {place: OffsetSpec.latest()}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=CHECK_TIMEOUT_S
        )  # fmt: skip
        try:
            return int(asked[place].result(CHECK_TIMEOUT_S).offset)
        except (KafkaException, TimeoutError) as error:
            raise TargetError(
                f"the end of partition {partition} of the topic {name!r} is not to be had: {text_of(error)}"
            ) from error

    def _read_limits(self, names: list[str], until_s: float) -> None:
        """Ask how long a message of each topic may be; a broker that does not say has the usual limit."""
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        if not resources:
            return
        left_s = max(1.0, until_s - monotonic())
        for resource, told in self._client().describe_configs(resources, request_timeout=left_s).items():
            try:
                self.limits[resource.name] = int(told.result(left_s)["max.message.bytes"].value)
            except (KafkaException, TimeoutError, KeyError, TypeError, ValueError):
                self.limits[resource.name] = LIMIT_BYTES
