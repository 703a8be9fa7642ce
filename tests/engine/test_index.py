"""The sparse index is derived: missing, short, torn, foreign or damaged, it changes no answer."""

import os
import struct
from pathlib import Path

import pytest

import cometlog
from cometlog.index import START, SegmentIndex, load_index
from cometlog.kernel import checksum, layout
from cometlog.kernel.index_writer import IndexWriter
from cometlog.reader import ShardReader
from cometlog.reference import SegmentImage, make_tail, walk
from cometlog.segment import Segment, SegmentName
from shards import (
    INTERVAL_ENTRIES,
    STREAM,
    entries_of,
    filled,
    index_path,
    segment,
    segment_path,
    set_tail,
    write_index,
    write_segments,
)

BATCHES = 150


@pytest.fixture
def image(tmp_path: Path) -> SegmentImage:
    image = filled(1, 0, BATCHES)
    write_segments(tmp_path, image)
    return image


def tail_of(image: SegmentImage) -> int:
    return make_tail(image.entries, image.units, image.sealed)


def expected_boundaries(image: SegmentImage, interval: int) -> list[tuple[int, int]]:
    """Units and first entries of the boundaries, by the definition in FORMAT.md."""
    found: list[tuple[int, int]] = []
    for batch in walk(image.image()).batches:
        if not found or batch.first_index >= found[-1][1] + interval:
            found.append((batch.unit, batch.first_index))
    return found


def answers(directory: Path, image: SegmentImage) -> tuple[int, list[bytes], list[bytes]]:
    """Ask a new reader: the count, entries by seeks in falling order, and the last ones."""
    reader = ShardReader(directory, STREAM)
    try:
        seeks = [reader.read(number, 1).payloads()[0] for number in range(image.entries - 1, 0, -37)]
        return reader.entry_count(), seeks, reader.recent(5).payloads()
    finally:
        reader.close()


def true_answers(image: SegmentImage) -> tuple[int, list[bytes], list[bytes]]:
    entries = entries_of(image)
    return len(entries), [entries[number] for number in range(len(entries) - 1, 0, -37)], entries[-5:]


def test_file_holds_the_boundaries_that_the_format_defines(tmp_path: Path, image: SegmentImage) -> None:
    assert write_index(tmp_path, image) == image.units
    raw = index_path(tmp_path, image).read_bytes()
    records = struct.iter_unpack("<IIIIQ", raw[layout.INDEX_HEADER_BYTES :])
    assert [(unit, entry) for unit, entry, *_ in records] == expected_boundaries(image, INTERVAL_ENTRIES)
    index = load_index(index_path(tmp_path, image), image.uuid, tail_of(image))
    assert index.covered[:2] == expected_boundaries(image, INTERVAL_ENTRIES)[-1]
    assert index.interval_entries == INTERVAL_ENTRIES


def test_lookups_return_the_last_boundary_at_or_before(tmp_path: Path, image: SegmentImage) -> None:
    write_index(tmp_path, image)
    index = load_index(index_path(tmp_path, image), image.uuid, tail_of(image))
    boundaries = expected_boundaries(image, INTERVAL_ENTRIES)
    for entry in range(image.entries):
        assert index.at_or_before_entry(entry)[:2] == max(found for found in boundaries if found[1] <= entry)
    assert index.at_or_before_time(0) == START
    assert index.at_or_before_time(2**63)[:2] == boundaries[-1]


def test_lookup_by_time_survives_clocks_that_disagree(tmp_path: Path) -> None:
    image = segment(1)
    for timestamp_ns in (10, 50, 20, 60, 70):
        image.append([b"x"], timestamp_ns)
    write_segments(tmp_path, image)
    write_index(tmp_path, image, interval=1)
    index = load_index(index_path(tmp_path, image), image.uuid, tail_of(image))
    assert [index.at_or_before_time(timestamp_ns).entry for timestamp_ns in (10, 11, 50, 51, 61, 71)] == [
        0,
        0,
        0,
        2,
        3,
        4,
    ]


def test_a_growing_segment_gives_the_same_file_as_one_pass(tmp_path: Path, image: SegmentImage) -> None:
    write_index(tmp_path, image)
    at_once = index_path(tmp_path, image).read_bytes()
    index_path(tmp_path, image).unlink()
    path = segment_path(tmp_path, image)
    entries = units = 0
    for batch in range(BATCHES):
        frame_units = (
            int.from_bytes(image.frames[units * 8 : units * 8 + 4], "little") & layout.WORD_UNITS_MASK
        )
        entries, units = entries + batch % 3 + 1, units + frame_units
        set_tail(path, entries, units)
        if batch % 7 == 0:
            assert write_index(tmp_path, image) == units
    assert write_index(tmp_path, image) == image.units
    assert index_path(tmp_path, image).read_bytes() == at_once


def test_coverage_stops_at_a_word_in_flight_and_burnt_numbers_are_not_live(tmp_path: Path) -> None:
    image = segment(1)
    image.append([b"a", b"b"], 1)
    image.pad(4, 3)
    image.append([b"c"], 2)
    resolved_units = image.units
    image.claim(4, 1)
    image.append([b"d"], 3)
    write_segments(tmp_path, image)
    assert write_index(tmp_path, image, interval=1) == resolved_units
    index = load_index(index_path(tmp_path, image), image.uuid, tail_of(image))
    assert index.covered == (resolved_units - 4, 5, 2)
    assert [index.at_or_before_entry(5), index.at_or_before_entry(4)][0].live == 2


def test_nothing_beyond_what_is_backed_is_covered(tmp_path: Path, image: SegmentImage) -> None:
    path = segment_path(tmp_path, image)
    raw = bytearray(path.read_bytes())
    first_units = int.from_bytes(image.frames[:4], "little") & layout.WORD_UNITS_MASK
    raw[layout.SEGMENT_BACKED : layout.SEGMENT_BACKED + 8] = first_units.to_bytes(8, "little")
    path.write_bytes(raw)
    assert write_index(tmp_path, image) == first_units


def test_a_writer_that_cannot_write_says_so(tmp_path: Path, image: SegmentImage) -> None:
    opened = Segment(segment_path(tmp_path, image), writable=False)
    index_path(tmp_path, image).mkdir()
    directory_fd = os.open(tmp_path, os.O_RDONLY)
    name = SegmentName(1, 0).index_name
    writer = IndexWriter(opened.mapping, opened.header.uuid, 1, directory_fd, name)
    with pytest.raises(IsADirectoryError, match="index checkpoint"):
        writer.write_checkpoint()
    assert [found.name for found in tmp_path.glob("*.tmp.*")] == []
    os.close(directory_fd)


@pytest.mark.parametrize(
    "raw", [None, b"", b"COMETIDX", bytes(64), b"x" * 5000], ids=["none", "0", "8", "zeros", "noise"]
)
def test_a_missing_or_short_file_changes_no_answer(
    tmp_path: Path, image: SegmentImage, raw: bytes | None
) -> None:
    if raw is not None:
        index_path(tmp_path, image).write_bytes(raw)
    assert answers(tmp_path, image) == true_answers(image)
    assert write_index(tmp_path, image) == image.units
    assert len(load_index(index_path(tmp_path, image), image.uuid, tail_of(image))) > 0


def test_every_length_of_a_torn_file_changes_no_answer(tmp_path: Path, image: SegmentImage) -> None:
    write_index(tmp_path, image, interval=60)
    path = index_path(tmp_path, image)
    raw = path.read_bytes()
    truth = true_answers(image)
    for length in range(0, len(raw), 5):
        path.write_bytes(raw[:length])
        assert answers(tmp_path, image) == truth, length


def test_every_byte_flipped_changes_no_answer(tmp_path: Path, image: SegmentImage) -> None:
    write_index(tmp_path, image, interval=100)
    path = index_path(tmp_path, image)
    raw = path.read_bytes()
    truth = true_answers(image)
    for offset in range(len(raw)):
        path.write_bytes(raw[:offset] + bytes([raw[offset] ^ 0x10]) + raw[offset + 1 :])
        assert answers(tmp_path, image) == truth, offset
        write_index(tmp_path, image, interval=100)
        assert path.read_bytes() == raw, offset


def test_the_index_of_another_segment_is_not_believed(tmp_path: Path, image: SegmentImage) -> None:
    other_directory = tmp_path / "other"
    other_directory.mkdir()
    other = segment(2)
    for _ in range(40):
        other.append([b"longer entries than the others"] * 3, 1)
    write_segments(other_directory, other)
    write_index(other_directory, other)
    foreign = index_path(other_directory, other).read_bytes()
    index_path(tmp_path, image).write_bytes(foreign)
    assert answers(tmp_path, image) == true_answers(image)
    write_index(tmp_path, image)
    assert index_path(tmp_path, image).read_bytes() != foreign


def test_an_index_that_covers_more_than_the_tail_is_not_believed(tmp_path: Path, image: SegmentImage) -> None:
    write_index(tmp_path, image)
    assert len(load_index(index_path(tmp_path, image), image.uuid, tail_of(image))) > 0
    shorter = make_tail(image.entries, image.units - 1, True)
    assert len(load_index(index_path(tmp_path, image), image.uuid, shorter)) == 0


def test_a_false_boundary_with_true_checksums_is_found_out(tmp_path: Path, image: SegmentImage) -> None:
    write_index(tmp_path, image, interval=100)
    path = index_path(tmp_path, image)
    raw = bytearray(path.read_bytes())
    number = 1
    at = layout.INDEX_HEADER_BYTES + number * layout.BOUNDARY_SIZE_BYTES
    unit, entry, live, _, timestamp_ns = struct.unpack_from("<IIIIQ", raw, at)
    covered = image.uuid + struct.pack("<IIIIQ", number, unit + 1, entry, live, timestamp_ns)
    struct.pack_into("<IIIIQ", raw, at, unit + 1, entry, live, checksum.crc32c(covered), timestamp_ns)
    path.write_bytes(raw)
    assert load_index(path, image.uuid, tail_of(image)).at_or_before_entry(entry).unit == unit + 1
    reader = ShardReader(tmp_path, STREAM)
    assert reader.read(entry + 3, 1).payloads() == [entries_of(image)[entry + 3]]


def test_a_link_is_not_followed_and_is_replaced(tmp_path: Path, image: SegmentImage) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    index_path(tmp_path, image).symlink_to(victim)
    assert answers(tmp_path, image) == true_answers(image)
    assert write_index(tmp_path, image) == image.units
    assert victim.read_bytes() == b"untouched"
    assert not index_path(tmp_path, image).is_symlink()


def test_a_closed_writer_refuses_and_lets_go_of_the_segment(tmp_path: Path, image: SegmentImage) -> None:
    opened = Segment(segment_path(tmp_path, image), writable=False)
    directory_fd = os.open(tmp_path, os.O_RDONLY)
    writer = IndexWriter(opened.mapping, opened.header.uuid, 1, directory_fd, SegmentName(1, 0).index_name)
    writer.write_checkpoint()
    writer.close()
    writer.close()
    with pytest.raises(OSError, match="index checkpoint: Bad file descriptor"):
        writer.write_checkpoint()
    opened.close()
    os.close(directory_fd)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_an_index_in_memory_keeps_to_its_limit_and_still_finds_every_entry(tmp_path):
    config = cometlog.Config.default().with_changes(
        indexing={"boundary_interval_entries": 1, "max_index_entries": 16}
    )
    stream = "events:v1:shard:0000"
    with cometlog.open(tmp_path, config) as client:
        for number in range(500):
            client.append(stream, [b"%d" % number])
        found = [client.read(stream, number, 1)[0].data for number in range(500)]
        assert found == [b"%d" % number for number in range(500)]
    index = SegmentIndex(1, entries_max=16)
    index.extend((unit, unit, unit, unit) for unit in range(1000))
    assert len(index) <= 16
    assert all(index.at_or_before_entry(entry).entry <= entry for entry in range(1000))
