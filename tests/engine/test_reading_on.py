"""Reading on where the last read ended takes a short way: it gives what any read gives, damage and short files included."""

import gc
import os
import random
from pathlib import Path

import pytest

import cometlog
from cometlog import CorruptionError, EntryNotFoundError
from cometlog.kernel.follow import Follower
from cometlog.segment import byte_offset
from cometlog.segment_reader import SegmentReader
from shards import filled, reader_of, segment_path, write_segments
from support import KIB, SHARD, STREAM, make_config, payload, segment_files


@pytest.fixture
def short_ways(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the entries of each read that took the short way."""
    taken = []
    go_on = SegmentReader.go_on

    def counted(self: SegmentReader, number: int, count: int):
        frames = go_on(self, number, count)
        if frames is not None:
            taken.append(frames.entries)
        return frames

    monkeypatch.setattr(SegmentReader, "go_on", counted)
    return taken


def test_reads_of_any_size_beside_appends_of_any_size_give_every_entry_once(
    root: Path, rng: random.Random, short_ways: list[int]
) -> None:
    written: list[bytes] = []
    found: list[tuple[int, bytes]] = []
    with cometlog.open(root, make_config(64 * KIB)) as client:
        client.append(STREAM, [b"first"])
        written.append(b"first")
        following = 0
        for _ in range(3000):
            if rng.random() < 0.5:
                batch = [
                    payload(len(written) + place, place, rng.randrange(16, 90))
                    for place in range(rng.randrange(1, 9))
                ]
                client.append(STREAM, batch)
                written += batch
            read = client.read(STREAM, following, rng.randrange(1, 12))
            assert read.numbers == [entry.number for entry in read]
            found += [(entry.number, entry.data) for entry in read]
            following = read.next_entry
        found += [(entry.number, entry.data) for entry in client.scan(STREAM, following)]
    assert found == list(enumerate(written))
    assert len(segment_files(root)) > 3
    assert len(short_ways) > 1000


def test_the_first_read_beyond_the_end_is_told_so_and_the_next_goes_on(
    root: Path, short_ways: list[int]
) -> None:
    with cometlog.open(root) as client:
        client.append(STREAM, [b"a", b"b"])
        assert len(client.read(STREAM, 0, 10)) == 2
        assert len(client.read(STREAM, 2, 10)) == 0
        with pytest.raises(EntryNotFoundError):
            client.read(STREAM, 3, 10)
        client.append(STREAM, [b"c", b"d", b"e"])
        assert client.read(STREAM, 2, 2).payloads() == [b"c", b"d"]
        assert client.read(STREAM, 4, 2).payloads() == [b"e"]
    assert short_ways == [2, 1]


def test_damage_behind_the_place_is_an_error_with_its_place(tmp_path: Path) -> None:
    image = filled(1, 0, 12)
    write_segments(tmp_path, image)
    path = segment_path(tmp_path, image)
    reader = reader_of(tmp_path)
    assert reader.read(0, 6).next_entry == 6  # three batches of 1, 2 and 3 entries
    place = image.units * 8 - 16  # in the payload of the last frame
    with path.open("r+b") as file:  # in place, so that the reader's map shows it
        file.seek(byte_offset(0) + place)
        byte = file.read(1)
        file.seek(byte_offset(0) + place)
        file.write(bytes([byte[0] ^ 1]))
    assert reader.read(6, 15).next_entry == 21
    with pytest.raises(CorruptionError, match="checksum") as caught:
        reader.read(21, 100)
    assert (caught.value.stream, caught.value.entry, caught.value.file) == (
        "events:v1:shard:0000",
        21,
        str(path),
    )
    assert caught.value.offset is not None
    assert caught.value.offset <= byte_offset(0) + place


def test_a_file_cut_short_behind_the_place_is_an_error_and_no_signal(tmp_path: Path) -> None:
    image = filled(1, 0, 3000)
    write_segments(tmp_path, image)
    reader = reader_of(tmp_path)
    assert reader.read(0, 6).next_entry == 6
    os.truncate(segment_path(tmp_path, image), 4096)
    with pytest.raises(CorruptionError, match="the file ends"):
        reader.read(6, 10)


def test_a_reader_that_is_closed_reads_on_no_more(root: Path) -> None:
    with cometlog.open(root) as client:
        client.append(STREAM, [b"a", b"b"])
        reader = reader_of(root / SHARD)
        assert len(reader.read(0, 1)) == 1
        reader.close()
        with pytest.raises(cometlog.ClosedError):
            reader.read(1, 1)


def test_a_follower_that_is_closed_or_stands_nowhere_says_that_it_cannot(tmp_path: Path) -> None:
    image = filled(1, 0, 6)
    write_segments(tmp_path, image)
    reader = reader_of(tmp_path)
    reader.read(0, 6)
    segment = reader._last
    assert segment is not None
    with pytest.raises(ValueError, match="16 bytes, got 3"):
        Follower(segment.segment.mapping, segment.segment.fd, b"abc", 0)
    fresh = Follower(segment.segment.mapping, segment.segment.fd, segment.segment.header.uuid, 0)
    assert fresh.go_on(5) is None
    assert segment.go_on(7, 5) is None
    follower = segment.follower
    assert (follower.next_entry, follower.index) == (6, 6)
    assert follower.go_on(0) is None
    segment.close()
    assert follower.go_on(5) is None


def test_entries_read_are_what_named_tuples_made_one_by_one_are_and_cost_the_collector_nothing(
    root: Path,
) -> None:
    with cometlog.open(root) as client:
        client.append(STREAM, [b"a", b"bc"])
        client.append(STREAM, [b"d"])
        batch = client.read(STREAM, 1, 10)
        rows = list(zip(batch.numbers, batch.timestamps_ns, [b"bc", b"d"], strict=True))
        expected = [cometlog.Entry(STREAM, number, stamp, data) for number, stamp, data in rows]
        assert list(batch) == list(batch.each()) == list(client.scan(STREAM, 1)) == expected
        assert {type(entry) for entry in batch} == {cometlog.Entry}
        assert not any(gc.is_tracked(entry) for entry in batch)
        assert [hash(entry) for entry in batch] == list(map(hash, expected))
