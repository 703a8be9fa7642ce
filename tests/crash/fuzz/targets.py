"""What is fuzzed: one function for each parser. It takes bytes and returns; an exception that no caller would expect is a finding.

Where the plain Python of ``reference.py`` has the same function, both answer alike. Checksums are a wall that no fuzzer climbs, so
each target that meets one puts the right one in where the first byte of its input is odd.
"""

import mmap
import os
import struct
import tempfile
from pathlib import Path

from cometlog import reference
from cometlog.config import Config
from cometlog.control import Control
from cometlog.durable_mark import decode_mark
from cometlog.errors import (
    ConfigurationError,
    CorruptionError,
    EntryNotFoundError,
    NewerFormatError,
    NotALogError,
    StreamNameError,
)
from cometlog.index import load_index
from cometlog.inflate import inflater_for
from cometlog.kernel import decode, layout, scan
from cometlog.kernel.boundary import find_boundaries
from cometlog.kernel.index_writer import IndexWriter
from cometlog.kernel.mapping import Mapping
from cometlog.names import parse_stream
from cometlog.reader import ShardReader
from cometlog.reference import SegmentImage, u32, u64
from cometlog.segment import Segment, SegmentName, decode_header
from cometlog.statistics import read_statistics

STREAM = "events:v1:shard:0000"
UUID = bytes(range(16))
FRAMES_BYTES_MAX = layout.PAGE_BYTES
DIRECTORY = Path(
    tempfile.mkdtemp(prefix="cometlog-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
)

inflate = inflater_for(DIRECTORY / "a segment")


def checksummed(raw: bytes, end: int, wanted: int) -> bytes:
    """Put the checksum of the bytes before ``end`` there, where it is wanted."""
    if not wanted & 1 or len(raw) < end + 4:
        return raw
    return raw[:end] + u32(reference.crc32c(raw[:end])) + raw[end + 4 :]


def segment_header(data: bytes) -> None:
    raw = checksummed(data[1:], layout.SEGMENT_CHECKSUM, data[0] if data else 0)
    try:
        header = decode_header(raw, Path("any.seg"))
    except (CorruptionError, NewerFormatError):
        return
    assert header.encode() == raw[: layout.SEGMENT_CHECKSUM + 4]


def true_checksums(frames: bytearray, tail_units: int) -> None:
    """Go from frame to frame as a walk would and put in the checksums that belong there."""
    unit = 0
    while unit < tail_units:
        start = unit * layout.UNIT_BYTES
        (word,) = struct.unpack_from("<Q", frames, start)
        kind, units = word >> layout.WORD_KIND_SHIFT & 7, word & layout.WORD_UNITS_MASK
        if kind in (layout.KIND_PAD, layout.KIND_SEAL):
            low = word & 0xFFFFFFFF
            checksum = reference.crc32c(UUID + u64(unit) + u32(low))
            struct.pack_into("<Q", frames, start, checksum << layout.WORD_INDEX_SHIFT | low)
        elif kind == layout.KIND_DATA and 3 <= units <= tail_units - unit:
            meta, timestamp_ns = struct.unpack_from("<IQ", frames, start + layout.FRAME_META)
            stop = start + units * layout.UNIT_BYTES - (meta >> layout.META_PAD_SHIFT)
            payload = bytes(frames[start + layout.FRAME_PAYLOAD : stop])
            checksum = reference.frame_checksum(
                uuid=UUID, payload=payload, unit=unit, word=word, timestamp_ns=timestamp_ns, meta=meta
            )
            struct.pack_into("<I", frames, start + layout.FRAME_CHECKSUM, checksum)
        if kind not in (layout.KIND_DATA, layout.KIND_PAD) or units == 0:
            return
        unit += units


def image_of(data: bytes) -> tuple[bytes, int]:
    """A whole segment file from the fuzzer's bytes, with its tail word: flags, entries, then frames up to the last page's end."""
    flags, entries = struct.unpack_from("<BH", data.ljust(3, b"\0"))
    frames = bytearray(data[3 : 3 + FRAMES_BYTES_MAX])
    frames += bytes(-len(frames) % layout.UNIT_BYTES)
    units = len(frames) // layout.UNIT_BYTES
    if flags & 1:
        true_checksums(frames, units)
    tail = reference.make_tail(2**32 - 1 if flags & 4 else entries, units, bool(flags & 2))
    header = reference.encode_header(
        number=1, base=100, uuid=UUID, previous_uuid=bytes(16), epoch=1,
        capacity_units=FRAMES_BYTES_MAX // layout.UNIT_BYTES, created_ns=0, tail=tail, backed_units=units,
    )  # fmt: skip
    return header + bytes(frames), tail


ENDS = {
    scan.STOP_TAIL: reference.End.TAIL,
    scan.STOP_BLOCKED: reference.End.BLOCKED,
    scan.STOP_SEAL: reference.End.SEAL,
    scan.STOP_CORRUPT: reference.End.CORRUPT,
}


def mapped(image: bytes) -> Mapping:
    """A map of the bytes that ends where they end, with nothing mapped behind where the system allows it."""
    fd = os.memfd_create("segment")
    try:
        os.ftruncate(fd, len(image) + -len(image) % mmap.PAGESIZE)
        os.pwrite(fd, image, 0)
        return Mapping(fd, max(len(image), layout.SEGMENT_HEADER_BYTES + 8))
    finally:
        os.close(fd)


def walk(data: bytes) -> None:
    """Kernel and reference go the same way through the same bytes, and cut the same entries."""
    image, tail = image_of(data)
    units = tail & layout.TAIL_UNITS_MASK
    mapping = mapped(image)
    cursor = scan.Walk(mapping, UUID)
    frames = scan.Frames(mapping, 100)
    stop = cursor.collect(frames, tail, units, 0, 1 << 40)
    expected = reference.walk(image)
    assert (ENDS[stop], cursor.unit, cursor.next_index) == (expected.end, expected.unit, expected.next_index)
    again = scan.Walk(mapping, UUID)
    assert again.advance(tail, units) == stop
    scan.Walk(mapping, UUID).advance(tail, units, False)
    third = scan.Walk(mapping, UUID)
    assert find_boundaries(third, tail, units, 3, 0)[0] == stop
    assert third.live_entries == sum(batch.entries for batch in expected.batches)
    if any(batch.codec for batch in expected.batches) or frames.entries > 1 << 16:
        return
    try:
        truth = [entry for batch in expected.batches for entry in reference.decode_batch(batch)]
    except ValueError:
        truth = None
    for cut in (decode.payloads, lambda *a: decode.batches(*a), decode.spans, decode.check):
        try:
            entries = cut(frames, inflate)
        except decode.DamagedBatchError:
            assert truth is None
        else:
            assert truth is not None
            assert cut is not decode.payloads or entries == truth


def shard(data: bytes) -> None:
    """Every way of reading a shard whose only segment is the fuzzer's: entries or a typed error."""
    image, _ = image_of(data)
    directory = DIRECTORY / "shard"
    directory.mkdir(exist_ok=True)
    (directory / SegmentName(1, 100).file_name).write_bytes(image)
    reader = ShardReader(directory, STREAM)
    for ask in (
        lambda: list(reader.scan()),
        lambda: reader.read(102, 3).memoryviews(),
        lambda: reader.recent(2).payloads(),
        reader.entry_count,
        reader.verify,
        reader.first_entry,
        reader.next_entry,
    ):
        try:
            ask()
        except (CorruptionError, EntryNotFoundError):
            continue
    reader.close()


def _true_segment() -> tuple[SegmentImage, list[bytes]]:
    image = SegmentImage(number=1, base=0, uuid=UUID, capacity_units=512)
    entries = []
    for number in range(12):
        if number == 5:
            image.pad(3, 2)
        entries.append(b"%d" % number * 3)
        image.append([entries[-1]], 1000 + number)
    return image, entries


TRUE_IMAGE, TRUE_ENTRIES = _true_segment()
RECORD_BYTES = layout.BOUNDARY_SIZE_BYTES


def index(data: bytes) -> None:
    """Whatever the index file says, each entry is found where it is, and an index writer goes on from it or begins anew."""
    flags, raw = data[:1] or b"\0", data[1:2000]
    raw = checksummed(raw, layout.INDEX_CHECKSUM, flags[0])
    if flags[0] & 2:
        pieces = [raw[: layout.INDEX_HEADER_BYTES]]
        records = raw[layout.INDEX_HEADER_BYTES :]
        for number in range(len(records) // RECORD_BYTES):
            record = records[number * RECORD_BYTES :][:RECORD_BYTES]
            checksum = reference.crc32c(UUID + u32(number) + record[:12] + record[16:])
            pieces.append(record[:12] + u32(checksum) + record[16:])
        raw = b"".join(pieces)
    directory = DIRECTORY / "index"
    directory.mkdir(exist_ok=True)
    path = directory / SegmentName(1, 0).file_name
    path.write_bytes(TRUE_IMAGE.image(backed_units=512))
    path.with_suffix(".idx").write_bytes(raw)
    tail = reference.make_tail(TRUE_IMAGE.entries, TRUE_IMAGE.units, False)
    load_index(path.with_suffix(".idx"), UUID, tail, 16)
    reader = ShardReader(directory, STREAM)
    numbers = [0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13]
    for number, entry in zip(numbers, TRUE_ENTRIES, strict=True):
        assert reader.read(number, 1).payloads() == [entry]
    assert 0 <= reader.entry_count() <= TRUE_IMAGE.entries
    reader.close()
    segment = Segment(path, writable=False)
    directory_fd = os.open(directory, os.O_RDONLY)
    writer = IndexWriter(segment.mapping, UUID, 1, directory_fd, path.with_suffix(".idx").name)
    writer.write_checkpoint()
    writer.close()
    os.close(directory_fd)
    segment.close()


def durable_mark(data: bytes) -> None:
    raw = checksummed(data[1:], layout.MARK_CHECKSUM, data[0] if data else 0)
    mark = decode_mark(raw)
    if mark is not None:
        again = decode_mark(mark.encode())
        assert again == mark
        assert mark.encode() == reference.encode_mark(
            sequence=mark.sequence, segment=mark.number, unit=mark.unit, next_entry=mark.next_entry,
            uuid=mark.uuid, epoch=mark.epoch,
        )  # fmt: skip


def control(data: bytes) -> None:
    directory = DIRECTORY / "control"
    directory.mkdir(exist_ok=True)
    path = directory / "control"
    size = layout.CONTROL_SIZE_BYTES + (data[-1] if len(data) > 5000 else 0)
    path.write_bytes(data.ljust(size, b"\0")[:size])
    try:
        opened = Control(path, writable=False)
    except (CorruptionError, NewerFormatError):
        return
    record = opened.read_clean_record()
    assert record is None or record.number > 0
    for number in (0, 1, 1023):
        assert opened.look_at_slot(number).state in range(4)
    assert opened.active >= 0
    assert opened.write_path in (None, "buffered", "sync", "async", "mmap", "uring")
    opened.close()
    read_statistics(directory)


def stream_name(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        name = parse_stream(text)
    except StreamNameError:
        return
    assert str(name) == text
    root = Path("/root-of-the-log")
    assert name.directory(root).parent.parent.parent == root
    assert ".." not in name.directory(root).parts


def config(data: bytes) -> None:
    path = DIRECTORY / "config.toml"
    path.write_bytes(data)
    try:
        loaded = Config.load(path)
    except (ConfigurationError, NotALogError):
        return
    loaded.save(path)
    assert Config.load(path) == loaded


def compressed(data: bytes) -> None:
    for codec in (layout.CODEC_ZSTD, layout.CODEC_ZSTD_DICTIONARY):
        try:
            batch = inflate(memoryview(data), codec)
        except ValueError:
            continue
        assert len(batch) <= layout.MAX_BATCH_BYTES


TARGETS = {
    target.__name__: target
    for target in (
        segment_header, walk, shard, index, durable_mark, control, stream_name, config, compressed,
    )
}  # fmt: skip
