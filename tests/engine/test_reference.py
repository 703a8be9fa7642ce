"""The kernel against the format in plain Python: the same outcome on any segment, whole or damaged."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cometlog import reference
from cometlog.inflate import inflater_for
from cometlog.kernel import checksum, decode, layout, scan
from cometlog.kernel.batch import choose_portable_copy, encode_batch
from cometlog.kernel.mapping import Mapping
from cometlog.reference import End, SegmentImage, decode_batch

inflate = inflater_for(Path("a shard without dictionaries/a segment"))
ENDS = {
    scan.STOP_TAIL: End.TAIL,
    scan.STOP_BLOCKED: End.BLOCKED,
    scan.STOP_SEAL: End.SEAL,
    scan.STOP_CORRUPT: End.CORRUPT,
}
U64 = st.integers(0, 2**64 - 1)
BATCHES = st.lists(st.binary(max_size=40), min_size=1, max_size=5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), BATCHES, U64),
        st.tuples(st.just("zstd"), BATCHES, U64),
        st.tuples(st.just("pad"), st.integers(1, 6), st.integers(0, 3)),
        st.tuples(st.just("claim"), st.integers(3, 6), st.integers(1, 3)),
    ),
    max_size=12,
)


@dataclass
class KernelWalk:
    end: End
    unit: int
    next_index: int
    numbers: list[int]
    timestamps: list[int]
    payloads: list[bytes] | None


def cut_views(batch: tuple) -> list[memoryview]:
    """Cut a batch that is not copied into its entries."""
    _, skip, take, _, _, offsets, data = batch
    if offsets is None:
        return [data]
    return [data[offsets[entry] : offsets[entry + 1]] for entry in range(skip, skip + take)]


def kernel_walk(raw: bytes, uuid: bytes, capacity_units: int, base: int = 0) -> KernelWalk:
    """Walk a segment file with the kernel, making readable only what it asks for."""
    tail = int.from_bytes(raw[layout.SEGMENT_TAIL : layout.SEGMENT_TAIL + 8], "little")
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        file.flush()
        mapping = Mapping(file.fileno(), layout.SEGMENT_HEADER_BYTES + capacity_units * layout.UNIT_BYTES)
    walk = scan.Walk(mapping, uuid)
    frames = scan.Frames(mapping, base)
    stop = walk.collect(frames, tail, 0, 0, 2**40)
    while stop == scan.STOP_WINDOW:
        stop = walk.collect(frames, tail, walk.needed_units, 0, 2**40)
    try:
        payloads = decode.payloads(frames, inflate)
        batches = decode.batches(frames, inflate)
        assert payloads == [bytes(view) for batch in batches for view in cut_views(batch)]
        assert payloads == [
            bytes(data[start:stop])
            for data, starts, stops in decode.spans(frames, inflate)
            for start, stop in zip(starts, stops, strict=True)
        ]
    except decode.DamagedBatchError:
        payloads = None
        with pytest.raises(decode.DamagedBatchError):
            decode.batches(frames, inflate)
    return KernelWalk(
        ENDS[stop], walk.unit, walk.next_index, decode.numbers(frames).tolist(),
        decode.timestamps(frames).tolist(), payloads,
    )  # fmt: skip


def reference_payloads(batches: list[reference.Batch]) -> list[bytes] | None:
    entries: list[bytes] = []
    for batch in batches:
        payload = batch.payload
        try:
            if batch.codec != layout.CODEC_NONE:
                payload = inflate(memoryview(payload), batch.codec)
            plain = reference.Batch(
                batch.unit, batch.first_index, batch.entries, 0, layout.CODEC_NONE, payload
            )
            entries += decode_batch(plain)
        except ValueError:
            return None
    return entries


def build(steps: list[tuple], sealed: bool) -> SegmentImage:
    image = SegmentImage(sealed=sealed)
    for name, first, second in steps:
        if name == "append":
            image.append(first, second)
        elif name == "zstd":
            stored = zstandard.ZstdCompressor().compress(reference.encode_batch(first))
            image.append(first, second, codec=layout.CODEC_ZSTD, stored_payload=stored)
        elif name == "pad":
            image.pad(first, second)
        else:
            image.claim(first, second)
    return image


def assert_same(raw: bytes, image: SegmentImage) -> End:
    expected = reference.walk(raw)
    actual = kernel_walk(raw, image.uuid, image.capacity_units)
    numbers = [batch.first_index + place for batch in expected.batches for place in range(batch.entries)]
    assert actual.numbers == numbers
    assert actual.timestamps == [
        batch.timestamp_ns for batch in expected.batches for _ in range(batch.entries)
    ]
    assert (actual.end, actual.unit, actual.next_index) == (expected.end, expected.unit, expected.next_index)
    assert actual.payloads == reference_payloads(expected.batches)
    return expected.end


@given(STEPS, st.booleans())
@settings(deadline=None)
def test_walk_and_decode_agree_on_whole_segments(steps: list[tuple], sealed: bool) -> None:
    image = build(steps, sealed)
    end = assert_same(image.image(), image)
    if not any(name == "claim" for name, *_ in steps):
        assert end is End.TAIL


@given(STEPS, st.data())
@settings(max_examples=400, deadline=None)
def test_walk_and_decode_agree_on_damaged_segments(steps: list[tuple], data: st.DataObject) -> None:
    image = build(steps, False)
    raw = bytearray(image.image())
    start = layout.SEGMENT_TAIL
    for _ in range(data.draw(st.integers(1, 3))):
        region = st.sampled_from([(start, start + 8), (layout.SEGMENT_HEADER_BYTES, len(raw))])
        low, high = data.draw(region)
        if low < high:
            raw[data.draw(st.integers(low, high - 1))] ^= data.draw(st.integers(1, 255))
    tail = int.from_bytes(raw[start : start + 8], "little")
    if tail & layout.TAIL_UNITS_MASK <= image.units:
        assert_same(bytes(raw), image)


@given(st.binary(max_size=400), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_walk_agrees_on_arbitrary_bytes(noise: bytes, entries: int) -> None:
    units = len(noise) // layout.UNIT_BYTES
    image = SegmentImage(frames=bytearray(noise[: units * layout.UNIT_BYTES]), entries=entries, units=units)
    assert_same(image.image(), image)


@given(STEPS)
@settings(deadline=None)
def test_a_seal_ends_the_walk(steps: list[tuple]) -> None:
    image = build([step for step in steps if step[0] != "claim"], False)
    seal_unit = image.units
    image.frames += reference.encode_seal(image.uuid, seal_unit)
    image.units += 1
    image.append([b"behind the seal"], 1)
    assert assert_same(image.image(), image) is End.SEAL
    assert reference.walk(image.image()).unit == seal_unit


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_checksums_agree(data: bytes, state: int) -> None:
    assert reference.crc32c(data, state) == checksum.crc32c(data, state)


def test_checksum_of_the_standard_check_string() -> None:
    assert reference.crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("portable", [True, False], ids=["portable", "this CPU"])
def test_a_batch_holds_entries_of_every_length_unchanged(portable: bool) -> None:
    source = bytes(range(256)) * 2
    items = [source[length : 2 * length] for length in (*range(257), *reversed(range(257)))]
    choose_portable_copy(portable)
    try:
        assert encode_batch(items) == reference.encode_batch(items)
    finally:
        choose_portable_copy(False)


@pytest.mark.parametrize(("index", "frame_entries"), [(0, 1), (1, 1), (2, 3), (4, 1), (2**32 - 1, 1)])
def test_an_index_that_does_not_rise_or_passes_the_tail_is_corrupt(index: int, frame_entries: int) -> None:
    image = SegmentImage()
    image.append([b"a", b"b"], 1)
    unit, image.entries = image.units, index
    image.append([b"c"] * frame_entries, 2)
    image.entries = 4
    walked = reference.walk(image.image())
    assert (walked.end, walked.unit) == (End.CORRUPT, unit)
    assert_same(image.image(), image)


def damaged_batch(entries: int, payload: bytes, codec: int = layout.CODEC_NONE) -> KernelWalk:
    image = SegmentImage()
    image.append([b""] * entries, 1, codec=codec, stored_payload=payload)
    return kernel_walk(image.image(), image.uuid, image.capacity_units)


@pytest.mark.parametrize(
    "offsets",
    [(1, 2, 3), (0, 2, 1), (0, 4, 3), (0, -1, 3), (0, 1, 4), (0, 1, 2), (-(2**31), 1, 3), (0, 2**31 - 1, 3)],
)
def test_offsets_that_do_not_rise_from_zero_to_the_end_are_refused(offsets: tuple[int, ...]) -> None:
    payload = b"".join(offset.to_bytes(4, "little", signed=True) for offset in offsets) + b"abc"
    walked = damaged_batch(2, payload)
    assert (walked.end, walked.payloads) == (End.TAIL, None)


def test_more_entries_than_offsets_fit_are_refused() -> None:
    assert damaged_batch(3, bytes(15)).end is End.CORRUPT
    assert damaged_batch(3, bytes(16)).payloads == [b"", b"", b""]


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"not zstd",
        zstandard.ZstdCompressor().compress(bytes(12))[:-1],
        zstandard.ZstdCompressor().compress(bytes(12)) + b"more",
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(12)),
    ],
    ids=["empty", "no frame", "cut", "bytes behind", "no size"],
)
def test_damaged_compressed_payloads_are_refused(stored: bytes) -> None:
    assert damaged_batch(2, stored, layout.CODEC_ZSTD).payloads is None


def test_a_stated_size_beyond_the_limit_is_refused_before_allocation() -> None:
    frame_header = b"\x28\xb5\x2f\xfd\xe0" + (layout.MAX_BATCH_BYTES + 1).to_bytes(8, "little")
    with pytest.raises(
        ValueError, match=f"states {layout.MAX_BATCH_BYTES + 1} bytes, at most {layout.MAX_BATCH_BYTES}"
    ):
        inflate(memoryview(frame_header + bytes(8)), layout.CODEC_ZSTD)


def test_a_dictionary_that_is_not_there_is_named() -> None:
    samples = [b"order %d of customer %d" % (number, number * 7919) for number in range(500)]
    trained = zstandard.train_dictionary(1024, samples, dict_id=40_000)
    stored = zstandard.ZstdCompressor(dict_data=trained).compress(samples[0])
    with pytest.raises(ValueError, match="needs dictionary 40000, which this shard does not have"):
        inflate(memoryview(stored), layout.CODEC_ZSTD_DICTIONARY)
    with pytest.raises(ValueError, match="codec 1 names dictionary 40000"):
        inflate(memoryview(stored), layout.CODEC_ZSTD)


def test_a_walk_refuses_limits_outside_its_mapping(tmp_path: Path) -> None:
    image = build([("append", [b"x"], 1)], False)
    path = tmp_path / "segment"
    path.write_bytes(image.image())
    with path.open("rb") as file:
        mapping = Mapping(file.fileno(), path.stat().st_size)
    walk = scan.Walk(mapping, image.uuid)
    with pytest.raises(IndexError, match="tail at unit 5, 4 readable, in a map of 4"):
        walk.advance(reference.make_tail(1, 5, False), 4)
    with pytest.raises(IndexError, match="5 readable"):
        walk.advance(reference.make_tail(1, 4, False), 5)
