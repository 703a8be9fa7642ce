"""Read batches as columns: numpy, Arrow, pandas, and the Arrow C stream, without a copy."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import cometlog
from cometlog import Config
from support import STREAM, make_config

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


def test_arrow_buffers_lie_in_the_mapped_segment_and_keep_it_mapped(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"a" * 1000, b"b" * 1000])
        table = client.read(STREAM, 0, 10).to_arrow()
    data = table.column("data").chunk(0).buffers()[2]
    segment = str(next(root.rglob("*.seg")))
    places = [
        tuple(int(part, 16) for part in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(segment)
    ]
    assert any(start <= data.address < stop for start, stop in places), "the bytes were copied"
    assert table.column("data").to_pylist() == [b"a" * 1000, b"b" * 1000]
