"""Stream names: what is legal, what is refused and why, and that no name leaves the log's directory."""

import pytest

import cometlog
from cometlog import (
    ConfigurationError,
    StreamNameError,
    all_shard_streams,
    owns_shard,
    pick_shard,
    pick_shard_stream,
)
from cometlog.names import parse_stream

LEGAL = ["a:b:shard:0000", "events:v1:shard:9999", "A.b_c-d:1.2:shard:0042", "0:0:shard:0001"]
ILLEGAL = [
    "", "events", "events:v1:0000", "events:v1:shard:1", "events:v1:shard:00000", "events:v1:shard:abcd", "events:v1:part:0000",
    ":v1:shard:0000", "events::shard:0000", ".events:v1:shard:0000", "-e:v1:shard:0000", "a/b:v1:shard:0000", "..:v1:shard:0000",
    "a:..:shard:0000", "ev ents:v1:shard:0000", "événements:v1:shard:0000", "a\0:v1:shard:0000", "a\n:v1:shard:0000",
    "a:v1:shard:0000\n", "a:v1:shard:٠٠٠٠", "a:b:c:shard:0000", "a" * 101 + ":v1:shard:0000", "FORMAT:v1:shard:0000",
]  # fmt: skip


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_name_is_kept_as_it_is(name):
    assert str(parse_stream(name)) == name


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_name_is_refused_before_anything_is_made(tmp_path, name):
    with cometlog.open(tmp_path / "log") as client:
        before = sorted((tmp_path / "log").rglob("*"))
        for use in (
            lambda: client.append(name, [b"x"]),
            lambda: client.writer(name),
            lambda: client.read(name),
            lambda: client.entry_count(name),
            lambda: client.sync(name),
        ):
            with pytest.raises(StreamNameError):
                use()
        assert sorted((tmp_path / "log").rglob("*")) == before


@pytest.mark.parametrize("name", [None, 5, b"a:b:shard:0000", ["a"]])
def test_a_name_that_is_not_a_string_is_refused(tmp_path, name):
    with cometlog.open(tmp_path) as client, pytest.raises((StreamNameError, TypeError)):
        client.append(name, [b"x"])


def test_namespaces_are_kept_apart(tmp_path):
    names = ["a:v1:shard:0000", "b:v1:shard:0000", "a:v2:shard:0000", "a:v1:shard:0001"]
    with cometlog.open(tmp_path) as client:
        for name in names:
            client.append(name, [name.encode()])
        assert client.streams() == sorted(names)
        assert client.streams("a:v1:shard:*") == ["a:v1:shard:0000", "a:v1:shard:0001"]
        for name in names:
            assert [entry.data for entry in client.read(name)] == [name.encode()]


def test_a_key_always_falls_on_the_same_shard():
    assert [pick_shard(key, 16) for key in ("user-1", "user-2", b"user-1")] == [4, 14, 4]
    assert pick_shard_stream("user-1", "events", "v1", 16) == "events:v1:shard:0004"
    assert {pick_shard(f"user-{number}", 16) for number in range(1000)} == set(range(16))


def test_all_shards_are_those_that_a_key_may_fall_on():
    streams = all_shard_streams("events", "v1", 16)
    assert len(set(streams)) == 16
    assert {pick_shard_stream(f"user-{number}", "events", "v1", 16) for number in range(1000)} == set(streams)


def test_each_shard_is_owned_by_the_process_of_its_number_modulo_their_count():
    shares = [all_shard_streams("events", "v1", 10, assignment=(process, 3)) for process in range(3)]
    assert [[int(stream[-4:]) for stream in share] for share in shares] == [
        [0, 3, 6, 9],
        [1, 4, 7],
        [2, 5, 8],
    ]
    assert [owns_shard(7, (process, 3)) for process in range(3)] == [False, True, False]


@pytest.mark.parametrize("assignment", [(3, 3), (-1, 3), (0, 0), (1,), 5, ("a", "b")])
def test_an_assignment_out_of_range_is_refused(assignment):
    with pytest.raises(ConfigurationError, match="assignment is"):
        all_shard_streams("events", "v1", 10, assignment=assignment)


@pytest.mark.parametrize("count", [0, -1, 10_001, 1.5, "16"])
def test_a_number_of_shards_has_limits(count):
    for use in (lambda: pick_shard("key", count), lambda: all_shard_streams("events", "v1", count)):
        with pytest.raises(StreamNameError, match=f"1 to 10000, got {count}"):
            use()
