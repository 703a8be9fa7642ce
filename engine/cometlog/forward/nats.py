"""The target NATS JetStream: a subject for each stream, of which the template makes the name. Needs ``cometlog[nats]``.

Order and position are the subject's own (``nats_subject.py``): a batch is stored behind the message that it was meant to follow, or
not at all, and the last message of the subject says how far its stream came. So nothing that the subject has is sent again, however
long the forwarder or the server was away, nor after a reset of the group, unless the subject was purged. That needs no window of
remembered ids. The id, ``Nats-Msg-Id``, is the idempotency key.

Two cases are left to the server's duplicate window (``duplicate_window`` of the stream, two minutes by default), because the last
message does not tell: several streams or logs share a subject, or the stream no longer keeps the last message (``max_age``, a work
queue). Exactly once is refused for the first and for streams that drop what was consumed. Each stream has a subject of its own
where the template holds ``{stream}``, and a name of the machine where many logs go to one cluster: ``edge.machine-17.{stream}``.

The stream of JetStream is the one that takes the subject. Where there is none it is made, named after the subject's first part and
with all subjects below that, unless the property ``create`` is "no" or the server does not allow it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, wait
from typing import Any

from nats.js import errors as jetstream_errors
from nats.js.api import RetentionPolicy, StreamConfig

from cometlog.errors import ConfigurationError, TargetError
from cometlog.forward.destination import Destination
from cometlog.forward.entry_key import parse_key
from cometlog.forward.nats_connection import FAILURES, NatsConnection, in_words
from cometlog.forward.nats_subject import BATCH_HEADER_BYTES, Subject
from cometlog.forward.target import CHECK_TIMEOUT_S, KeepWaiting, Position, Shipment, Target
from cometlog.forward.targets import TargetOptions

ID_HEADERS_BYTES = 160
"""What id and timestamp take beside the name of the stream."""
_POLL_S = 0.2
_ATOMIC_VERSION = (2, 12)


class NatsTarget(Target):
    """JetStream at the other end; one connection and one thread for its event loop."""

    keeps_position = True

    def __init__(self, destination: Destination, options: TargetOptions) -> None:
        """Nothing is connected yet. Raises ConfigurationError for a property that there is not."""
        properties = dict(options.properties)
        self._may_create = _yes_or_no("create", properties.pop("create", "yes"))
        self._replicas = _whole("replicas", properties.pop("replicas", "1"))
        self._destination = destination
        self._identity = ""
        self._connection = NatsConnection([str(address) for address in destination.addresses], properties)
        self._configs: dict[str, Any] = {}
        self._subjects: dict[str, Subject] = {}
        self._under_way: list[Future[None]] = []

    # ---- What is there ----

    def check(self, names: Iterable[str]) -> None:
        """See ``Target.check``."""
        self._connection.run(self._check(list(names)))

    async def _check(self, subjects: list[str]) -> None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                if not self._connection.is_open:
                    await self._connection.open(CHECK_TIMEOUT_S)
                for subject in subjects:
                    await self._config(subject)
        except TimeoutError as error:
            raise TargetError(f"JetStream at {self._connection.where()} does not answer") from error

    def open(self, identity: str, keep_waiting: KeepWaiting) -> None:
        """See ``Target.open``; what an older connection has on its way is refused by the server where it comes late."""
        self._identity = identity
        for future in self._under_way:
            future.cancel()
        self._under_way.clear()
        self._subjects.clear()
        self._configs.clear()
        self._connection.run(self._connection.drop())
        self._connection.run(self._connection.open(CHECK_TIMEOUT_S), keep_waiting)

    async def _config(self, subject: str) -> Any:
        """Return the configuration of the stream that takes a subject, made where there is none. Raises TargetError."""
        if not all(subject.split(".")):
            raise TargetError(f"the subject {subject!r} has an empty part between its dots")
        if subject not in self._configs:
            jetstream = self._connection.client.jetstream()
            try:
                try:
                    name = await jetstream.find_stream_name_by_subject(subject)
                    self._configs[subject] = (await jetstream.stream_info(name)).config
                except jetstream_errors.NotFoundError:
                    self._configs[subject] = await self._create(jetstream, subject)
            except FAILURES as error:
                raise TargetError(
                    f"JetStream at {self._connection.where()} has no stream for {subject}: {in_words(error)}"
                ) from error
        return self._configs[subject]

    async def _create(self, jetstream: Any, subject: str) -> Any:
        name = subject.partition(".")[0]
        if not self._may_create:
            raise TargetError(
                f"no stream of JetStream at {self._connection.where()} takes the subject {subject}, and create=no; make one, such as "
                f"{name} with the subjects {name}.>"
            )
        subjects = [name, f"{name}.>"]
        wanted = StreamConfig(
            name=name, subjects=subjects, storage="file", allow_atomic=True, num_replicas=self._replicas
        )
        try:
            return (await jetstream.add_stream(wanted)).config
        except FAILURES as error:
            raise TargetError(
                f"no stream of JetStream at {self._connection.where()} takes the subject {subject}, and {name} cannot be made: "
                f"{in_words(error)}"
            ) from error

    def _sizes(self, config: Any) -> int:
        """Return the bytes that a message may have, headers included."""
        size = int(self._connection.client.max_payload)
        return min(size, config.max_msg_size) if (config.max_msg_size or -1) > 0 else size

    def limit_bytes(self, stream: str) -> int:
        """See ``Target.limit_bytes``; what the headers of a message take is left out."""
        config = self._connection.run(self._config(self._destination.name_for(stream)))
        return max(0, self._sizes(config) - BATCH_HEADER_BYTES - ID_HEADERS_BYTES - len(stream))

    # ---- Positions ----

    def positions(self, streams: Iterable[str], keep_waiting: KeepWaiting) -> dict[str, Position]:
        """Return how far each stream came: what the last message of its subject says.

        Raises TargetError where the subject has messages of others, or the stream does not keep what was consumed.
        """
        found = {}
        for stream in streams:
            position = self._connection.run(self._position(stream), keep_waiting)
            if position is not None:
                found[stream] = position
        return found

    async def _position(self, stream: str) -> Position | None:
        subject = await self._subject(stream)
        config = await self._config(subject.subject)
        if config.retention not in (None, RetentionPolicy.LIMITS):
            raise TargetError(
                f"stream {config.name} drops what was consumed (retention {config.retention}), so it cannot say how far {stream} "
                f"came; give it the retention limits, or forward at least once"
            )
        last = await subject.last()
        if last.sequence == 0:
            return None
        key = parse_key(last.identity)
        if key is None or key.origin != f"{self._identity}/{stream}":
            raise TargetError(
                f"the last message on {subject.subject} has the id {last.identity!r}, which is none of {stream} of this log; "
                f"exactly once needs a subject for each stream alone: put {{stream}} into the template, and a name of this log"
            )
        return Position(key.epoch, key.number + 1)

    async def _subject(self, stream: str) -> Subject:
        name = self._destination.name_for(stream)
        if name not in self._subjects:
            config = await self._config(name)
            version = self._connection.client.connected_server_version
            is_atomic = bool(config.allow_atomic) and (version.major, version.minor) >= _ATOMIC_VERSION
            self._subjects[name] = Subject(
                self._connection, config.name, name, is_atomic=is_atomic, size_max=self._sizes(config)
            )
        return self._subjects[name]

    # ---- Chunks ----

    def begin(self) -> None:
        """See ``Target.begin``."""
        self._under_way.clear()

    def ship(self, shipment: Shipment, keep_waiting: KeepWaiting) -> None:  # noqa: ARG002 - the chunk is the bound of what waits
        """See ``Target.ship``."""
        self._under_way.append(self._connection.begin(self._send(shipment)))

    async def _send(self, shipment: Shipment) -> None:
        await (await self._subject(shipment.stream)).send(shipment)

    def finish(self, positions: Mapping[str, Position], keep_waiting: KeepWaiting) -> None:  # noqa: ARG002 - the messages' ids say it
        """See ``Target.finish``."""
        left = set(self._under_way)
        while left:
            done, left = wait(left, _POLL_S, return_when="FIRST_EXCEPTION")
            for future in done:
                future.result()
            if left and not keep_waiting():
                raise TargetError(
                    f"JetStream at {self._connection.where()} has not confirmed {len(left)} shipments"
                )

    def close(self) -> None:
        """See ``Target.close``."""
        for future in self._under_way:
            future.cancel()
        self._connection.close()


def _yes_or_no(name: str, value: str) -> bool:
    if value not in ("yes", "no"):
        raise ConfigurationError(f"the property {name} is yes or no, got {value!r}")
    return value == "yes"


def _whole(name: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise ConfigurationError(f"the property {name} is a whole number from 1 on, got {value!r}")
    return int(value)
