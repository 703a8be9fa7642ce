"""A connection to NATS and the loop that it lives in: waiting for what runs there, and ending it whatever the server does."""

import gc
import os
import socket
import threading
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

import nats
import pytest

from cometlog.forward.nats_connection import NatsConnection
from jetstream import JetStream


def sockets() -> set[str]:
    """Return the sockets that this process has open."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in found if name.startswith("socket:")}


def sockets_to(address: str) -> set[str]:
    """Return those whose peer is a server; what clients of earlier tests open or close at this moment does not count."""
    port = int(address.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    theirs = {f"socket:[{row[9]}]" for row in rows if int(row[2].rpartition(":")[2], 16) == port}
    return sockets() & theirs


def sockets_of_loop(connection: NatsConnection) -> set[str]:
    """Return the pair by which other threads wake the loop."""
    pair = (connection._loop._ssock, connection._loop._csock)
    return {os.readlink(f"/proc/self/fd/{end.fileno()}") for end in pair}


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


async def close_at_once(client, monkeypatch):
    """Have the client return from `close` as it does when its reading task has begun to close: nothing is closed yet."""

    async def nothing():
        pass

    monkeypatch.setattr(client, "close", nothing)


@pytest.mark.parametrize("again", [False, True], ids=["close", "drop and open"])
@pytest.mark.parametrize("case", ["a server that reads nothing", "a client that closes by itself"])
def test_no_socket_is_left_open(own_nats_server, monkeypatch, case, again):
    connection = NatsConnection([own_nats_server.address], {})
    pair = sockets_of_loop(connection)
    assert len(pair & sockets()) == 2
    connection.run(connection.open(5.0))
    if case == "a server that reads nothing":
        own_nats_server.pause()
        publishing = connection.begin(publish_much(connection))
        with pytest.raises(TimeoutError):
            publishing.result(0.5)
    else:
        connection.run(close_at_once(connection.client, monkeypatch))
    assert len(sockets_to(own_nats_server.address)) == 1
    if again:
        connection.run(connection.drop())
        assert sockets_to(own_nats_server.address) == set()
        own_nats_server.resume()
        connection.run(connection.open(5.0))
        assert len(sockets_to(own_nats_server.address)) == 1
    connection.close()
    assert sockets_to(own_nats_server.address) == set()
    assert pair & sockets() == set()


@contextmanager
def hanging_up():
    """A server that ends each connection at once; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            with suppress(OSError):
                while True:
                    server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def no_collection():
    """What only a garbage collection would close stays open."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_the_tests_own_client_leaves_nothing_open_where_a_server_hangs_up_before_it_says_anything():
    with hanging_up() as address:
        with pytest.raises(nats.errors.Error, match="INFO"):
            JetStream(address).count("any")
        assert sockets_to(address) == set()


@pytest.mark.usefixtures("no_collection")
def test_the_tests_own_client_leaves_nothing_open_that_closes_by_itself(own_nats_server, monkeypatch):
    stream = JetStream(own_nats_server.address)
    stream._run(lambda client, _jetstream: close_at_once(client, monkeypatch))
    assert sockets_to(own_nats_server.address) == set()
