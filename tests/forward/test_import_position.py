"""Where an import stands, at each instant at which its process may die."""

import json
import os
import shutil

import pytest

import cometlog
from cometlog import Config
from cometlog.errors import (
    CorruptionError,
    ImportPositionError,
)
from cometlog.forward.import_position import ImportPosition, Place
from feeds import FROM, LOG, STREAM
from test_holes import claim_and_vanish


@pytest.fixture
def client(tmp_path):
    with cometlog.open(tmp_path / "log") as opened:
        yield opened


ORIGIN = f"{LOG}/{FROM}"
BEFORE, AFTER = Place({"0": 10}, {f"0/{ORIGIN}": [1, 9]}), Place({"0": 13}, {f"0/{ORIGIN}": [1, 12]})
BATCH = [b"x", b"y", b"x"]


def announced(client, appended) -> Place:
    """Announce a batch, append what is given, die, and return where the next one goes on."""
    position = ImportPosition(client, STREAM, "import", "nats://here/s")
    position.announce(BEFORE, AFTER, BATCH)
    if appended:
        client.append(STREAM, appended)
    position.close()
    return resumed(client)


def resumed(client, stream=STREAM) -> Place:
    position = ImportPosition(client, stream, "import", "nats://here/s")
    try:
        return position.load()
    finally:
        position.close()


@pytest.mark.parametrize(
    ("appended", "place"),
    [
        ([], BEFORE),
        (BATCH, AFTER),
        ([b"other", *BATCH, b"other"], AFTER),
        ([b"x", b"other", b"y", b"x"], BEFORE),
    ],
    ids=["nothing", "the batch", "the batch among others", "only others"],
)
def test_the_stream_says_whether_the_batch_was_appended(client, appended, place):
    client.append(STREAM, [*BATCH, b"long ago"])
    assert announced(client, appended) == place


@pytest.mark.parametrize("appended", [[], [b"other"], BATCH], ids=["nothing", "others", "the batch"])
def test_numbers_that_a_dead_append_burnt_are_no_batch(client, appended):
    """The first entry that is kept lies behind them, as it does where retention removed something."""
    position = ImportPosition(client, FROM, "import", "nats://here/s")
    position.announce(BEFORE, AFTER, BATCH)
    position.close()
    assert claim_and_vanish(client.path, entries=len(BATCH), units=4) == 0
    if appended:
        client.append(FROM, appended)
    assert client.first_entry(FROM) == len(BATCH)
    assert resumed(client, FROM) == (AFTER if appended == BATCH else BEFORE)


def test_a_batch_behind_the_end_that_a_power_loss_left_is_not_there(tmp_path):
    """Others appended before the batch was announced, and nobody synced what they did."""
    with cometlog.open(tmp_path / "before") as client:
        client.append(STREAM, [b"long ago"])
        client.sync()
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    with cometlog.open(tmp_path / "before") as client:
        client.append(STREAM, [b"other"])
        position = ImportPosition(client, STREAM, "import", "nats://here/s")
        position.announce(BEFORE, AFTER, BATCH)
        position.close()
    shutil.copy(position.path, tmp_path / "after" / position.path.relative_to(tmp_path / "before"))
    with cometlog.open(tmp_path / "after") as client:
        assert resumed(client) == BEFORE


def test_a_batch_that_retention_removed_was_appended(tmp_path):
    config = Config.default().with_changes(
        storage={"segment_size_bytes": 128 << 10}, retention={"max_shard_bytes": 256 << 10}
    )
    with cometlog.open(tmp_path / "log", config) as client:
        assert announced(client, BATCH) == AFTER
        for _ in range(20):
            client.append(STREAM, [os.urandom(60_000)])
        assert client.retain()
        assert client.first_entry(STREAM) > 0
        assert resumed(client) == AFTER


@pytest.mark.parametrize(
    ("offsets", "numbers"),
    [({"3": 13}, {f"3/{ORIGIN}": [1, 12]}), ({"0": 13, "1": 4}, {}), ({}, {})],
    ids=["one", "several", "none"],
)
def test_a_position_of_format_1_knows_the_numbers_of_one_partition_alone(client, offsets, numbers):
    position = ImportPosition(client, STREAM, "import", "nats://here/s")
    position.settle(Place(offsets, {ORIGIN: [1, 12]} if offsets else {}))
    stored = json.loads(position.path.read_bytes())
    position.path.write_text(json.dumps(stored | {"format": 1}))
    assert position.load() == Place(offsets, numbers)
    position.path.write_text(json.dumps(stored | {"format": 3}))
    with pytest.raises(CorruptionError, match="this is no position of an import"):
        position.load()
    position.close()


def test_a_position_is_held_by_one_import_and_of_one_source(client):
    position = ImportPosition(client, STREAM, "import", "nats://here/s")
    position.settle(AFTER)
    with pytest.raises(
        ImportPositionError, match=f"process {os.getpid()} is importing into {STREAM} as 'import'"
    ):
        ImportPosition(client, STREAM, "import", "nats://here/s")
    ImportPosition(client, STREAM, "another", "nats://here/s").close()
    position.close()
    other = ImportPosition(client, STREAM, "import", "nats://there/s")
    with pytest.raises(
        ImportPositionError, match="where an import of nats://here/s stands, not of nats://there/s"
    ):
        other.load()
    other.path.write_bytes(b"{}")
    with pytest.raises(CorruptionError, match="this is no position of an import"):
        other.load()
    other.close()
