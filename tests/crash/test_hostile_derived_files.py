"""Indexes and durable marks that lie with true checksums: no answer of a reader changes, or there is a typed error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cometlog import reference
from cometlog.reference import SegmentImage, encode_mark, u32, u64
from hostile import TYPED, Ask, honest, put
from shards import filled, segment, uuid_of


def index_file(
    image: SegmentImage, records: list[tuple[int, int, int]], covered: tuple[int, int, int], **lies: int
) -> bytes:
    """An index whose every checksum holds."""
    header = b"COMETIDX" + u32(1) + u32(lies.get("interval", 1)) + image.uuid
    header += u32(lies.get("count", len(records))) + b"".join(map(u32, covered))
    header = header.ljust(60, b"\0")
    raw = header + u32(reference.crc32c(header))
    for number, (unit, entry, live) in enumerate(records):
        fields = u32(number) + u32(unit) + u32(entry) + u32(live) + u64(1)
        raw += u32(unit) + u32(entry) + u32(live) + u32(reference.crc32c(image.uuid + fields)) + u64(1)
    return raw


INDEX_LIES: dict[str, Callable[[SegmentImage, list[Any]], bytes]] = {
    "2^32 records": lambda image, _: index_file(image, [], (image.units, 20, 20), count=2**32 - 1),
    "an interval of 2^32": lambda image, _: index_file(image, [], (image.units, 20, 20), interval=2**32 - 1),
    "an interval of 0": lambda image, _: index_file(image, [], (image.units, 20, 20), interval=0),
    "everything covered, nothing there": lambda image, _: index_file(image, [], (image.units, 1, 1)),
    "covered inside a payload": lambda image, _: index_file(image, [], (image.units - 1, 1, 1)),
    "a frame said to begin earlier": lambda image, f: index_file(
        image, [(f[9].unit, 2, 2)], (image.units, 20, 20)
    ),
    "a frame said to begin later": lambda image, f: index_file(
        image, [(f[3].unit, f[9].first_index, f[9].first_index)], (image.units, 20, 20)
    ),
    "a boundary inside a payload": lambda image, f: index_file(
        image, [(f[9].unit + 1, 2, 2)], (image.units, 20, 20)
    ),
    "a boundary at the PAD": lambda image, f: index_file(
        image, [(f[4].unit - 4, 3, 3)], (image.units, 20, 20)
    ),
    "the first unit with a later entry": lambda image, _: index_file(
        image, [(0, 5, 5)], (image.units, 20, 20)
    ),
    "more live entries than numbers": lambda image, f: index_file(
        image, [(f[9].unit, f[9].first_index, 2**32 - 1)], (image.units, 20, 20)
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", INDEX_LIES)
@pytest.mark.parametrize("mode", ["read", "attach"])
def test_an_index_that_lies_changes_no_answer(shard: Path, ask: Ask, lie: str, mode: str) -> None:
    image = segment(1)
    for number in range(20):
        if number == 4:
            image.pad(4, 3)
        image.append([f"entry {number}".encode()], 1)
    path = put(shard, image, backed_units=image.units + 64)
    truth = [f"entry {number}".encode() for number in range(20)]
    frames = reference.walk(path.read_bytes()).batches
    path.with_suffix(".idx").write_bytes(INDEX_LIES[lie](image, frames))
    answers = ask(mode)
    if mode == "attach":
        truth.append(b"appended")
    assert answers["scan"] == [data.hex() for data in truth]
    assert answers["entry_count"] == len(truth)
    assert answers["singles"] == [data.hex() for data in truth]
    assert answers["verify"] == len(truth)


MARK_LIES = {
    "an entry before the base": {"next_entry": 0},
    "an entry far behind": {"next_entry": 2**64 - 1},
    "a unit behind the capacity": {"unit": 2**63},
    "another segment's uuid": {"uuid": uuid_of(9)},
    "a later segment": {"segment": 2},
    "a segment without a name": {"segment": 2**64 - 1},
    "the last sequence": {"sequence": 2**64 - 1},
}


@pytest.mark.parametrize("lie", MARK_LIES)
def test_a_durable_mark_that_lies(shard: Path, ask: Ask, lie: str) -> None:
    image = filled(1, 100, 5)
    put(shard, image, backed_units=image.units + 64)
    truth = reference.walk(image.image()).batches
    fields: dict[str, Any] = {
        "sequence": 1, "segment": 1, "unit": image.units, "next_entry": 100 + image.entries, "uuid": image.uuid, "epoch": 1,
    }  # fmt: skip
    (shard / "durable").write_bytes(bytes(512) + encode_mark(**(fields | MARK_LIES[lie])))
    entries = [entry for batch in truth for entry in reference.decode_batch(batch)]
    honest(ask(), entries)
    answers = ask("attach")
    assert answers["append"] in TYPED or answers["scan"] == [data.hex() for data in [*entries, b"appended"]]
