"""NATS JetStream: publishes to a stream on disk, those of a batch all under way at once, and every acknowledgement awaited.

What an acknowledgement promises is the server's setting (services/nats.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from importlib.metadata import version
from typing import Any

from cometbench.errors import SubjectError
from cometbench.peers import import_peer
from cometbench.subjects.contract import Chunk
from cometbench.subjects.served import ServedSubject

_CHUNK_ENTRIES = 1_000
_SECONDS_MAX = 30.0


class NatsJetstream(ServedSubject):
    """One stream with one subject; an event loop of its own runs for the time of each call."""

    def open(self) -> None:
        self._connect()
        self._run(self._stream.add_stream(name=self.log_name, subjects=[self.log_name], storage="file"))

    def append_call(self, batch: int) -> Callable[[Any], object]:
        return self._append_one if batch == 1 else self._append_many

    def last_number(self, result: Any) -> int | None:
        return int(result)

    def version(self) -> str:
        return f"{self.config['server']} (nats-py {version('nats-py')})"

    def close(self) -> None:
        self._run(self._connection.close())
        self._loop.close()

    def read_back(self) -> Iterator[Chunk]:
        self._connect()
        name, unacknowledged = self.log_name, import_peer("nats.js.api").ConsumerConfig(ack_policy="none")
        left = self._run(self._stream.stream_info(name)).state.messages
        reader = self._run(self._stream.pull_subscribe(name, stream=name, config=unacknowledged))
        while left > 0:
            found = self._run(reader.fetch(min(left, _CHUNK_ENTRIES), timeout=_SECONDS_MAX))
            numbers = [message.metadata.sequence.stream for message in found]
            yield Chunk(range(numbers[0], numbers[-1] + 1), [message.data for message in found])
            left -= len(found)
        self._run(self._stream.delete_stream(self.log_name))
        self.close()

    def _run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(step)

    def _connect(self) -> None:
        nats = import_peer("nats")
        self._loop = asyncio.new_event_loop()
        self._connection = self._run(nats.connect(f"nats://{self.address}"))
        self._stream = self._connection.jetstream()

    def _append_one(self, entry: bytes) -> int:
        number: int = self._run(self._stream.publish(self.log_name, entry)).seq
        return number

    def _append_many(self, entries: list[bytes]) -> int:
        return int(self._run(self._publish_all(entries)))

    async def _publish_all(self, entries: list[bytes]) -> int:
        under_way = [await self._stream.publish_async(self.log_name, entry) for entry in entries]
        answers = await asyncio.gather(*under_way)
        last: int = answers[-1].seq
        if last - answers[0].seq != len(entries) - 1:
            raise SubjectError(f"JetStream numbered {len(entries)} entries {answers[0].seq} to {last}")
        return last
