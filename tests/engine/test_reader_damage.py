"""Reading damaged and hostile files: the entries as written, or a typed error that names the place."""

import os
from pathlib import Path

import pytest

from cometlog import reference
from cometlog.errors import (
    CorruptionError,
    NewerFormatError,
    NotALogError,
)
from cometlog.kernel import layout
from cometlog.segment import byte_offset
from shards import (
    STREAM,
    all_entries,
    chain,
    entries_of,
    filled,
    flip,
    reader_of,
    segment,
    segment_path,
    set_tail,
    write_index,
    write_segments,
)


def test_every_byte_of_the_frames_flipped_is_found_or_harmless(tmp_path: Path) -> None:
    image = filled(1, 0, 5)
    truth = entries_of(image)
    path = segment_path(tmp_path, image)
    errors = []
    for offset in range(image.units * 8):
        write_segments(tmp_path, image)
        flip(path, byte_offset(0) + offset, offset % 8)
        try:
            assert reader_of(tmp_path).read().payloads() == truth, offset
        except CorruptionError as error:
            errors.append((byte_offset(0) + offset, error))
    pad_bytes = sum(-(len(frame.payload) + 24) % 8 for frame in reference.walk(image.image()).batches)
    assert len(errors) == image.units * 8 - pad_bytes
    assert {(error.file, error.stream) for _, error in errors} == {(str(path), STREAM)}
    assert all(error.offset <= offset and error.entry in range(len(truth)) for offset, error in errors)


@pytest.mark.parametrize("bit", range(64))
def test_every_bit_of_the_tail_flipped_is_found_or_harmless(tmp_path: Path, bit: int) -> None:
    images = chain(tmp_path, [5, 5])
    truth = all_entries(images)
    for image in images:
        write_segments(tmp_path, *images, backed_units=4096)
        flip(segment_path(tmp_path, image), layout.SEGMENT_TAIL + bit // 8, bit % 8)
        reader = reader_of(tmp_path)
        try:
            assert reader.read().payloads() == truth
            assert reader.entry_count() == len(truth)
        except CorruptionError as error:
            damaged = error.file
        else:
            damaged = str(tmp_path)
        assert damaged.startswith(str(tmp_path))


@pytest.mark.parametrize("offset", range(layout.SEGMENT_CHECKSUM + 4))
def test_every_byte_of_the_header_flipped_is_found(tmp_path: Path, offset: int) -> None:
    image = filled(1, 0, 2)
    write_segments(tmp_path, image)
    flip(segment_path(tmp_path, image), offset)
    with pytest.raises(CorruptionError):
        reader_of(tmp_path).read()


def test_entries_before_and_behind_a_damaged_frame_can_be_read(tmp_path: Path) -> None:
    image = filled(1, 0, 100)
    write_segments(tmp_path, image)
    write_index(tmp_path, image, 1)
    truth = entries_of(image)
    damaged = next(batch for batch in reference.walk(image.image()).batches if batch.first_index == 99)
    flip(segment_path(tmp_path, image), byte_offset(damaged.unit) + layout.FRAME_PAYLOAD)
    reader = reader_of(tmp_path)
    assert reader.read(0, 99).payloads() == truth[:99]
    assert reader.read(102, 200).payloads() == truth[102:]
    with pytest.raises(
        CorruptionError, match=rf"checksum does not match \(stream {STREAM}, entry 99, "
    ) as caught:
        reader.read(0, 100)
    assert caught.value.offset == byte_offset(damaged.unit)


def test_a_tail_beyond_the_end_of_the_file_is_corruption(tmp_path: Path) -> None:
    image = filled(1, 0, 400, capacity_units=1 << 20)
    write_segments(tmp_path, image)
    path = segment_path(tmp_path, image)
    reader = reader_of(tmp_path)
    assert len(reader.read(0, 10)) == 10
    for length in (layout.SEGMENT_HEADER_BYTES, byte_offset(image.units) - 8):
        os.truncate(path, length)
        for asked in (reader, reader_of(tmp_path)):
            with pytest.raises(
                CorruptionError, match=r"tail is at unit .* the file ends after unit"
            ) as caught:
                asked.read(0, 1000)
            assert (caught.value.file, caught.value.offset) == (str(path), layout.SEGMENT_TAIL)


def test_a_file_cut_inside_its_header_is_corruption(tmp_path: Path) -> None:
    image = filled(1, 0, 2)
    write_segments(tmp_path, image)
    for length in (4095, 92, 91, 8, 0):
        os.truncate(segment_path(tmp_path, image), length)
        with pytest.raises(CorruptionError):
            reader_of(tmp_path).read()


def test_a_hostile_tail_of_a_sparse_file_is_bounded(tmp_path: Path) -> None:
    image = segment(1, capacity_units=layout.MAX_CAPACITY_UNITS)
    image.append([b"a"], 1)
    write_segments(tmp_path, image)
    path = segment_path(tmp_path, image)
    os.truncate(path, byte_offset(layout.MAX_CAPACITY_UNITS))
    set_tail(path, 2**32 - 1, layout.MAX_CAPACITY_UNITS)
    assert reader_of(tmp_path).read().payloads() == [b"a"]
    set_tail(path, 1, layout.MAX_CAPACITY_UNITS)
    with pytest.raises(CorruptionError, match="tail does not agree"):
        reader_of(tmp_path).read()


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    image = filled(1, 0, 1)
    raw = bytearray(image.image())
    raw[layout.SEGMENT_FORMAT] = 2
    checksum = reference.crc32c(bytes(raw[: layout.SEGMENT_CHECKSUM]))
    raw[layout.SEGMENT_CHECKSUM : layout.SEGMENT_CHECKSUM + 4] = reference.u32(checksum)
    segment_path(tmp_path, image).write_bytes(raw)
    with pytest.raises(NewerFormatError, match="has format 2; this engine reads up to 1"):
        reader_of(tmp_path).read()


def test_a_capacity_beyond_the_limit_is_corruption(tmp_path: Path) -> None:
    image = filled(1, 0, 1, capacity_units=layout.MAX_CAPACITY_UNITS + 1)
    write_segments(tmp_path, image)
    with pytest.raises(CorruptionError, match=f"capacity is {layout.MAX_CAPACITY_UNITS + 1} units, at most"):
        reader_of(tmp_path).read()


def test_links_pipes_and_renamed_segments_are_refused(tmp_path: Path) -> None:
    image = filled(1, 0, 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(image.image())
    path = segment_path(tmp_path, image)
    path.symlink_to(elsewhere)
    with pytest.raises(NotALogError, match="symbolic link"):
        reader_of(tmp_path).read()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(NotALogError, match="not a regular file"):
        reader_of(tmp_path).read()
    path.unlink()
    elsewhere.rename(segment_path(tmp_path, segment(2)))
    with pytest.raises(CorruptionError, match="header says number 1"):
        reader_of(tmp_path).read()


def test_a_batch_read_in_parts_is_verified_once_and_by_verify_again(tmp_path: Path) -> None:
    image = segment(1)
    image.append([b"first"], 1)
    image.append([b"%d" % number for number in range(9)], 2)
    write_segments(tmp_path, image)
    reader = reader_of(tmp_path)
    assert reader.read(1, 4).payloads() == [b"0", b"1", b"2", b"3"]
    path = segment_path(tmp_path, image)
    with path.open("r+b") as file:
        file.seek(byte_offset(image.units) - 8)
        file.write(b"\xff")
    assert len(reader.read(5, 2)) == 2
    assert reader.read(1, 9).numbers == list(range(1, 10))
    with pytest.raises(CorruptionError, match="checksum does not match"):
        reader.read(1, 9)


def test_frames_behind_a_tail_that_ends_at_a_pad_are_missed(tmp_path: Path) -> None:
    """Behind a PAD the tail's count of entries is no proof that the last frame was the last."""
    image = segment(1)
    image.append([b"a"], 1)
    image.pad(4, 2)
    behind_pad = image.units
    image.append([b"b", b"c"], 2)
    write_segments(tmp_path, image)
    assert reader_of(tmp_path).read().payloads() == [b"a", b"b", b"c"]
    set_tail(segment_path(tmp_path, image), image.entries, behind_pad)
    for ask in (
        lambda reader: reader.read(),
        lambda reader: reader.entry_count(),
        lambda reader: reader.verify(),
    ):
        with pytest.raises(CorruptionError, match="tail does not agree"):
            ask(reader_of(tmp_path))


def test_recent_entries_that_a_damaged_tail_does_not_count_are_missed(tmp_path: Path) -> None:
    image = segment(1)
    for number in range(10):
        image.append([b"%d" % number], 1)
    write_segments(tmp_path, image)
    set_tail(segment_path(tmp_path, image), 4, image.units)
    with pytest.raises(CorruptionError, match="passes the tail"):
        reader_of(tmp_path).recent(3)


def test_numbers_missing_between_two_frames_without_a_pad_are_corruption(tmp_path: Path) -> None:
    image = segment(1)
    image.append([b"a"], 1)
    image.entries += 2
    image.append([b"b"], 2)
    write_segments(tmp_path, image)
    with pytest.raises(CorruptionError, match="does not follow"):
        reader_of(tmp_path).read()
    assert reference.walk(image.image()).end is reference.End.CORRUPT
