"""Seeking by time: the first entry that is not before a moment, whatever the index holds and whatever the clock did."""

import random
import time
from pathlib import Path

import pytest

import cometlog
from cometlog import ClosedError
from cometlog.reference import SegmentImage
from shards import STREAM, reader_of, segment, write_index, write_segments
from support import KIB, make_config

SECOND = 1_000_000_000


def shard_of(directory: Path, times: list[list[int]], indexed: bool = True) -> None:
    """Write one segment for each list, one batch of one or two entries for each time in it."""
    images: list[SegmentImage] = []
    base = 0
    for number, moments in enumerate(times, start=1):
        image = segment(number, base, previous=images[-1] if images else None)
        for place, moment in enumerate(moments):
            image.append([b"%d" % moment] * (place % 2 + 1), moment)
        image.sealed = number < len(times)
        base += image.entries
        images.append(image)
    write_segments(directory, *images)
    for image in images:
        if indexed:
            write_index(directory, image, interval=3)


def expected(directory: Path, moment: int) -> int:
    """The first entry that is not before a moment, found by looking at each."""
    reader = reader_of(directory)
    every = reader.read(0, 100_000)
    reader.close()
    return next((entry.number for entry in every if entry.timestamp_ns >= moment), every.next_entry)


@pytest.mark.parametrize("indexed", [True, False])
def test_every_moment_finds_its_entry_in_every_segment(tmp_path: Path, indexed: bool) -> None:
    times = [[5 * SECOND + 700_000_000 * (20 * part + place) for place in range(20)] for part in range(5)]
    shard_of(tmp_path, times, indexed)
    reader = reader_of(tmp_path)
    moments = [moment + step for part in times for moment in part for step in (-1, 0, 1)]
    assert [reader.entry_at_time(moment) for moment in moments] == [
        expected(tmp_path, moment) for moment in moments
    ]


def test_before_the_first_and_behind_the_last(tmp_path: Path) -> None:
    shard_of(tmp_path, [[10, 20, 30], [40, 50]])
    reader = reader_of(tmp_path)
    assert [reader.entry_at_time(moment) for moment in (-5, 0, 10)] == [0, 0, 0]
    assert [reader.entry_at_time(moment) for moment in (50, 51, 1 << 63, 1 << 70)] == [5, 7, 7, 7]
    assert reader.next_entry() == 7


def test_of_equal_timestamps_the_first_entry_is_found(tmp_path: Path) -> None:
    moment = 100 * SECOND
    shard_of(
        tmp_path, [[1, moment, moment, moment], [moment] * 30, [moment, moment + 1, moment + 9 * SECOND]]
    )
    reader = reader_of(tmp_path)
    assert reader.entry_at_time(moment) == 1
    assert reader.entry_at_time(moment + 1) == expected(tmp_path, moment + 1)


@pytest.mark.parametrize("indexed", [True, False])
def test_a_clock_that_was_set_back_by_less_than_a_second_hides_nothing(
    tmp_path: Path, rng: random.Random, indexed: bool
) -> None:
    moment, times = 10 * SECOND, []
    for _ in range(4):
        times.append([])
        for _ in range(40):
            moment += rng.randrange(SECOND)
            times[-1].append(moment - rng.choice([0, 0, 0, rng.randrange(SECOND)]))
    shard_of(tmp_path, times, indexed)
    reader = reader_of(tmp_path)
    moments = sorted(time + rng.choice([-1, 0, 1]) for part in times for time in part)
    assert [reader.entry_at_time(moment) for moment in moments] == [
        expected(tmp_path, moment) for moment in moments
    ]


def test_a_clock_that_was_set_back_far_gives_an_entry_that_is_not_before_the_moment(
    tmp_path: Path, rng: random.Random
) -> None:
    times = [[rng.randrange(1000) * SECOND for _ in range(30)] for _ in range(4)]
    shard_of(tmp_path, times)
    reader = reader_of(tmp_path)
    for moment in range(0, 1010 * SECOND, 7 * SECOND):
        found = reader.entry_at_time(moment)
        assert found >= expected(tmp_path, moment)
        assert found == reader.next_entry() or reader.read(found, 1)[0].timestamp_ns >= moment


def test_a_stream_without_entries_has_the_next_to_come(tmp_path: Path) -> None:
    reader = reader_of(tmp_path / "missing")
    assert reader.entry_at_time(5) == 0


@pytest.mark.parametrize("moment", [1.5, "now", None])
def test_what_is_no_time_in_whole_nanoseconds_is_refused(tmp_path: Path, moment: object) -> None:
    with pytest.raises(TypeError, match="whole ns since 1970"):
        reader_of(tmp_path).entry_at_time(moment)


def test_a_live_log_is_searched_from_any_moment_also_after_retention(root: Path) -> None:
    limits = {"max_shard_bytes": 1, "min_segments": 2, "interval_s": 0.0}
    with cometlog.open(root, make_config(64 * KIB, retention=limits)) as client:
        for number in range(200):
            client.append(STREAM, [b"%d" % number * 500])
        entries = list(client.scan(STREAM))
        for entry in random.Random(7).sample(entries, 30):
            first = next(other.number for other in entries if other.timestamp_ns >= entry.timestamp_ns)
            assert client.entry_at_time(STREAM, entry.timestamp_ns) == first
        assert client.entry_at_time(STREAM, time.time_ns() + SECOND) == 200
        first = client.retain()[-1].next_entry
        assert client.entry_at_time(STREAM, entries[0].timestamp_ns) == first
        consumer = client.consumer("g")
        consumer.reset(STREAM, client.entry_at_time(STREAM, entries[190].timestamp_ns))
        assert consumer.read(STREAM, 1)[0].numbers == [190]
    with pytest.raises(ClosedError):
        client.entry_at_time(STREAM, 0)
