"""Read batches as columns: numpy, Arrow, pandas, and the Arrow C stream, without a copy."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import cometlog
from cometlog import Config
from support import KIB, STREAM, make_config

numpy = pytest.importorskip("numpy")
pyarrow = pytest.importorskip("pyarrow")
pandas = pytest.importorskip("pandas")

BATCHES = [[b"one"], [b"two", b"", b"three"], [b"x" * 100] * 40, [b"last"]]
ENTRIES = [entry for batch in BATCHES for entry in batch]


@pytest.fixture(params=["plain", "compressed"])
def batch(root: Path, request: pytest.FixtureRequest) -> Iterator[cometlog.ReadBatch]:
    """All entries, read from the middle of the first batch's frame on; some frames are compressed."""
    config = (
        make_config()
        if request.param == "plain"
        else Config.default().with_changes(compression={"threshold_bytes": 50})
    )
    with cometlog.open(root, config) as client:
        for entries in BATCHES:
            client.append(STREAM, entries)
        yield client.read(STREAM, 2, 1000)


def test_numbers_timestamps_and_offsets_are_those_of_the_entries(batch: cometlog.ReadBatch) -> None:
    assert batch.numbers_array().tolist() == list(range(2, len(ENTRIES)))
    assert batch.numbers_array().dtype == numpy.uint64
    assert batch.timestamps_array().dtype == numpy.dtype("datetime64[ns]")
    assert batch.timestamps_array().astype(numpy.int64).tolist() == batch.timestamps_ns
    offsets = batch.offsets_array().tolist()
    assert [stop - start for start, stop in pairwise(offsets)] == [len(entry) for entry in ENTRIES[2:]]


def test_an_arrow_table_holds_the_entries(batch: cometlog.ReadBatch) -> None:
    table = batch.to_arrow()
    assert table.column("data").to_pylist() == ENTRIES[2:]
    assert table.column("number").to_pylist() == list(range(2, len(ENTRIES)))
    assert table.column("timestamp").type == pyarrow.timestamp("ns", "UTC")
    table.validate(full=True)


def test_any_library_takes_the_batch_by_the_arrow_c_stream(batch: cometlog.ReadBatch) -> None:
    reader = pyarrow.RecordBatchReader.from_stream(batch)
    assert reader.read_all().column("data").to_pylist() == ENTRIES[2:]


def test_a_data_frame_is_indexed_by_entry_number(batch: cometlog.ReadBatch) -> None:
    frame = batch.to_pandas()
    assert frame.index.tolist() == list(range(2, len(ENTRIES)))
    assert frame["data"].tolist() == ENTRIES[2:]
    assert str(frame["timestamp"].dt.tz) == "UTC"


def test_an_empty_batch_is_an_empty_table(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"x"])
        empty = client.read(STREAM, 1, 10)
        assert empty.to_arrow().num_rows == len(empty.to_pandas()) == len(empty.numbers_array()) == 0
        assert empty.offsets_array().tolist() == [0]


def mapped_places(root: Path) -> list[range]:
    """Addresses at which this process has segments mapped, also those that were removed."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if str(root) in line and ".seg" in line]
    return [range(int(start, 16), int(stop, 16)) for start, stop in spans]


@pytest.mark.parametrize("way", ["table", "C stream"])
def test_arrow_buffers_lie_in_the_mapped_segments_and_keep_them_mapped(root: Path, way: str) -> None:
    entries = [b"%d" % number * 1000 for number in range(60)]
    limits = {"max_shard_bytes": 1, "min_segments": 1, "interval_s": 0.0}
    with cometlog.open(root, make_config(64 * KIB, retention=limits)) as client:
        for start in range(0, 60, 2):
            client.append(STREAM, entries[start : start + 2])
        batch = client.read(STREAM, 0, 1000)
        table = (
            batch.to_arrow() if way == "table" else pyarrow.RecordBatchReader.from_stream(batch).read_all()
        )
        del batch
        assert client.retain(), "the segments are to be removed while the arrays live"
    places = mapped_places(root)
    for chunk in table.column("data").chunks:
        offsets, data = chunk.buffers()[1:]
        for buffer in (offsets, data):
            assert any(buffer.address in place for place in places), "the bytes were copied"
    assert table.column("data").to_pylist() == entries
    del table, chunk, offsets, data, buffer
    assert mapped_places(root) == [], "a segment stays mapped that nobody uses"


def test_memoryviews_lie_in_the_mapped_segment_and_keep_it_mapped(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"a" * 1000, b"b" * 1000])
        views = client.read(STREAM, 0, 10).memoryviews()
    addresses = [numpy.frombuffer(view, numpy.uint8).ctypes.data for view in views]
    assert all(any(address in place for place in mapped_places(root)) for address in addresses)
    assert [bytes(view) for view in views] == [b"a" * 1000, b"b" * 1000]
    assert all(view.readonly for view in views)


def test_spans_say_where_each_entry_lies(batch: cometlog.ReadBatch) -> None:
    spans = batch.spans()
    assert [
        bytes(data[start:stop])
        for data, starts, stops in spans
        for start, stop in zip(starts, stops, strict=True)
    ] == ENTRIES[2:]
    assert all(part.data.readonly for part in spans)
    assert {numpy.asarray(bounds).dtype for part in spans for bounds in part[1:]} == {numpy.dtype("int64")}
