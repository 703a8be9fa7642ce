"""Dead letters: one for each entry that a target does not take, none for a letter, and none that its log does not take."""

import pytest

import cometlog
from cometbench.services.nats import NatsServer
from cometlog.forward import Forwarder
from cometlog.forward.dead_letters import Letter, decode
from cometlog.rotation import batch_bytes_max_for
from fake_target import FakeTarget
from jetstream import JetStream
from kafka_side import stream

TO = "kafka://127.0.0.1:1/{stream}"
LETTER = Letter(stream(3), 7, 1, 2, "too long", 4, b"\x00\n\xff")


def forward(client: cometlog.Client, **options):
    """Forward what is there; return the statistics."""
    with Forwarder(client, to=TO, **options) as forwarder:
        forwarder.run(until_caught_up=True)
        return forwarder.stats()


def segments_of(size_bytes: int) -> cometlog.Config:
    return cometlog.Config.default().with_changes(storage={"segment_size_bytes": size_bytes})


def letters(client: cometlog.Client, group: str = "forward") -> list[Letter]:
    """Return the dead letters of a group in shard 0."""
    return [decode(entry.data) for entry in client.scan(f"{group}-dead-letter:v1:shard:0000")]


@pytest.mark.parametrize(
    "stored",
    [
        b"", b"no json", b"\xff\n", b"[1]\n", b"{}\n", b'{"stream": "a"}\n', b"[" * 100_000, LETTER.encode()[1:],
        LETTER.encode().replace(b'"limit_bytes"', b'"data"'), LETTER.encode().replace(b'"number": 7', b'"number": "7"'),
        LETTER.encode().replace(b'"events', b'["events').replace(b'0003"', b'0003"]'),
        LETTER.encode().partition(b"\n")[0],
    ],
    ids=lambda stored: ascii(stored)[:40],
)  # fmt: skip
def test_what_is_no_letter_is_refused_by_one_kind_of_error(stored: bytes) -> None:
    with pytest.raises(ValueError, match="no dead letter"):
        decode(stored)


def test_a_letter_is_read_as_it_was_written() -> None:
    assert decode(LETTER.encode()) == LETTER
    assert decode(LETTER._replace(limit_bytes=None, data=b"").encode()).limit_bytes is None


def test_two_forwarders_of_a_log_do_not_write_letters_of_letters(root, target: FakeTarget) -> None:
    """Each forwards the dead letters of the other, and a letter is longer than the entry in it."""
    target.limit = 50
    with cometlog.open(root) as client:
        client.append(stream(0), [b"a", b"b" * 51, b"c"])
        done = [forward(client, group=group) for group in ("a", "b", "a", "b")]
        assert [(stats.forwarded, stats.dead_letters, stats.lag) for stats in done] == [
            (2, 1, 0), (2, 2, 0), (0, 1, 0), (0, 0, 0),
        ]  # fmt: skip
        assert letters(client, "a") == letters(client, "b")
        assert [(letter.number, letter.data) for letter in letters(client, "a")] == [(1, b"b" * 51)]
        assert target.arrived == {stream(0): [b"a", b"c", b"a", b"c"]}


@pytest.mark.parametrize(("writer_s", "kept_bytes"), [(64 << 10, 15_360), (128 << 10, 15_872)])
def test_a_letter_that_is_too_long_for_its_log_is_cut(root, target: FakeTarget, writer_s, kept_bytes) -> None:
    """The longest entry of its log has no room for a head; and a forwarder may have smaller segments than what wrote it."""
    target.limit = 1000
    data = bytes(range(256)) * 1000
    data = data[: batch_bytes_max_for(writer_s)]
    with cometlog.open(root, segments_of(writer_s)) as client:
        client.append(stream(0), [data])
        client.append(stream(0), [b"behind"])
    with cometlog.open(root, segments_of(64 << 10)) as client:
        done = forward(client)
        (letter,) = letters(client)
    assert (done.forwarded, done.dead_letters, done.lag) == (1, 1, 0)
    assert letter.data == data[:kept_bytes]
    assert letter.reason == (
        f"{len(data)} bytes, the target takes 1000; {kept_bytes} of {len(data)} bytes are kept here, a whole letter is too long for "
        "the log"
    )


def test_letters_are_not_written_again_where_jetstream_says_how_far_it_came(
    root, nats_server: NatsServer, jetstream: JetStream
) -> None:
    """The last message of the subject is of the entry before them, so the group goes back there on each connection."""
    jetstream.make("behind", allow_atomic=True, max_msg_size=1000)
    to = f"nats://{nats_server.address}/behind.{{stream}}"
    with cometlog.open(root) as client, Forwarder(client, to=to, mode="exactly-once") as forwarder:
        client.append(stream(0), [b"a", b"b" * 2000, b"c" * 2000])
        for _ in range(3):
            forwarder.run(until_caught_up=True)
        assert [letter.number for letter in letters(client)] == [1, 2]
        client.append(stream(0), [b"d"])
        forwarder.run(until_caught_up=True)
        done = forwarder.stats()
        assert len(letters(client)) == 2
    assert (done.forwarded, done.dead_letters, done.lag) == (2, 2, 0)
    assert [message.data for message in jetstream.messages("behind")] == [b"a", b"d"]
