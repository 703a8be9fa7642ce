"""A connection to NATS and the loop that it lives in: waiting for what runs there, and ending it whatever the server does."""

import os
from collections import Counter
from concurrent.futures import Future
from contextlib import suppress

import pytest

from cometlog.forward.nats_connection import NatsConnection


def sockets() -> Counter[str]:
    """Return the sockets that this process has open."""
    found: Counter[str] = Counter()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found[os.readlink(f"/proc/self/fd/{descriptor}")] += 1
    return Counter({name: count for name, count in found.items() if name.startswith("socket:")})


class DoneInBetween(Future[str]):
    """A future that gets its outcome right after the wait for it has timed out."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self._outcome = error

    def result(self, timeout: float | None = None) -> str:
        if self.done():
            return super().result(timeout)
        if self._outcome is None:
            self.set_result("an answer")
        else:
            self.set_exception(self._outcome)
        raise TimeoutError("the wait")


@pytest.mark.parametrize("error", [None, TimeoutError("the work"), OSError("the work")])
def test_what_ends_as_the_wait_for_it_times_out_counts(monkeypatch, error):
    connection = NatsConnection(["127.0.0.1:4222"], {})
    with monkeypatch.context() as patch:
        patch.setattr(connection, "begin", lambda _work: DoneInBetween(error))
        if error is None:
            assert connection.run(None) == "an answer"
        else:
            with pytest.raises(type(error), match="the work"):
                connection.run(None)
    connection.close()


async def publish_much(connection):
    """Publish more than any socket takes."""
    for _ in range(64):
        await connection.client.publish("much", bytes(1 << 20))


async def close_at_once(connection, monkeypatch):
    """Have the client return from `close` as it does when its reading task has begun to close: nothing is closed yet."""

    async def nothing():
        pass

    monkeypatch.setattr(connection.client, "close", nothing)


@pytest.mark.parametrize("again", [False, True], ids=["close", "drop and open"])
@pytest.mark.parametrize("case", ["a server that reads nothing", "a client that closes by itself"])
def test_no_socket_is_left_open(own_nats_server, monkeypatch, case, again):
    before = sockets()
    connection = NatsConnection([own_nats_server.address], {})
    loop_only = sockets()
    connection.run(connection.open(5.0))
    if case == "a server that reads nothing":
        own_nats_server.pause()
        publishing = connection.begin(publish_much(connection))
        with pytest.raises(TimeoutError):
            publishing.result(0.5)
    else:
        connection.run(close_at_once(connection, monkeypatch))
    assert (sockets() - loop_only).total() == 1
    if again:
        connection.run(connection.drop())
        assert sockets() == loop_only
        own_nats_server.resume()
        connection.run(connection.open(5.0))
    connection.close()
    assert sockets() == before
