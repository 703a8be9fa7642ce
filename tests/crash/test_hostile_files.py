"""Files that somebody built to do harm, their checksums true: a typed error, in bounded time and memory.

What is opened is opened in a process with a limit on its memory; a watchdog ends it.
"""

import os
import shutil
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
import zstandard

from cometlog import reference
from cometlog.kernel import layout
from cometlog.reference import SegmentImage, make_word, u32, u64
from cometlog.segment import BASE_MAX, NUMBER_MAX, SegmentName, byte_offset
from damage import build, files_of
from hostile import TYPED, Ask, honest, put, refused
from shards import filled, segment, set_tail
from support import MIB, SHARD
from tiers import Tier


def frame(
    image: SegmentImage, payload: bytes, *, entries: int = 1, index: int | None = None, units: int | None = None,
    codec: int = 0, kind: int = layout.KIND_DATA,
) -> bytes:  # fmt: skip
    """A frame whose checksum is true, whatever its fields say."""
    pad = -(layout.FRAME_HEADER_BYTES + len(payload)) % 8
    length = (layout.FRAME_HEADER_BYTES + len(payload) + pad) // 8
    word = make_word(kind, length if units is None else units, image.entries if index is None else index)
    meta = pad << layout.META_PAD_SHIFT | codec << layout.META_CODEC_SHIFT | entries
    checksum = reference.frame_checksum(
        uuid=image.uuid, payload=payload, unit=image.units, word=word, timestamp_ns=7, meta=meta
    )
    return u64(word) + u32(checksum) + u32(meta) + u64(7) + payload + bytes(pad)


def offsets(*values: int, data: bytes = b"abc") -> bytes:
    return struct.pack(f"<{len(values)}i", *values) + data


FRAMES: dict[str, dict[str, Any]] = {
    "length 0": {"units": 0},
    "length 1": {"units": 1},
    "length 2": {"units": 2},
    "length of the whole address space": {"units": layout.WORD_UNITS_MASK},
    "negative offset": {"payload": offsets(0, -1, 3), "entries": 2},
    "offsets that fall": {"payload": offsets(0, 3, 1, 3), "entries": 3},
    "offsets beyond the payload": {"payload": offsets(0, 1, 2**31 - 1), "entries": 2},
    "offsets that do not start at 0": {"payload": offsets(1, 2, 3), "entries": 2},
    "16 million entries in 40 bytes": {"payload": bytes(16), "entries": layout.MAX_BATCH_ENTRIES},
    "no entries": {"entries": 0},
    "an index that wraps": {"index": 2**32 - 1, "entries": 2, "payload": offsets(0, 1, 3)},
    "unknown codec": {"codec": 5},
    "zstd with 16 million entries": {
        "payload": zstandard.compress(b"abc"), "codec": 1, "entries": layout.MAX_BATCH_ENTRIES,
    },
}  # fmt: skip


@pytest.mark.parametrize("what", FRAMES)
def test_frames_that_lie(shard: Path, ask: Ask, what: str) -> None:
    image = filled(1, 0, 3)
    fields = {"payload": b"hostile payload", **FRAMES[what]}
    raw = frame(image, fields.pop("payload"), **fields)
    image._allocate(2 if "index" in FRAMES[what] else fields.get("entries", 1), raw)
    if fields.get("entries", 0) > 1000:
        image.entries = 2**32 - 1  # so that the index is no reason to refuse it
    put(shard, image, backed_units=image.units + 64)
    answers = ask()
    refused(answers, "scan", "verify")
    for name in set(answers) - {"scan", "verify"}:
        assert answers[name] in TYPED or not isinstance(answers[name], str), answers
    refused(ask("read_in_parts"), "views")


@pytest.mark.parametrize("previous", [0, 1, 10_000])
def test_pads_of_one_unit_over_the_whole_capacity(shard: Path, ask: Ask, previous: int) -> None:
    """A million PADs, one after the other, and nothing behind them."""
    units = 1 << 20
    image = segment(1, capacity_units=units)
    for number in range(min(previous, 3)):
        image.append([b"%d" % number], 1)
    left = min(units - image.units, 30_000 if previous else 100_000)
    for _ in range(left):
        image._allocate(0, reference.encode_pad(image.uuid, image.units, 1))
    put(shard, image)
    answers = ask()
    honest(answers, [b"%d" % number for number in range(min(previous, 3))])
    assert not isinstance(answers["scan"], str)


@pytest.mark.parametrize("sealed", [False, True])
def test_seals_one_after_the_other(shard: Path, ask: Ask, sealed: bool) -> None:
    """Segments that end at their first unit, each following on the one before, and one that follows itself."""
    images: list[SegmentImage] = []
    for number in range(1, 50):
        image = segment(number, previous=images[-1] if images else None, sealed=sealed)
        image._allocate(0, reference.encode_seal(image.uuid, 0))
        images.append(image)
        put(shard, image)
    assert ask()["scan"] == []
    images[10].previous_uuid = images[10].uuid
    put(shard, images[10])
    refused(ask(), "entry_count", "verify")


@pytest.mark.parametrize(
    ("number", "base", "good"),
    [
        (1, BASE_MAX, True),
        (1, BASE_MAX + 1, False),
        (1, 2**64 - 1, False),
        (NUMBER_MAX, 0, True),
        (NUMBER_MAX, BASE_MAX, True),
    ],
)
def test_numbers_at_the_end_of_their_range(shard: Path, ask: Ask, number: int, base: int, good: bool) -> None:
    image = segment(number % 250 or 1)
    image.number, image.base = number, base
    for entry in range(3):
        image.append([b"%d" % entry], 1)
    put(shard, image, backed_units=64)
    answers = ask()
    if not good:
        refused(answers)
        return
    assert answers["scan"] == [(b"%d" % entry).hex() for entry in range(3)]
    appended = ask("attach_and_fill")
    assert appended["scan"][:3] == answers["scan"] or appended["scan"] in TYPED
    if number == NUMBER_MAX:
        assert appended["append"] == "CorruptionError"


def test_a_capacity_as_large_as_can_be_and_a_tiny_file(shard: Path, ask: Ask) -> None:
    image = segment(1, capacity_units=layout.MAX_CAPACITY_UNITS)
    image.append([b"a"], 1)
    path = put(shard, image)
    honest(ask(), [b"a"])
    assert ask()["scan"] == [b"a".hex()]
    for units in (image.units + 1, layout.MAX_CAPACITY_UNITS):
        set_tail(path, 5, units)
        refused(ask())
    # A writer that attaches alone trusts frames, not a tail that the file does not reach.
    assert ask("attach")["scan"] == [b"a".hex(), b"appended".hex()]
    path = put(shard, image)
    for other in shard.iterdir():
        if other != path:
            other.unlink()
    with path.open("r+b") as file:
        file.seek(layout.SEGMENT_BACKED)
        file.write(u64(layout.MAX_CAPACITY_UNITS))
    assert ask("attach")["scan"] == [b"a".hex(), b"appended".hex()]


def test_a_hundred_thousand_segments_that_are_empty_files(shard: Path, ask: Ask, tier: Tier) -> None:
    for number in range(1, tier.pick(10_001, 100_001)):
        (shard / SegmentName(number, 0).file_name).touch()
    refused(ask())
    assert ask("attach")["append"] in TYPED


def test_names_that_nearly_match_are_no_segments(shard: Path, ask: Ask) -> None:
    image = filled(1, 0, 3)
    put(shard, image)
    truth = ask()["scan"]
    good = SegmentName(2, image.entries).file_name
    for name in (
        good + "x", "x" + good, good.upper(), good[1:], "0" + good, good.replace("-", "_"), good.replace("0", "٠"),
        good + ".tmp", " " + good, good + "\n", "-" + good, good.replace(".seg", ".seg.discarded"), good.replace("2", "²"),
    ):  # fmt: skip
        (shard / name).write_bytes(b"noise")
    assert ask()["scan"] == truth
    put(shard, image, backed_units=64)
    assert ask("attach")["scan"] == [*truth, b"appended".hex()]


def bomb(stated: int, actual: int) -> bytes:
    """A zstd frame of ``actual`` zeros that states another size."""
    raw = bytearray(zstandard.ZstdCompressor(level=1).compress(bytes(actual)))
    parameters = zstandard.get_frame_parameters(bytes(raw))
    length = {0: 1, 1: 2, 2: 4, 3: 8}[raw[4] >> 6]
    assert parameters.content_size == actual
    place = 5 + (0 if raw[4] >> 5 & 1 else 1)
    raw[place : place + length] = (stated - (256 if length == 2 else 0)).to_bytes(length, "little")
    return bytes(raw)


CAP = layout.MAX_BATCH_BYTES
BOMBS: dict[str, bytes] = {
    "states and holds one byte more than the limit": zstandard.ZstdCompressor(level=1).compress(
        bytes(CAP + 1)
    ),
    "states more than the limit and holds less": bomb(CAP + 1, 1 << 20),
    "states little and holds much": bomb(70_000, 64 * MIB),
    "states much and holds little": bomb(CAP, 1 << 20),
    "two frames one after the other": zstandard.compress(b"one") + zstandard.compress(b"two"),
    "a frame inside a frame": zstandard.compress(zstandard.compress(b"one")) + b"tail",
    "a skippable frame first": b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstandard.compress(b"one"),
    "no size": zstandard.ZstdCompressor(write_content_size=False).compress(b"one"),
    "a dictionary that is not there": zstandard.ZstdCompressor(
        dict_data=zstandard.train_dictionary(1000, [b"%d abc %d" % (n, n * n) for n in range(1000)])
    ).compress(b"5 abc 25"),
    "half a frame": zstandard.compress(b"one" * 100)[:-3],
    "nothing": b"",
}


@pytest.mark.parametrize("what", BOMBS)
def test_compressed_payloads_that_lie(shard: Path, ask: Ask, what: str) -> None:
    image = filled(1, 0, 3)
    image.append([b""], 1, codec=layout.CODEC_ZSTD, stored_payload=BOMBS[what])
    put(shard, image)
    refused(ask(), "scan", "verify")
    refused(ask("read_in_parts"), "views")


def test_bombs_within_the_limit_are_taken_one_at_a_time(shard: Path, ask: Ask) -> None:
    """Six frames of some kilobytes that hold 64 MiB each: scan and verify go through them in 256 MiB."""
    image = segment(1, capacity_units=1 << 21)
    small = zstandard.ZstdCompressor(level=1).compress(bytes(64 * MIB))
    assert len(small) * 1000 < 64 * MIB
    for _ in range(6):
        image.append([b""], 1, codec=layout.CODEC_ZSTD, stored_payload=small)
    put(shard, image)
    answers = ask("sizes")
    assert answers == {"scan": 6 * 64 * MIB, "entries": 6, "verify": 6}


def make_directory(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_bytes(b"x" * 4096)
    path.symlink_to(elsewhere)


def make_socket(path: Path) -> None:
    # The name of a socket is short, so it is made where the name is and moved.
    place = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"/proc/self/fd/{place}/s")
        (path.parent / "s").rename(path)
    finally:
        os.close(place)


def make_device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("making a device needs root")
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero: bytes without end
    except PermissionError:
        pytest.skip("this container makes no devices")


KINDS = {
    "fifo": os.mkfifo, "directory": make_directory, "link": make_link, "socket": make_socket, "device": make_device,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_something_else_in_the_place_of_each_file(root: Path, ask: Ask, kind: str) -> None:
    """A typed error or the truth; a system's refusal is an OSError that names the path."""
    truth = [data.hex() for _, data in build(root)]
    saved = root.with_name("saved")
    shutil.copytree(root, saved)
    for name in [*files_of(saved), f"{SHARD}/lock"]:
        for mode in ("read", "attach"):
            shutil.rmtree(root)
            shutil.copytree(saved, root)
            (root / name).unlink()
            KINDS[kind](root / name)
            answers = ask(mode)
            for _call, answer in answers.items():
                if isinstance(answer, str):
                    assert answer in TYPED or answer == f"OSError {root / name}", (name, mode, answers)
            if not isinstance(answers["scan"], str):
                assert answers["scan"][: len(truth)] == truth, (name, mode)
            derived = name.endswith((".idx", "statistics"))  # without them a writer goes on
            if mode == "attach" and not derived and "0000000001-" not in name:
                assert isinstance(answers["append"], str), (name, answers)


def test_a_tail_with_words_that_no_file_reaches(shard: Path, ask: Ask) -> None:
    image = filled(1, 0, 3)
    path = put(shard, image)
    os.truncate(path, byte_offset(image.units) - 8)
    set_tail(path, image.entries, image.units)
    refused(ask())
    path.write_bytes(path.read_bytes()[: layout.SEGMENT_HEADER_BYTES] + bytes(8))
    set_tail(path, image.entries, 1)
    answers = ask()
    assert answers["scan"] == []  # one word in flight: nothing was committed, and a reader cannot know better
