"""Forwarding to JetStream: order, positions and refusals, against a real server."""

import os
import random
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import cometlog
from cometbench.services.nats import NatsServer
from cometbench.services.service import free_port
from cometlog.errors import ConfigurationError, TargetError
from cometlog.forward import Forwarder
from cometlog.forward.dead_letters import decode
from cometlog.forward.nats_connection import NatsConnection
from cometlog.forward.nats_subject import Subject
from cometlog.forward.target import EntriesRefusedError, Shipment
from jetstream import JetStream, Stored

SHARDS = 4
EACH = 2500
STREAMS = [f"events:v1:shard:{shard:04d}" for shard in range(SHARDS)]


def entry(shard: int, number: int) -> bytes:
    return b"%d/%d/" % (shard, number) + b"." * 100


def fill(client: cometlog.Client, each: int = EACH, start: int = 0) -> None:
    for shard, stream in enumerate(STREAMS):
        client.append(stream, [entry(shard, number) for number in range(start, start + each)])


def forward(client: cometlog.Client, to: str, **options: Any) -> Any:
    with Forwarder(client, to=to, **options) as forwarder:
        forwarder.run(until_caught_up=True)
        return forwarder.stats()


def by_subject(messages: list[Stored]) -> dict[str, list[bytes]]:
    found = defaultdict(list)
    for message in messages:
        found[message.subject].append(message.data)
    return found


def url(server: NatsServer, template: str) -> str:
    return f"nats://{server.address}/{template}"


def shipment(numbers: range, stream: str = STREAMS[0], log: str = "0123456789ab", epoch: int = 1) -> Shipment:
    return Shipment(
        stream, 0, epoch, f"{log}/{stream}/{epoch}/".encode(), list(numbers), [7] * len(numbers),
        [entry(0, number) for number in numbers], None, numbers.stop,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["at-least-once", "exactly-once"])
@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "singly"])
def test_each_shard_arrives_in_order_with_its_keys(tmp_path, nats_server, jetstream, atomic, mode) -> None:
    name = f"order-{atomic}-{mode}"
    each = EACH if atomic else 300
    jetstream.make(name, allow_atomic=atomic)
    with cometlog.open(tmp_path / "log") as client:
        fill(client, each)
        stats = forward(client, url(nats_server, f"{name}.{{stream}}"), mode=mode)
        timestamps = [found.timestamp_ns for found in client.scan(STREAMS[1])]
    assert (stats.forwarded, stats.resent, stats.lag) == (SHARDS * each, 0, 0)
    messages = jetstream.messages(name)
    found = by_subject(messages)
    assert found == {
        f"{name}.events.v1.{shard:04d}": [entry(shard, number) for number in range(each)]
        for shard in range(SHARDS)
    }
    second = [message for message in messages if message.subject.endswith(".0001")]
    log = second[0].identity.partition("/")[0]
    assert [message.identity for message in second] == [
        f"{log}/{STREAMS[1]}/1/{number}" for number in range(each)
    ]
    assert [int(message.headers["Cometlog-Timestamp-Ns"]) for message in second] == timestamps


def test_a_missing_stream_is_made_with_batches_and_all_subjects_below_its_name(
    tmp_path, nats_server, jetstream
) -> None:
    with cometlog.open(tmp_path / "log") as client:
        fill(client, 3)
        forward(client, url(nats_server, "made.here.{shard}"))
    config = jetstream.config("made")
    assert (config.subjects, config.allow_atomic, config.storage) == (["made", "made.>"], True, "file")
    assert by_subject(jetstream.messages("made"))["made.here.0002"] == [
        entry(2, number) for number in range(3)
    ]


def test_nothing_is_sent_again_that_the_subject_has_after_the_duplicate_window_either(
    tmp_path, nats_server, jetstream
) -> None:
    """Another group knows nothing of what was sent; the last message of each subject does."""
    jetstream.make("again", allow_atomic=True, duplicate_window=0.1)
    to = url(nats_server, "again.{stream}")
    with cometlog.open(tmp_path / "log") as client:
        fill(client)
        forward(client, to)
        time.sleep(0.3)  # the window and more
        fill(client, 10, start=EACH)
        for mode in ("at-least-once", "exactly-once"):
            stats = forward(client, to, group=f"another-{mode}", mode=mode)
            assert stats.failures == 0
    found = by_subject(jetstream.messages("again"))
    assert found["again.events.v1.0003"] == [entry(3, number) for number in range(EACH + 10)]
    assert sum(map(len, found.values())) == SHARDS * (EACH + 10)


def test_order_holds_while_a_full_stream_refuses_and_after_it_was_given_room(
    tmp_path, nats_server, jetstream
) -> None:
    """A batch is refused in the middle of a shard, the entries behind it wait, and go on where it was."""
    jetstream.make("full", allow_atomic=False, max_msgs=25, discard="new")
    with cometlog.open(tmp_path / "log") as client:
        client.append(STREAMS[0], [entry(0, number) for number in range(60)])
        with Forwarder(client, to=url(nats_server, "full.{stream}")) as forwarder:
            pauses = 0

            class Room:
                """Gives the stream room while the forwarder waits for the second time."""

                def __call__(self, pause_s: float) -> None:
                    nonlocal pauses
                    pauses += 1
                    if pauses == 2:
                        jetstream.change("full", max_msgs=1000)

            forwarder._sleeper.pause = Room()
            forwarder.run(until_caught_up=True)
            stats = forwarder.stats()
    assert (pauses, stats.failures) == (2, 2)
    assert "maximum messages exceeded" in stats.last_error
    assert [message.data for message in jetstream.messages("full")] == [
        entry(0, number) for number in range(60)
    ]


def test_what_is_too_large_goes_to_the_dead_letters_and_the_rest_in_order(
    tmp_path, nats_server, jetstream
) -> None:
    jetstream.make("small", allow_atomic=True, max_msg_size=1000)
    with cometlog.open(tmp_path / "log") as client:
        entries = [b"a", b"b" * 2000, b"c", b"d" * 999, b"e"]
        client.append(STREAMS[0], entries)
        stats = forward(client, url(nats_server, "small.{stream}"))
        letters = [decode(letter.data) for letter in client.scan("forward-dead-letter:v1:shard:0000")]
    assert (stats.forwarded, stats.dead_letters) == (3, 2)
    assert [message.data for message in jetstream.messages("small")] == [b"a", b"c", b"e"]
    assert [(letter.number, letter.data) for letter in letters] == [(1, entries[1]), (3, entries[3])]


@pytest.fixture
def connect(nats_server: NatsServer) -> Iterator[Callable[[], NatsConnection]]:
    """A function that connects once more, as another forwarder would."""
    made: list[NatsConnection] = []

    def connected() -> NatsConnection:
        made.append(NatsConnection([nats_server.address], {}))
        made[-1].run(made[-1].open(5.0))
        return made[-1]

    yield connected
    for connection in made:
        connection.close()


def test_what_a_key_makes_too_long_is_refused_by_number(jetstream, connect) -> None:
    """Bytes of a key may become three in a header; then only the target itself can tell."""
    jetstream.make("keyed", allow_atomic=True, max_msg_size=1000)
    connection = connect()
    subject = Subject(connection, "keyed", "keyed.x", is_atomic=True, size_max=1000)
    keyed = replace(shipment(range(3)), keys=[b"k", b"\xff" * 300, None])
    with pytest.raises(
        EntriesRefusedError, match=r"the first entry 1 of events:v1:shard:0000: 1\d\d\d bytes"
    ):
        connection.run(subject.send(keyed))
    rest = replace(keyed, keys=[b"k", b"\xff", None])
    connection.run(Subject(connection, "keyed", "keyed.x", is_atomic=True, size_max=1000).send(rest))
    assert [message.headers.get("Cometlog-Key") for message in jetstream.messages("keyed")] == [
        "k",
        "%FF",
        None,
    ]


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "singly"])
def test_a_batch_that_comes_late_is_not_stored_behind_what_took_its_place(jetstream, connect, atomic) -> None:
    """What an older connection still had on its way reaches the server when the newer one has sent the same and more."""
    name = f"late-{atomic}"
    jetstream.make(name, allow_atomic=atomic, duplicate_window=0.1)
    older, newer = connect(), connect()
    late = Subject(older, name, f"{name}.x", is_atomic=atomic, size_max=10_000)
    older.run(late.send(shipment(range(20))))
    newer.run(Subject(newer, name, f"{name}.x", is_atomic=atomic, size_max=10_000).send(shipment(range(50))))
    time.sleep(0.3)  # so that no window of ids helps
    older.run(late.send(shipment(range(20, 40))))
    assert [message.data for message in jetstream.messages(name)] == [
        entry(0, number) for number in range(50)
    ]
    older.run(late.send(shipment(range(40, 60))))
    assert [message.data for message in jetstream.messages(name)] == [
        entry(0, number) for number in range(60)
    ]


def test_a_later_epoch_goes_on_and_an_earlier_one_is_known(jetstream, connect) -> None:
    """After a power loss numbers are given again in the next epoch; what comes of the one before was sent long ago."""
    jetstream.make("epochs", allow_atomic=True)
    connection = connect()
    subject = Subject(connection, "epochs", "epochs.x", is_atomic=True, size_max=10_000)
    for epoch, numbers in ((1, range(10)), (2, range(8, 12)), (1, range(5, 10)), (2, range(9, 13))):
        connection.run(subject.send(shipment(numbers, epoch=epoch)))
    ends = [message.identity.rpartition("shard:0000/")[2] for message in jetstream.messages("epochs")]
    assert ends == [f"1/{number}" for number in range(10)] + [f"2/{number}" for number in range(8, 13)]


def test_ids_that_the_server_remembers_are_stored_once_on_a_subject_of_several_logs(
    jetstream, connect
) -> None:
    """The last message is another log's, so only the server's window knows what is there: batches give way to single messages."""
    jetstream.make("shared", allow_atomic=True)
    connection = connect()

    def send(numbers: range, log: str) -> None:
        subject = Subject(connection, "shared", "shared.x", is_atomic=True, size_max=10_000)
        connection.run(subject.send(shipment(numbers, log=log)))

    send(range(20), "aaaaaaaaaaaa")
    send(range(5), "bbbbbbbbbbbb")
    send(range(10, 30), "aaaaaaaaaaaa")
    ends = [message.identity.replace(f"/{STREAMS[0]}/1/", "") for message in jetstream.messages("shared")]
    a, b = "a" * 12, "b" * 12
    assert ends == [
        *(f"{a}{n}" for n in range(20)),
        *(f"{b}{n}" for n in range(5)),
        *(f"{a}{n}" for n in range(20, 30)),
    ]


def test_streams_may_share_a_subject_at_least_once_but_not_exactly_once(
    tmp_path, nats_server, jetstream
) -> None:
    jetstream.make("one", allow_atomic=True)
    to = url(nats_server, "one.subject")
    with cometlog.open(tmp_path / "log") as client:
        fill(client)
        forward(client, to)
        messages = jetstream.messages("one")
        for shard in range(SHARDS):
            mine = [message.data for message in messages if message.data.startswith(b"%d/" % shard)]
            assert mine == [entry(shard, number) for number in range(EACH)]
        with Forwarder(client, to=to, group="exact", mode="exactly-once") as forwarder:
            forwarder._sleeper.pause = lambda _pause_s: forwarder.stop()
            forwarder.run(until_caught_up=True)
            assert "exactly once needs a subject for each stream alone" in forwarder.stats().last_error
    assert len(jetstream.messages("one")) == SHARDS * EACH


@pytest.mark.parametrize(
    ("template", "properties", "error", "says"),
    [
        ("nowhere.{stream}", {"create": "no"}, TargetError, "takes the subject nowhere.events.v1.0000, and create=no"),
        ("nowhere..{stream}", {}, TargetError, "the subject 'nowhere..events.v1.0000' has an empty part"),
        ("taken.{stream}", {}, TargetError, "taken cannot be made: subjects overlap with an existing stream"),
        ("x.{stream}", {"create": "maybe"}, ConfigurationError, "create is yes or no, got 'maybe'"),
        ("x.{stream}", {"replicas": "0"}, ConfigurationError, "replicas is a whole number from 1 on, got '0'"),
        ("x.{stream}", {"acks": "all"}, ConfigurationError, "NATS has no property 'acks'; there are"),
        ("x.{stream}", {"tls_ca": "/nowhere"}, ConfigurationError, "a file of tls_ca, tls_certificate or tls_key cannot be used"),
    ],
)  # fmt: skip
def test_bad_input_is_said_and_the_log_left_alone(
    tmp_path, nats_server, jetstream, template, properties, error, says
) -> None:
    if template.startswith("taken"):
        jetstream.make("holder", subjects=["taken.other"])
    root = tmp_path / "log"
    with cometlog.open(root) as client:
        client.append(STREAMS[0], [b"x"])
    before = sorted(path for path in root.rglob("*"))
    began_s = time.monotonic()
    with cometlog.open(root) as client, pytest.raises(error, match=says):
        forward(client, url(nats_server, template), properties=properties)
    assert time.monotonic() - began_s < 20
    assert sorted(path for path in root.rglob("*")) == before


def test_a_server_that_is_not_there_or_says_nothing_is_reported_in_time(tmp_path) -> None:
    with socket.socket() as silent, cometlog.open(tmp_path / "log") as client:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for address in (f"127.0.0.1:{silent.getsockname()[1]}", f"127.0.0.1:{free_port()}"):
            began_s = time.monotonic()
            with pytest.raises(TargetError, match=f"no NATS server at {address} answers"):
                forward(client, f"nats://{address}/x")
            assert time.monotonic() - began_s < 20


def test_a_stream_that_drops_what_was_consumed_cannot_say_how_far_it_came(
    tmp_path, nats_server, jetstream
) -> None:
    jetstream.make("queue", retention="workqueue", allow_atomic=True)
    with cometlog.open(tmp_path / "log") as client:
        fill(client, 5)
        with Forwarder(client, to=url(nats_server, "queue.{stream}"), mode="exactly-once") as forwarder:
            forwarder._sleeper.pause = lambda _pause_s: forwarder.stop()
            forwarder.run(until_caught_up=True)
            assert "stream queue drops what was consumed" in forwarder.stats().last_error
        assert forward(client, url(nats_server, "queue.{stream}")).forwarded == 5 * SHARDS


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "singly"])
@pytest.mark.timeout(600)
def test_every_entry_arrives_once_while_forwarders_and_the_server_are_killed(
    tmp_path, own_nats_server, atomic
) -> None:
    """Each forwarder is killed once some of its entries have arrived, the server once before that; the log grows meanwhile.

    The server's window of ids is kept so short that it helps nobody.
    """
    each, kills = (15_000, 4) if atomic else (1_000, 4)
    more = each // 10
    seed = int(os.environ.get("COMETLOG_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"COMETLOG_TEST_SEED={seed}", file=sys.stderr)
    rng = random.Random(seed)
    jetstream = JetStream(own_nats_server.address)
    jetstream.make("storm", allow_atomic=atomic, duplicate_window=0.1)
    root = tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        "cometlog",
        "forward",
        str(root),
        "--to",
        url(own_nats_server, "storm.{stream}"),
    ]
    resumed = []
    with cometlog.open(root) as client:
        fill(client, each)
        for kill in range(kills):
            before = jetstream.count("storm")
            process = subprocess.Popen([*command, "--batch-size", "3000"], stderr=subprocess.DEVNULL)
            try:
                jetstream.wait_for("storm", before + rng.randint(1, each // 10))
                if kill == 1:
                    own_nats_server.kill()
                    own_nats_server.start()
                    jetstream.wait_for("storm", before + each // 10 + rng.randint(1, each // 10))
            finally:
                process.kill()
                process.wait()
            resumed.append(jetstream.count("storm") - before)
            fill(client, more, start=each + more * kill)
        ended = subprocess.run(
            [*command, "--until-caught-up"], capture_output=True, text=True, timeout=100, check=True
        )
        total = each + more * kills
        lags = [client.consumer("forward").lag(stream) for stream in STREAMS]
    print(f"sent by the {kills} that were killed: {resumed}; {ended.stderr.strip()}", file=sys.stderr)
    assert min(resumed) > 0
    assert lags == [0] * SHARDS
    found = by_subject(jetstream.messages("storm"))
    assert {name: len(data) for name, data in found.items()} == {
        f"storm.events.v1.{n:04d}": total for n in range(SHARDS)
    }
    for shard in range(SHARDS):
        assert found[f"storm.events.v1.{shard:04d}"] == [entry(shard, number) for number in range(total)]
