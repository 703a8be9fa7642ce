"""The offsets file: position words, lines, damage, and what recovery does to positions beyond the end."""

import itertools
import os
import random
from collections import Counter
from pathlib import Path

import pytest

import cometlog
from cometlog import CorruptionError, GroupTableFullError, NewerFormatError
from cometlog.cli import main
from cometlog.group_offsets import GroupOffsets
from cometlog.kernel import layout
from cometlog.kernel.group_position import decode_position, encode_position
from cometlog.kernel.mapping import Mapping
from support import SHARD, STREAM, Worker, make_config

CONSUMER_WORKERS = Path(__file__).with_name("consumer_workers.py")
FILE_MODE = 0o600
LINE = layout.OFFSETS_GROUPS


@pytest.fixture
def shard(root: Path) -> Path:
    """The directory of a shard with ten entries."""
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"%d" % number for number in range(10)])
    return root / SHARD


def make_group(shard: Path, name: str = "shipper", position: int = 4) -> None:
    offsets = GroupOffsets(shard, STREAM, FILE_MODE)
    offsets.find_or_make(name, position, FILE_MODE)
    offsets.close()


def positions(shard: Path) -> dict[str, int | None]:
    offsets = GroupOffsets(shard, STREAM)
    try:
        return {line.name: line.position for line in offsets.lines()}
    finally:
        offsets.close()


def flip(shard: Path, offset: int, mask: int) -> None:
    with (shard / "offsets").open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


@pytest.mark.parametrize("number", [0, 1, 255, 256, 10**9, (1 << 56) - 1])
def test_a_position_word_gives_its_number_back_and_is_never_the_free_word(number: int) -> None:
    word = encode_position(number)
    assert decode_position(word) == number
    assert word != 0


def test_a_number_of_more_than_56_bits_is_no_position() -> None:
    with pytest.raises(ValueError, match="56 bits"):
        encode_position(1 << 56)
    assert decode_position(0) is None


@pytest.mark.parametrize("number", [0, 117, 0xFFFFFFFF, 0x00ABCDEF01234567])
def test_one_two_or_three_flipped_bits_of_a_position_word_are_found(number: int) -> None:
    word = encode_position(number)
    flipped = 0
    for count in (1, 2, 3):
        for bits in itertools.combinations(range(64), count):
            assert decode_position(word ^ sum(1 << bit for bit in bits)) is None, bits
            flipped += 1
    assert flipped == 64 + 2016 + 41664


def test_a_group_that_is_made_twice_is_one_line(shard: Path) -> None:
    make_group(shard, "a", 3)
    make_group(shard, "b", 4)
    make_group(shard, "a", 9)
    assert positions(shard) == {"a": 3, "b": 4}


def test_group_513_is_refused_and_the_others_stay(shard: Path) -> None:
    offsets = GroupOffsets(shard, STREAM, FILE_MODE)
    for index in range(layout.GROUP_COUNT):
        offsets.find_or_make(f"g{index}", index % 10, FILE_MODE)
    with pytest.raises(GroupTableFullError, match="512 consumer groups"):
        offsets.find_or_make("one-more", 0, FILE_MODE)
    offsets.close()
    assert positions(shard) == {f"g{index}": index % 10 for index in range(layout.GROUP_COUNT)}


def test_processes_that_make_the_same_groups_at_once_share_their_lines(
    shard: Path, root: Path, start_worker: type[Worker]
) -> None:
    workers = [
        start_worker("make_groups", script=CONSUMER_WORKERS, root=str(root), count=40) for _ in range(4)
    ]
    for worker in workers:
        assert worker.hear() == "ready"
    for worker in workers:
        worker.tell()
    for worker in workers:
        assert worker.hear() == "made"
        assert worker.end() == 0
    assert positions(shard) == {f"g{index}": 0 for index in range(40)}
    assert sorted(path.name for path in shard.glob("*.tmp.*")) == []


def test_a_line_whose_maker_was_killed_before_its_last_store_is_free(shard: Path) -> None:
    make_group(shard, "first", 1)
    with (shard / "offsets").open("r+b") as file:
        file.seek(LINE + layout.GROUP_SIZE_BYTES + layout.GROUP_CHECKPOINT)
        file.write(b"half a line")
    make_group(shard, "second", 2)
    assert positions(shard) == {"first": 1, "second": 2}


@pytest.mark.parametrize("bit", range(64))
def test_a_damaged_position_falls_back_to_its_checkpoint(shard: Path, bit: int) -> None:
    make_group(shard, "shipper", 4)
    flip(shard, LINE + layout.GROUP_POSITION + bit // 8, 1 << bit % 8)
    assert positions(shard) == {"shipper": 4}


def test_a_damaged_position_and_checkpoint_are_an_error_that_a_reset_ends(shard: Path, root: Path) -> None:
    make_group(shard, "shipper", 4)
    flip(shard, LINE + layout.GROUP_POSITION, 1)
    flip(shard, LINE + layout.GROUP_CHECKPOINT, 1)
    with cometlog.open(root, make_config()) as client:
        consumer = client.consumer("shipper")
        with pytest.raises(CorruptionError, match="reset the group") as caught:
            consumer.read(STREAM)
        assert (caught.value.file, caught.value.offset) == (str(shard / "offsets"), LINE)
        consumer.reset(STREAM, 7)
        assert [entry.number for batch in consumer.read(STREAM) for entry in batch] == [7, 8, 9]


@pytest.mark.parametrize(
    "offset", [layout.GROUP_CREATED, layout.GROUP_NAME_LENGTH, layout.GROUP_CHECKSUM, layout.GROUP_NAME]
)
def test_a_damaged_line_is_an_error_naming_file_and_offset(shard: Path, root: Path, offset: int) -> None:
    make_group(shard, "shipper", 4)
    flip(shard, LINE + offset, 4)
    with (
        cometlog.open(root, make_config()) as client,
        pytest.raises(CorruptionError, match="line 0") as caught,
    ):
        client.consumer("shipper").read(STREAM)
    assert (caught.value.file, caught.value.offset) == (str(shard / "offsets"), LINE)


def test_every_flipped_bit_leaves_the_position_or_an_earlier_one_or_an_error_that_names_the_place(
    shard: Path, root: Path
) -> None:
    """The header, both words and the line of a group, bit by bit; ``cometlog verify`` names what is damaged."""
    offsets = GroupOffsets(shard, STREAM, FILE_MODE)
    line = offsets.find_or_make("shipper", 2, FILE_MODE)
    position = offsets.position_of(line, print)
    position.settle_from(10)
    position.ack_range(2, 4)  # the checkpoint stays behind
    offsets.close()
    path = shard / "offsets"
    whole = path.read_bytes()
    outcomes: Counter[str] = Counter()
    named = 0
    places = [
        *range(8 * (layout.OFFSETS_GROUP_COUNT + 4)),
        *range(8 * LINE, 8 * (LINE + layout.GROUP_SIZE_BYTES)),
    ]
    for bit in places:
        flip(shard, bit // 8, 1 << bit % 8)
        try:
            found = positions(shard)
        except (CorruptionError, NewerFormatError) as error:
            outcomes[type(error).__name__] += 1
            named += str(path) in str(error)
        else:
            assert found in ({"shipper": 4}, {"shipper": 2}), bit
            outcomes["same" if found == {"shipper": 4} else "earlier"] += 1
        path.write_bytes(whole)
    padding = 8 * (layout.GROUP_NAME_BYTES_MAX - len("shipper"))
    assert outcomes["earlier"] == 64, "the position word falls back to its checkpoint"
    assert outcomes["same"] == 64 + padding, "the checkpoint word and the name's padding decide nothing"
    assert (
        named == outcomes["CorruptionError"] + outcomes["NewerFormatError"] == 128 + 1024 - 64 - 64 - padding
    )
    flip(shard, LINE + layout.GROUP_CHECKSUM, 1)
    with cometlog.open(root, read_only=True):
        assert main(["verify", str(root)]) == 1


def test_a_file_of_another_size_magic_or_format_is_refused(shard: Path) -> None:
    make_group(shard)
    path = shard / "offsets"
    whole = path.read_bytes()
    for damaged, error, text in (
        (whole[:-1], CorruptionError, "69631 bytes, not 69632"),
        (b"X" + whole[1:], CorruptionError, "magic"),
        (whole[:8] + b"\2" + whole[9:], NewerFormatError, "format 2"),
        (whole[:12] + b"\1" + whole[13:], CorruptionError, "groups"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(error, match=text):
            GroupOffsets(shard, STREAM, FILE_MODE)


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_something_else_in_the_place_of_the_file_is_refused_at_once(shard: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(shard / "offsets")
    else:
        (shard / "offsets").symlink_to(shard / "nowhere")
    with pytest.raises((cometlog.NotALogError, OSError)):
        GroupOffsets(shard, STREAM, FILE_MODE)


def test_recovery_that_cuts_entries_brings_groups_back_to_the_end(
    shard: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cometlog.open(root, make_config()) as client:
        client.sync()
        client.append(STREAM, [b"lost"] * 5)
        client.consumer("ahead").ack(STREAM, range(15))
        client.consumer("behind").ack(STREAM, range(3))
    segment = next(shard.glob("*.seg"))
    mark = (shard / "durable").read_bytes()
    with segment.open(
        "r+b"
    ) as file:  # what a power loss may leave: the entries behind the mark never reached the disk
        tail = int.from_bytes(segment.read_bytes()[layout.SEGMENT_TAIL : layout.SEGMENT_TAIL + 4], "little")
        frame_units = (layout.FRAME_HEADER_BYTES + 4 * 6 + 20 + 7) // 8
        file.seek(layout.SEGMENT_HEADER_BYTES + (tail - frame_units) * 8)
        file.write(bytes(frame_units * 8))
    assert mark
    (shard / "durable").unlink()
    monkeypatch.setattr("cometlog.control.boot_id", lambda: b"another boot id!")
    with cometlog.open(root, make_config()) as client:
        assert client.append(STREAM, [b"again"]) == range(10, 11)
        consumer = client.consumer("ahead")
        assert [entry.data for batch in consumer.read(STREAM) for entry in batch] == [b"again"]
        assert client.consumer("behind").lag(STREAM) == 8


def checkpoint_word(shard: Path) -> int:
    raw = (shard / "offsets").read_bytes()
    offset = LINE + layout.GROUP_CHECKPOINT
    return int.from_bytes(raw[offset : offset + 8], "little")


def test_a_checkpoint_beyond_the_kept_end_is_lowered_too(shard: Path) -> None:
    make_group(shard, "shipper", 4)
    offsets = GroupOffsets(shard, STREAM, FILE_MODE)
    # A reset to 9 that was cut off after its first store.
    offsets.mapping.store_release(LINE + layout.GROUP_CHECKPOINT, encode_position(9))
    assert offsets.lower_beyond(6) == 1
    assert offsets.lower_beyond(6) == 0
    offsets.close()
    flip(shard, LINE + layout.GROUP_POSITION, 1)
    assert positions(shard) == {"shipper": 4}


class LateCheckpoint:
    """A mapping in which another process stores the checkpoint that it was about to, just before the position changes."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping

    def __getattr__(self, name: str) -> object:
        return getattr(self._mapping, name)

    def store_release(self, offset: int, value: int) -> None:
        if offset == LINE + layout.GROUP_POSITION:
            self._mapping.store_release(
                LINE + layout.GROUP_CHECKPOINT, self._mapping.load_acquire(LINE + layout.GROUP_POSITION)
            )
        self._mapping.store_release(offset, value)


def test_a_checkpoint_that_meets_a_reset_is_not_from_before_it(shard: Path) -> None:
    make_group(shard, "shipper", 8)
    offsets = GroupOffsets(shard, STREAM, FILE_MODE)
    offsets.mapping = LateCheckpoint(offsets.mapping)  # type: ignore[assignment]
    offsets.reset("shipper", 3, FILE_MODE)
    offsets.close()
    assert decode_position(checkpoint_word(shard)) == 3
    flip(shard, LINE + layout.GROUP_POSITION, 1)
    assert positions(shard) == {"shipper": 3}


def test_a_checkpoint_is_the_position_as_it_is(shard: Path) -> None:
    make_group(shard, "shipper", 2)
    offsets = GroupOffsets(shard, STREAM, FILE_MODE)
    position = offsets.position_of(offsets.lines()[0], lambda _start, stop: position.advance(stop))
    position.ack(2)
    assert decode_position(checkpoint_word(shard)) == 2
    assert position.write_checkpoint() == 3
    assert decode_position(checkpoint_word(shard)) == 3
    offsets.close()


def test_what_a_checkpoint_covers_survives_power_loss(
    root: Path, tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each acknowledgement: any mixture, word by word, of the table as it was last synced and as it is."""
    synced: list[bytes] = []
    fdatasync = os.fdatasync

    def note(fd: int) -> None:
        fdatasync(fd)
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/offsets"):
            synced.append(os.pread(fd, layout.OFFSETS_SIZE_BYTES, 0))

    monkeypatch.setattr(os, "fdatasync", note)
    image = tmp_path / "image"
    image.mkdir()
    with cometlog.open(root, make_config(checkpoint_interval_ms=3_600_000)) as client:
        client.append(STREAM, [b"%d" % number for number in range(1000)])
        consumer = client.consumer("g")
        consumer.read(STREAM, 1000)
        number = covered = 0
        for turn in range(60):
            number += rng.randrange(1, 10)
            consumer.ack(STREAM, range(number))
            if turn % 7 == 3:
                consumer.checkpoint()
                covered = number
            now = (root / SHARD / "offsets").read_bytes()
            for _ in range(4):
                words = [rng.choice((synced[-1], now))[place : place + 8] for place in range(0, len(now), 8)]
                (image / "offsets").write_bytes(b"".join(words))
                offsets = GroupOffsets(image, STREAM)
                line = offsets.find("g")
                offsets.close()
                assert line is not None
                assert covered <= line.position <= number
    assert covered > 0
