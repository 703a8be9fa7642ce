"""Shards put together from reference segments, for the tests of the reading side."""

import os
from pathlib import Path
from typing import Any

from cometlog.kernel import layout
from cometlog.kernel.index_writer import IndexWriter
from cometlog.reader import ShardReader
from cometlog.reference import SegmentImage, decode_batch, make_tail, u64, walk
from cometlog.segment import Segment, SegmentName

STREAM = "events:v1:shard:0000"
INTERVAL_ENTRIES = 10


def uuid_of(number: int) -> bytes:
    return bytes([number]) * 16


def segment(
    number: int, base: int = 0, *, previous: SegmentImage | None = None, **fields: Any
) -> SegmentImage:
    fields.setdefault("capacity_units", 1 << 16)
    previous_uuid = previous.uuid if previous else bytes(16)
    return SegmentImage(number=number, base=base, uuid=uuid_of(number), previous_uuid=previous_uuid, **fields)


def segment_path(directory: Path, image: SegmentImage) -> Path:
    return directory / SegmentName(image.number, image.base).file_name


def write_segments(directory: Path, *images: SegmentImage, backed_units: int | None = None) -> None:
    for image in images:
        segment_path(directory, image).write_bytes(image.image(backed_units=backed_units))


def filled(number: int, base: int, batches: int, **fields: Any) -> SegmentImage:
    """Return a segment of ``batches`` batches with 1, 2, 3, 1, 2, 3 ... entries, each entry different."""
    image = segment(number, base, **fields)
    for batch in range(batches):
        entries = [f"{base + image.entries + place}".encode() * (place + 1) for place in range(batch % 3 + 1)]
        image.append(entries, 1_000 + batch)
    return image


def chain(directory: Path, lengths: list[int]) -> list[SegmentImage]:
    """Write segments 1, 2, ... of the given numbers of batches, all but the last sealed."""
    images: list[SegmentImage] = []
    base = 0
    for number, batches in enumerate(lengths, start=1):
        image = filled(number, base, batches, previous=images[-1] if images else None)
        image.sealed = number < len(lengths)
        base += image.entries
        images.append(image)
    write_segments(directory, *images)
    return images


def entries_of(image: SegmentImage) -> list[bytes]:
    return [entry for batch in walk(image.image()).batches for entry in decode_batch(batch)]


def set_tail(path: Path, entries: int, units: int, sealed: bool = False) -> None:
    with path.open("r+b") as file:
        file.seek(layout.SEGMENT_TAIL)
        file.write(u64(make_tail(entries, units, sealed)))


def flip(path: Path, offset: int, bit: int = 0) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1 << bit
    path.write_bytes(raw)


def index_path(directory: Path, image: SegmentImage) -> Path:
    return directory / SegmentName(image.number, image.base).index_name


def write_index(directory: Path, image: SegmentImage, interval: int = INTERVAL_ENTRIES) -> int:
    """Bring the index up to date as a new process would; returns the units covered."""
    opened = Segment(segment_path(directory, image), writable=False)
    directory_fd = os.open(directory, os.O_RDONLY)
    try:
        name = SegmentName(image.number, image.base).index_name
        writer = IndexWriter(opened.mapping, opened.header.uuid, interval, directory_fd, name)
        covered = writer.write_checkpoint()
        writer.sync()
        writer.close()
        return covered
    finally:
        os.close(directory_fd)
        opened.close()


def reader_of(directory: Path, **options: Any) -> ShardReader:
    return ShardReader(directory, STREAM, **options)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def all_entries(images: list[SegmentImage]) -> list[bytes]:
    return [entry for image in images for entry in entries_of(image)]
