"""Reading a stream of JetStream from a sequence number on, by a consumer that lives as long as the import and acknowledges nothing.

A message that the server sent and that did not arrive shows as a gap in the numbers of the consumer; then, and when the connection
ended, another consumer is made behind the last message that did. Needs ``cometlog[nats]``.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from cometlog.errors import TargetError
from cometlog.forward.backoff import Backoff
from cometlog.forward.nats_connection import FAILURES, NatsConnection, in_words
from cometlog.forward.nats_subject import MESSAGE_ID
from cometlog.forward.source import Record, Source
from cometlog.forward.target import CHECK_TIMEOUT_S

_INACTIVE_S = 300.0
_PARTITION = "0"


class NatsSource(Source):
    """One stream of JetStream, which is one partition; its offsets are the stream's sequence numbers."""

    def __init__(self, servers: list[str], stream: str, properties: Mapping[str, str]) -> None:
        """Nothing is connected yet. Raises ConfigurationError for a property that there is not."""
        self._stream = stream
        self._connection = NatsConnection(servers, properties)
        self._backoff = Backoff()
        self._next = 1
        self._end = 1
        self._reader: Any = None
        self._delivered = 0

    def check(self) -> None:
        """See ``Source.check``."""
        self._connection.run(self._connection.open(CHECK_TIMEOUT_S))
        self._connection.run(self._bounds())

    def go_to(self, offsets: Mapping[str, int]) -> int:
        """See ``Source.go_to``."""
        first, end = self._connection.run(self._bounds())
        self._next = offsets.get(_PARTITION, first)
        if self._next > end:
            raise TargetError(
                f"the import stands at message {self._next} of stream {self._stream} at {self._connection.where()}, which ends before "
                f"{end}: it is not the stream that was imported; give this import another group"
            )
        lost = max(0, first - self._next)
        self._next, self._end = max(self._next, first), end
        return lost

    async def _bounds(self) -> tuple[int, int]:
        """Return the first sequence number and the next."""
        try:
            state = (await self._connection.client.jetstream().stream_info(self._stream)).state
        except (*FAILURES, ValueError) as error:
            raise TargetError(
                f"stream {self._stream} at {self._connection.where()} cannot be read: {in_words(error)}"
            ) from error
        return max(1, int(state.first_seq)), int(state.last_seq) + 1

    def read(self, count: int, wait_s: float) -> list[Record]:
        """See ``Source.read``; while the server does not answer, nothing comes."""
        return self._connection.run(self._read(count, wait_s))

    async def _read(self, count: int, wait_s: float) -> list[Record]:
        try:
            if self._reader is None or not self._connection.is_open:
                await self._begin()
            messages = await self._reader.fetch(count, timeout=wait_s)
        except NotFoundError as error:
            raise TargetError(f"stream {self._stream} at {self._connection.where()} is gone") from error
        except TimeoutError:
            await self._look_for_end()
            return []
        except (*FAILURES, TargetError):
            self._reader = None
            await asyncio.sleep(min(self._backoff.next_s(), 1.0))
            return []
        self._backoff.reset()
        return self._records(messages)

    async def _look_for_end(self) -> None:
        """Have the end here, where the consumer delivered everything and nothing is under way: what followed was removed."""
        if self._reader is None or self.is_at_end():
            return
        with suppress(*FAILURES):  # the next read meets them again
            info = await self._reader.consumer_info()
            if not info.num_pending and info.delivered.consumer_seq == self._delivered:
                self._end = min(self._end, self._next)

    def _records(self, messages: list[Any]) -> list[Record]:
        records = []
        for message in messages:
            sequence = message.metadata.sequence
            self._delivered += 1
            if sequence.consumer != self._delivered:
                self._reader = None
                break
            self._next = sequence.stream + 1
            if not message.metadata.num_pending:
                self._end = min(self._end, self._next)
            identity = (message.headers or {}).get(MESSAGE_ID, "")
            records.append(Record(_PARTITION, sequence.stream, identity, message.data))
        return records

    async def _begin(self) -> None:
        """Have a connection, and a consumer that begins with the next message."""
        self._reader = None
        if not self._connection.is_open:
            await self._connection.drop()
            await self._connection.open(CHECK_TIMEOUT_S)
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self._next, ack_policy=AckPolicy.NONE,
            inactive_threshold=_INACTIVE_S, mem_storage=True,
        )  # fmt: skip
        reader = await self._connection.client.jetstream().pull_subscribe(
            "", stream=self._stream, config=config
        )
        if not (await reader.consumer_info()).num_pending:
            self._end = min(self._end, self._next)
        self._delivered = 0
        self._reader = reader

    def is_at_end(self) -> bool:
        """See ``Source.is_at_end``."""
        return self._next >= self._end

    def close(self) -> None:
        """See ``Source.close``; the server drops the consumer when it was left alone for a while."""
        self._connection.close()
