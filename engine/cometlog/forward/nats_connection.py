"""A connection to NATS, and the event loop that its client lives in, in a thread of its own. Needs ``cometlog[nats]``.

The client never reconnects by itself: what it had under way would be sent then, behind a gap perhaps. Who uses the connection sees
it end, looks how far the server came, and makes another.

Thread safety: ``run`` may be called from any thread; coroutines run in the loop's own.
"""

import asyncio
import json
import ssl
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from cometlog.errors import ConfigurationError, ExtraMissingError, TargetError
from cometlog.forward.target import KeepWaiting

try:
    import nats
    from nats import errors as nats_errors
    from nats.js import errors as jetstream_errors
except ImportError as error:
    raise ExtraMissingError(
        "forwarding to NATS and importing from it need the package nats-py: pip install 'cometlog[nats]'"
    ) from error

ANSWER_S = 5.0
"""How long the server may take for one answer."""
CLOSE_S = 1.0
FAILURES = (nats_errors.Error, OSError, asyncio.TimeoutError, ssl.SSLError)
"""What nats-py raises where the server, or the way to it, is at fault."""
PROPERTIES = ("user", "password", "token", "credentials", "tls_ca", "tls_certificate", "tls_key")
_POLL_S = 0.2

Result = TypeVar("Result")


class CuttingLoop(asyncio.SelectorEventLoop):
    """An event loop that knows its connections, to cut what nats-py leaves open: its ``close`` gives up where the server reads nothing
    more, and returns at once where the client has begun to close by itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self._connections: list[asyncio.Transport] = []

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """See asyncio."""
        made = await super().create_connection(*arguments, **options)
        self._connections.append(made[0])
        return made

    async def cut(self) -> None:
        """Close every connection, whatever it still has to send, and the sockets with them."""
        for transport in self._connections:
            transport.abort()
        self._connections.clear()
        await asyncio.sleep(0)  # aborted transports close their sockets in the loop's next turn


class NatsConnection:
    """One connection to one of several servers. ``open`` may follow ``drop``; ``close`` ends the thread."""

    def __init__(self, servers: list[str], properties: Mapping[str, str]) -> None:
        """``servers`` are HOST:PORT. Raises ConfigurationError for a property that there is not, or a file that cannot be read."""
        self.servers = servers
        self._options = _options(properties)
        self._loop = CuttingLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cometlog-nats", daemon=True)
        self._thread.start()
        self._client: Any = None
        self._said = ""
        self._lost: asyncio.Future[None] = self._loop.create_future()

    @property
    def client(self) -> Any:
        """The client of nats-py; only the loop may use it. Raises TargetError where there is no connection."""
        if self._client is None or self._client.is_closed:
            raise TargetError(f"there is no connection to NATS at {self.where()}")
        return self._client

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as anybody noticed."""
        return self._client is not None and not self._client.is_closed

    def where(self) -> str:
        """Return the servers for a message."""
        return ", ".join(self.servers)

    def begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start a coroutine in the loop; those begun by one thread start in that order."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Result], keep_waiting: KeepWaiting | None = None) -> Result:
        """Run a coroutine in the loop and return what it returns.

        Raises what it raises; where ``keep_waiting`` says to give up it is cancelled, and TargetError raised.
        """
        future = self.begin(work)
        while True:
            try:
                return future.result(_POLL_S)
            except TimeoutError:
                if future.done():  # the work raised it, or ended just after the wait
                    return future.result()
                if keep_waiting is not None and not keep_waiting():
                    future.cancel()
                    raise TargetError(f"no longer waiting for NATS at {self.where()}") from None

    async def open(self, timeout_s: float) -> None:
        """Connect to the first server that answers. Raises TargetError."""
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[None] = loop.create_future()

        async def note_end() -> None:
            if not lost.done():
                lost.set_result(None)

        async def note_error(error: Exception) -> None:
            self._said = in_words(error)

        self._said = ""
        client = nats.NATS()
        try:
            await asyncio.wait_for(
                client.connect(
                    [f"nats://{server}" for server in self.servers], name="cometlog", allow_reconnect=False,
                    max_reconnect_attempts=1, connect_timeout=2, closed_cb=note_end, disconnected_cb=note_end,
                    error_cb=note_error, **self._options,
                ),
                timeout_s,
            )  # fmt: skip
        except FAILURES as error:
            await self._end(client)
            raise TargetError(f"no NATS server at {self.where()} answers: {in_words(error)}") from error
        self._client, self._lost = client, lost

    async def ask(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Publish a message and return the answer to it, an object of JSON; at once an error when the connection ends."""
        answer = asyncio.ensure_future(self.client.request(subject, data, timeout=ANSWER_S, headers=headers))
        try:
            await asyncio.wait((answer, self._lost), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise TargetError(f"the connection to NATS at {self.where()} ended")
            found: dict[str, Any] = json.loads((await answer).data)
        except nats_errors.NoRespondersError as error:
            raise TargetError(
                f"no stream of JetStream at {self.where()} takes {subject}, or it has no leader now"
            ) from error
        except FAILURES as error:
            raise TargetError(
                f"NATS at {self.where()} did not answer: {self._said or in_words(error)}"
            ) from error
        finally:
            answer.cancel()
        return found

    async def drop(self) -> None:
        """End the connection; what was not sent yet may still be."""
        client, self._client = self._client, None
        if client is not None:
            await self._end(client)

    async def _end(self, client: Any) -> None:
        with suppress(*FAILURES):
            await asyncio.wait_for(client.close(), CLOSE_S)
        await self._loop.cut()

    async def _end_work(self) -> None:
        """End the connection, and what still runs in the loop."""
        await self.drop()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CLOSE_S)

    def close(self) -> None:
        """End the connection and the thread; closing twice is harmless."""
        if not self._thread.is_alive():
            return
        self.run(self._end_work())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def in_words(error: BaseException) -> str:
    """Return what an error says, or its kind where it says nothing."""
    if isinstance(error, jetstream_errors.APIError) and error.description:
        return str(error.description)
    return str(error).removeprefix("nats: ") or type(error).__name__


def _options(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of ``nats.connect``."""
    unknown = sorted(set(properties) - set(PROPERTIES))
    if unknown:
        raise ConfigurationError(f"NATS has no property {unknown[0]!r}; there are {', '.join(PROPERTIES)}")
    options: dict[str, Any] = {
        name: properties[name] for name in ("user", "password", "token") if name in properties
    }
    if "credentials" in properties:
        options["user_credentials"] = str(Path(properties["credentials"]))
    if any(name.startswith("tls_") for name in properties):
        try:
            context = ssl.create_default_context(cafile=properties.get("tls_ca"))
            if "tls_certificate" in properties:
                context.load_cert_chain(properties["tls_certificate"], properties.get("tls_key"))
        except OSError as error:
            raise ConfigurationError(
                f"a file of tls_ca, tls_certificate or tls_key cannot be used: {error}"
            ) from error
        options["tls"] = context
    return options
