"""A stream of JetStream that tests forward to and import from: made, filled, changed and read back by a client of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from cometbench.services.nats import NatsServer
from cometlog.forward.nats_connection import CuttingLoop

WAIT_S = 10.0
ANSWER_S = 30
RUN_S_MAX = 240.0


class Stored(NamedTuple):
    """One message as it is stored."""

    subject: str
    identity: str
    headers: dict[str, str]
    data: bytes


class JetStream:
    """What a test does at the server; each call connects anew, so a server that was restarted in between is no matter."""

    def __init__(self, address: str) -> None:
        self.address = address

    def _run(self, work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        loop = CuttingLoop()

        async def connected() -> Any:
            client = nats.NATS()
            try:
                await client.connect(
                    f"nats://{self.address}", allow_reconnect=False, connect_timeout=ANSWER_S
                )
                return await work(client, client.jetstream(timeout=ANSWER_S))
            finally:
                await client.close()
                await loop.cut()  # `close` leaves open what failed to connect, and what the server ended

        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(asyncio.wait_for(connected(), RUN_S_MAX))

    def make(self, name: str, **settings: Any) -> None:
        """Make a stream of all subjects below its name."""
        config = StreamConfig(**{"name": name, "subjects": [f"{name}.>"], "storage": "file"} | settings)
        self._run(lambda _client, jetstream: jetstream.add_stream(config))

    def change(self, name: str, **settings: Any) -> None:
        """Change settings of a stream."""

        async def work(_client: Any, jetstream: Any) -> None:
            config = (await jetstream.stream_info(name)).config
            await jetstream.update_stream(config.evolve(**settings))

        self._run(work)

    def config(self, name: str) -> Any:
        """Return the settings of a stream."""
        return self._run(lambda _client, jetstream: jetstream.stream_info(name)).config

    def count(self, name: str) -> int:
        """Return how many messages a stream has."""
        return int(self._run(lambda _client, jetstream: jetstream.stream_info(name)).state.messages)

    def wait_for(self, name: str, count: int) -> None:
        """Wait until a stream has so many messages."""

        async def work(_client: Any, jetstream: Any) -> None:
            while (await jetstream.stream_info(name)).state.messages < count:
                await asyncio.sleep(0.005)

        self._run(work)

    def purge(self, name: str, **options: Any) -> None:
        """Remove messages."""
        self._run(lambda _client, jetstream: jetstream.purge_stream(name, **options))

    def publish(self, messages: Iterable[tuple[str, str, bytes]]) -> None:
        """Store messages, each (subject, id, data), one after the other; an empty id is none."""

        async def work(_client: Any, jetstream: Any) -> None:
            for subject, identity, data in messages:
                await jetstream.publish(
                    subject, data, headers={"Nats-Msg-Id": identity} if identity else None
                )

        self._run(work)

    def messages(self, name: str) -> list[Stored]:
        """Return every message of a stream, in its order."""

        async def work(_client: Any, jetstream: Any) -> list[Stored]:
            left = (await jetstream.stream_info(name)).state.messages
            config = ConsumerConfig(ack_policy=AckPolicy.NONE)
            reader = await jetstream.pull_subscribe("", stream=name, config=config)
            found: list[Stored] = []
            while len(found) < left:
                for message in await reader.fetch(min(1000, left - len(found)), timeout=WAIT_S):
                    headers = dict(message.headers or {})
                    identity = headers.get("Nats-Msg-Id", "")
                    found.append(Stored(message.subject, identity, headers, message.data))
            return found

        return list(self._run(work))


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that runs as long as the tests of this process, which use streams of names of their own."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def own_nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that a test may kill and restart."""
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def jetstream(nats_server: NatsServer) -> JetStream:
    return JetStream(nats_server.address)
