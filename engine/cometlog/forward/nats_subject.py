"""The one sequence of messages on a subject of JetStream, in which each batch names the message that it follows.

A batch is stored only where the subject's last message is still the one that was last when it was made up: the server compares the
sequence number. So nothing is stored behind a gap, nothing twice, and what an older connection left on its way stores nothing any
more, however late it comes. After a refusal, and on a new connection, the last message is read: its id says how far the entries came.

Where the stream allows it (``allow_atomic``, servers from 2.12 on), up to a thousand messages are one batch, stored as a whole.
Elsewhere a batch is one message, and a subject takes one for each answer of the server.

Thread safety: coroutines of one loop; ``send`` waits for those before it.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes

from nats.js.errors import NotFoundError

from cometlog.errors import TargetError
from cometlog.forward.entry_key import parse_key
from cometlog.forward.nats_connection import FAILURES, NatsConnection, in_words
from cometlog.forward.target import EntriesRefusedError, Refusal, Shipment

MESSAGE_ID = "Nats-Msg-Id"
TIMESTAMP = "Cometlog-Timestamp-Ns"
KEY = "Cometlog-Key"
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
BATCH_MESSAGES_MAX = 1000
"""What the server allows by default."""
WRONG_LAST_SEQUENCE = (10071, 10164)
DUPLICATE_IN_BATCH = 10201
BATCH_TOO_LARGE = 10199
ATOMIC_DISABLED = 10174
MESSAGE_TOO_LARGE = (10054, 10097)
BATCH_HEADER_BYTES = 256
"""More than the headers of a batch take, and the line before them."""
_CONFLICTS_MAX = 20


class Message(NamedTuple):
    """One entry on its way: its number, the headers that it has in any batch, its bytes."""

    number: int
    headers: dict[str, str]
    data: bytes


class Last(NamedTuple):
    """The last message of a subject: its sequence in the stream, 0 where there is none, and its id."""

    sequence: int
    identity: str


class Subject:
    """What one forwarder knows of a subject and has under way to it; made anew for each connection."""

    def __init__(
        self, connection: NatsConnection, stream: str, subject: str, *, is_atomic: bool, size_max: int
    ) -> None:
        """``size_max``: bytes of headers and data that a message may have."""
        self.stream = stream
        self.subject = subject
        self._connection = connection
        self._batch_max = BATCH_MESSAGES_MAX if is_atomic else 1
        self._size_max = size_max
        self._turn = asyncio.Lock()
        self._last: Last | None = None
        self._failed = False

    async def last(self) -> Last:
        """Return the last message, as the stream's leader has it. Raises TargetError."""
        try:
            found = await self._connection.client.jetstream().get_last_msg(self.stream, self.subject)
        except NotFoundError:
            return Last(0, "")
        except FAILURES as error:
            raise TargetError(
                f"the last message of {self.subject} in stream {self.stream} cannot be read: {in_words(error)}"
            ) from error
        return Last(found.seq, (found.headers or {}).get(MESSAGE_ID, ""))

    async def send(self, shipment: Shipment) -> None:
        """Send what the subject does not have yet, in order, and return when all of it is stored.

        Raises TargetError, after which this object sends nothing any more; EntriesRefusedError for entries that will never be taken.
        """
        async with self._turn:
            if self._failed:
                raise TargetError(f"what came before on {self.subject} was not stored")
            self._failed = True
            await self._send(shipment)
            self._failed = False

    async def _send(self, shipment: Shipment) -> None:
        messages, conflicts, seen = self._messages(shipment), 0, None
        while messages:
            if self._last is None:
                self._last = await self.last()
            if self._last is not seen:
                seen = self._last
                messages = _behind(messages, shipment, seen.identity)
                continue
            batch = messages[: self._batch_max]
            answer = await self._publish(batch, self._last.sequence)
            error = answer.get("error")
            if error is None:
                if not answer.get("duplicate"):
                    self._last = seen = Last(answer["seq"], batch[-1].headers[MESSAGE_ID])
                del messages[: len(batch)]
                conflicts = 0
                continue
            conflicts += 1
            self._after_refusal(error, batch, shipment, conflicts)

    def _after_refusal(
        self, error: dict[str, Any], batch: Sequence[Message], shipment: Shipment, conflicts: int
    ) -> None:
        """Make ready for another try, or raise."""
        code = error.get("err_code")
        if code in MESSAGE_TOO_LARGE and len(batch) == 1:
            raise EntriesRefusedError(
                [Refusal(shipment.stream, batch[0].number, error.get("description", ""))]
            )
        if code in WRONG_LAST_SEQUENCE and conflicts <= _CONFLICTS_MAX:
            self._last = None
        elif code in (DUPLICATE_IN_BATCH, ATOMIC_DISABLED) and len(batch) > 1:
            self._batch_max = 1
        elif code == BATCH_TOO_LARGE and len(batch) > 1:
            self._batch_max = max(1, len(batch) // 2)
        else:
            raise TargetError(
                f"stream {self.stream} at {self._connection.where()} refused entry {batch[0].number} of {shipment.stream} on "
                f"{self.subject}: {error.get('description')} (error {code})"
            )

    async def _publish(self, batch: Sequence[Message], follows: int) -> dict[str, Any]:
        """Publish a batch that follows a message, and return the server's answer to its last."""
        expected = {EXPECTED: str(follows)}
        if len(batch) == 1:
            return await self._connection.ask(self.subject, batch[0].data, batch[0].headers | expected)
        identity = os.urandom(8).hex()
        client = self._connection.client
        for place, message in enumerate(batch, 1):
            headers = message.headers | {"Nats-Batch-Id": identity, "Nats-Batch-Sequence": str(place)}
            if place == len(batch):
                return await self._connection.ask(
                    self.subject, message.data, headers | {"Nats-Batch-Commit": "1"}
                )
            if place == 1:
                headers |= expected
            try:
                await client.publish(self.subject, message.data, headers=headers)
            except FAILURES as error:
                raise TargetError(
                    f"NATS at {self._connection.where()} takes nothing: {in_words(error)}"
                ) from error
        raise AssertionError("a batch has a last message")

    def _messages(self, shipment: Shipment) -> list[Message]:
        """Return the entries as messages; raises EntriesRefusedError where some are too long with their headers."""
        prefix = shipment.prefix.decode()
        keys = shipment.keys or [None] * len(shipment.numbers)
        messages, refusals = [], []
        for number, timestamp_ns, data, key in zip(
            shipment.numbers, shipment.timestamps_ns, shipment.payloads, keys, strict=True
        ):
            headers = {MESSAGE_ID: f"{prefix}{number}", TIMESTAMP: str(timestamp_ns)}
            if key is not None:
                headers[KEY] = quote_from_bytes(key, safe=" ")
            size = (
                len(data)
                + BATCH_HEADER_BYTES
                + sum(len(name) + len(value) + 4 for name, value in headers.items())
            )
            if size > self._size_max:
                refusals.append(
                    Refusal(
                        shipment.stream,
                        number,
                        f"{size} bytes with its headers, the target takes {self._size_max}",
                    )
                )
            messages.append(Message(number, headers, data))
        if refusals:
            raise EntriesRefusedError(refusals)
        return messages


def _behind(messages: list[Message], shipment: Shipment, last: str) -> list[Message]:
    """Return the messages that come behind the last one of the subject, where that is of the same log and stream."""
    found = parse_key(last)
    if found is None or not shipment.prefix.startswith(f"{found[0]}/".encode()):
        return messages
    return [message for message in messages if (shipment.epoch, message.number) > found[1:]]
