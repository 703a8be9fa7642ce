"""Reading shards put together by the reference: numbers, gaps, segments that come and go, words in flight."""

import stat
from pathlib import Path

import pytest

from cometlog import reference
from cometlog.control import Control
from cometlog.errors import (
    ClosedError,
    CorruptionError,
    EntryNotFoundError,
    StalledWriterError,
)
from cometlog.kernel import layout
from cometlog.kernel.mapping import Mapping
from cometlog.reader import VerifyReport
from cometlog.reference import SegmentImage
from cometlog.segment import byte_offset
from shards import (
    STREAM,
    all_entries,
    chain,
    filled,
    open_descriptors,
    reader_of,
    segment,
    segment_path,
    set_tail,
    write_segments,
)

# ---- Whole shards ----


def test_a_missing_and_an_empty_directory_are_a_stream_without_entries(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        reader = reader_of(directory)
        assert (reader.entry_count(), reader.first_entry(), reader.next_entry()) == (0, 0, 0)
        assert list(reader.read(0, 10)) == list(reader.scan()) == list(reader.recent(3)) == []
        assert reader.verify() == VerifyReport(STREAM, 0, 0, 0, None)
        with pytest.raises(
            EntryNotFoundError, match=r"entry 5 of .*first kept entry is 0, the next to come 0"
        ):
            reader.read(5)


def test_entries_come_back_with_number_time_and_bytes_across_segments(tmp_path: Path) -> None:
    images = chain(tmp_path, [5, 1, 30])
    reader = reader_of(tmp_path)
    truth = all_entries(images)
    batch = reader.read(0, 1000)
    assert (
        batch.payloads()
        == [entry.data for entry in batch]
        == [bytes(view) for view in batch.memoryviews()]
        == truth
    )
    assert batch.numbers == list(range(len(truth)))
    assert batch.next_entry == len(truth)
    assert batch[0] == (STREAM, 0, 1_000, truth[0])
    assert batch[-1].timestamp_ns == 1_029
    assert (len(batch), reader.entry_count(), reader.next_entry(), reader.first_entry()) == (70, 70, 70, 0)
    assert reader.verify() == VerifyReport(STREAM, 3, 36, 70, None)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
def test_every_start_and_count_give_the_slice_of_a_full_read(tmp_path: Path, count: int) -> None:
    truth = all_entries(chain(tmp_path, [4, 4, 4]))
    reader = reader_of(tmp_path)
    for start in [*range(len(truth)), *reversed(range(len(truth)))]:
        batch = reader.read(start, count)
        assert batch.payloads() == truth[start : start + count]
        assert batch.numbers == list(range(start, min(start + count, len(truth))))
        assert batch.next_entry == min(start + count, len(truth))


def test_arrow_batches_hold_each_frame_without_a_copy(tmp_path: Path) -> None:
    truth = all_entries(chain(tmp_path, [6]))
    batches = reader_of(tmp_path).read(1, 9).arrow_batches()
    assert [batch.first_number for batch in batches] == [1, 3, 6, 7, 9]
    cut = [
        bytes(batch.data[start:stop])
        for batch in batches
        for start, stop in zip(batch.offsets, batch.offsets[1:], strict=False)
    ]
    assert cut == truth[1:10]
    assert all(batch.offsets.format == "i" and batch.data.readonly for batch in batches)
    assert isinstance(batches[1].data.obj, Mapping)


def test_views_stay_usable_after_the_reader_is_closed_and_the_file_is_gone(tmp_path: Path) -> None:
    images = chain(tmp_path, [3])
    reader = reader_of(tmp_path)
    batch = reader.read()
    views = batch.memoryviews()
    reader.close()
    segment_path(tmp_path, images[0]).unlink()
    assert [bytes(view) for view in views] == batch.payloads() == all_entries(images)


def test_scan_takes_bounds_and_recent_takes_the_end(tmp_path: Path) -> None:
    truth = all_entries(chain(tmp_path, [700, 700, 700]))
    reader = reader_of(tmp_path)
    assert [entry.data for entry in reader.scan()] == truth
    assert [entry.data for entry in reader.scan(1300, 2701)] == truth[1300:2701]
    assert list(reader.scan(len(truth))) == []
    assert reader.recent(1900).payloads() == truth[-1900:]
    assert reader.recent(10**6).payloads() == truth
    assert reader.recent(0).payloads() == []


def test_a_start_outside_what_is_kept_names_value_and_limits(tmp_path: Path) -> None:
    images = chain(tmp_path, [4, 4])
    segment_path(tmp_path, images[0]).unlink()
    reader = reader_of(tmp_path)
    assert reader.read(0, 2).numbers == [7, 8]
    assert reader.first_entry() == 7
    assert len(reader.read(14, 1)) == 0
    for start in (6, 15, 2**63):
        with pytest.raises(
            EntryNotFoundError, match=f"entry {start} of .*kept entry is 7, the next to come 14"
        ):
            reader.read(start)
    for start, count in ((-1, 1), (1, -1)):
        with pytest.raises(EntryNotFoundError, match="at least 0"):
            reader.read(start, count)


def test_entries_appended_later_and_in_later_segments_are_found(tmp_path: Path) -> None:
    image = filled(1, 0, 3)
    write_segments(tmp_path, image, backed_units=4096)
    reader = reader_of(tmp_path)
    assert reader.read(0, 100).next_entry == 6
    image.append([b"later"], 9)
    path = segment_path(tmp_path, image)
    with path.open("r+b") as file:
        file.write(image.image(backed_units=4096))
    assert reader.read(6).payloads() == [b"later"]
    following = filled(2, 7, 1, previous=image)
    write_segments(tmp_path, following)
    set_tail(path, image.entries, image.units, sealed=True)
    assert reader.read(7).payloads() == [b"7"]
    assert reader.read(6).numbers == [6, 7]
    assert reader.next_entry() == 8


def test_a_closed_reader_says_so(tmp_path: Path) -> None:
    chain(tmp_path, [2])
    reader = reader_of(tmp_path)
    reader.read()
    reader.close()
    reader.close()
    for call in (reader.read, reader.entry_count, reader.next_entry, reader.verify, lambda: reader.recent(1)):
        with pytest.raises(ClosedError):
            call()


# ---- Gaps and retirement ----


def test_burnt_numbers_are_a_gap_and_are_not_counted(tmp_path: Path) -> None:
    image = segment(1)
    image.pad(3, 2)
    image.append([b"a", b"b"], 1)
    image.pad(4, 1)
    image.pad(4, 0)
    image.append([b"c"], 2)
    image.pad(2, 4)
    write_segments(tmp_path, image)
    reader = reader_of(tmp_path)
    batch = reader.read()
    assert (batch.numbers, batch.payloads(), batch.next_entry) == ([2, 3, 5], [b"a", b"b", b"c"], 10)
    assert (reader.entry_count(), reader.first_entry(), reader.next_entry()) == (3, 2, 10)
    assert reader.recent(2).numbers == [3, 5]
    for start, expected in ((1, [2, 3, 5]), (4, [5]), (6, []), (10, [])):
        assert reader.read(start).numbers == expected
    assert reader.verify() == VerifyReport(STREAM, 1, 2, 3, None)


def test_segments_retired_under_a_scan_leave_a_gap(tmp_path: Path) -> None:
    images = chain(tmp_path, [1000, 4, 4, 4])
    reader = reader_of(tmp_path)
    numbers = []
    for entry in reader.scan():
        if not numbers:
            for image in images[:3]:
                segment_path(tmp_path, image).unlink()
        numbers.append(entry.number)
    first_kept = images[3].base
    assert numbers == [*range(images[0].entries), *range(first_kept, first_kept + images[3].entries)]


def test_a_segment_missing_between_kept_ones_is_corruption(tmp_path: Path) -> None:
    images = chain(tmp_path, [4, 4, 4])
    segment_path(tmp_path, images[1]).unlink()
    reader = reader_of(tmp_path)
    for call in (lambda: reader.read(0, 1), reader.entry_count, reader.verify):
        with pytest.raises(CorruptionError, match="segment 3 does not follow segment 1") as caught:
            call()
        assert caught.value.file == str(segment_path(tmp_path, images[2]))


def test_recovery_may_start_a_segment_behind_a_gap_in_the_numbers(tmp_path: Path) -> None:
    first = filled(1, 0, 3)
    first.sealed = True
    write_segments(tmp_path, first, filled(5, 9, 2, previous=first))
    assert reader_of(tmp_path).read().numbers == [0, 1, 2, 3, 4, 5, 9, 10, 11]


def test_a_seal_below_the_tail_ends_a_segment(tmp_path: Path) -> None:
    first = filled(1, 0, 3)
    first.frames += reference.encode_seal(first.uuid, first.units)
    first.units, first.entries = first.units + 9, first.entries + 9
    write_segments(tmp_path, first, filled(2, 6, 2, previous=first), backed_units=4096)
    reader = reader_of(tmp_path)
    assert reader.read().numbers == list(range(9))
    assert reader.entry_count() == 9


def test_a_lost_sealed_bit_loses_no_entries(tmp_path: Path) -> None:
    images = chain(tmp_path, [4, 4])
    set_tail(segment_path(tmp_path, images[0]), images[0].entries, images[0].units, sealed=False)
    assert reader_of(tmp_path).read().payloads() == all_entries(images)


def test_a_base_below_what_was_walked_is_corruption(tmp_path: Path) -> None:
    first = filled(1, 0, 3)
    first.sealed = True
    write_segments(tmp_path, first, filled(2, 5, 1, previous=first))
    with pytest.raises(CorruptionError, match="segment 2 starts at entry 5, the one before reaches 6"):
        reader_of(tmp_path).read()


# ---- The control file ----


def live_control(directory: Path, active: int) -> Control:
    Control.create(directory / "control", 0o600)
    control = Control(directory / "control", writable=True)
    control.set_active(active)
    control.stored_boot_identity = control.boot_identity()
    return control


def test_a_sealed_active_segment_is_the_end_for_now(tmp_path: Path) -> None:
    image = filled(1, 0, 3)
    image.sealed = True
    write_segments(tmp_path, image)
    live_control(tmp_path, 1)
    assert reader_of(tmp_path).read().next_entry == 6


def test_an_active_segment_that_does_not_exist_is_corruption(tmp_path: Path) -> None:
    image = filled(1, 0, 3)
    image.sealed = True
    write_segments(tmp_path, image)
    control = live_control(tmp_path, 2)
    with pytest.raises(CorruptionError, match="listed segment cannot be found"):
        reader_of(tmp_path).read()
    control.stored_boot_identity = bytes(32)
    assert reader_of(tmp_path).read().next_entry == 6


# ---- Words in flight ----


def in_flight(directory: Path, word: int) -> tuple[SegmentImage, int]:
    image = segment(1)
    image.append([b"before"], 1)
    unit = image.units
    image.claim(4, 1)
    image.frames[unit * 8 : unit * 8 + 8] = reference.u64(word)
    image.append([b"behind"], 2)
    write_segments(directory, image)
    return image, unit


@pytest.mark.parametrize("word", [0, reference.make_word(layout.KIND_CLAIMED, 4, 1)], ids=["free", "claimed"])
def test_without_repair_a_reader_returns_what_lies_before_a_word_in_flight(tmp_path: Path, word: int) -> None:
    _, unit = in_flight(tmp_path, word)
    reader = reader_of(tmp_path)
    batch = reader.read()
    assert (batch.payloads(), batch.next_entry) == ([b"before"], 1)
    assert (reader.entry_count(), reader.next_entry()) == (1, 3)
    assert reader.recent(5).payloads() == [b"before"]
    assert reader.verify() == VerifyReport(STREAM, 1, 1, 1, (1, unit))


@pytest.mark.parametrize("call", ["read", "entry_count", "verify"])
def test_a_client_that_may_write_is_asked_to_repair_and_reading_goes_on(tmp_path: Path, call: str) -> None:
    image, blocked_unit = in_flight(tmp_path, 0)
    asked = []

    def repair(number: int, unit: int) -> None:
        asked.append((number, unit))
        with segment_path(tmp_path, image).open("r+b") as file:
            file.seek(byte_offset(unit))
            file.write(reference.encode_pad(image.uuid, unit, 4))

    reader = reader_of(tmp_path, repair=repair)
    result = getattr(reader, call)()
    assert asked == [(1, blocked_unit)]
    if call == "read":
        assert (result.numbers, result.payloads(), result.next_entry) == ([0, 2], [b"before", b"behind"], 3)
    elif call == "entry_count":
        assert result == 2
    else:
        assert result == VerifyReport(STREAM, 1, 2, 2, None)


def test_a_live_stalled_writer_gives_what_there_is(tmp_path: Path) -> None:
    in_flight(tmp_path, 0)

    def repair(number: int, unit: int) -> None:
        raise StalledWriterError(f"segment {number}, unit {unit}")

    reader = reader_of(tmp_path, repair=repair)
    assert reader.read().payloads() == [b"before"]
    assert reader.entry_count() == 1


def test_a_repair_may_use_the_reader_that_asked_for_it(tmp_path: Path) -> None:
    in_flight(tmp_path, 0)
    seen = []
    reader = reader_of(tmp_path, repair=lambda *_: seen.append(reader.next_entry()))
    assert reader.read().payloads() == [b"before"]
    assert seen == [3]


# ---- Files ----


def test_a_read_only_directory_is_read_and_nothing_is_written(tmp_path: Path) -> None:
    images = chain(tmp_path, [3, 3])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for image in images:
        segment_path(tmp_path, image).chmod(stat.S_IRUSR)
    reader = reader_of(tmp_path)
    assert reader.read().payloads() == all_entries(images)
    reader.verify()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_more_segments_than_stay_open_are_read_with_few_descriptors(tmp_path: Path) -> None:
    images = chain(tmp_path, [2] * 40)
    before = open_descriptors()
    reader = reader_of(tmp_path)
    assert reader.read(0, 10**6).payloads() == all_entries(images)
    assert reader.entry_count() == 120
    assert open_descriptors() - before == 8
    reader.close()
    assert open_descriptors() == before
