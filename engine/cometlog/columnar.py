"""A read batch as columns: numpy, Arrow and pandas. Each package is imported when it is asked for, and is an extra.

The bytes of entries that are not compressed are not copied: Arrow's buffers are the mapped segment, which stays mapped as long as an
array lives.
"""

from typing import TYPE_CHECKING, Any

from cometlog.kernel import decode

if TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow

    from cometlog.read_batch import ReadBatch


def numbers_array(batch: "ReadBatch") -> "numpy.ndarray[Any, numpy.dtype[numpy.uint64]]":
    """Return the entry numbers, shape (entries,)."""
    return _joined([decode.numbers(run.frames) for run in batch.runs])


def timestamps_array(batch: "ReadBatch") -> "numpy.ndarray[Any, numpy.dtype[numpy.datetime64]]":
    """Return the timestamps as datetime64[ns], shape (entries,)."""
    return _joined([decode.timestamps(run.frames) for run in batch.runs]).view("datetime64[ns]")


def _joined(columns: "list[memoryview]") -> "numpy.ndarray[Any, numpy.dtype[numpy.uint64]]":
    import numpy  # noqa: PLC0415

    if len(columns) == 1:
        return numpy.asarray(columns[0])
    return numpy.concatenate([numpy.empty(0, numpy.uint64), *columns])


def to_arrow(batch: "ReadBatch") -> "pyarrow.Table":
    """Return a table with the columns number (uint64), timestamp (ns, UTC) and data (binary), one chunk for each run of frames."""
    import pyarrow  # noqa: PLC0415

    chunks = [
        pyarrow.BinaryArray.from_buffers(
            pyarrow.binary(), len(frame.offsets) - 1,
            [None, pyarrow.py_buffer(frame.offsets), pyarrow.py_buffer(frame.data)],
        )
        for frame in batch.arrow_batches()
    ]  # fmt: skip
    return pyarrow.table(
        {
            "number": pyarrow.array(batch.numbers, pyarrow.uint64()),
            "timestamp": pyarrow.array(batch.timestamps_ns, pyarrow.timestamp("ns", "UTC")),
            "data": pyarrow.chunked_array(chunks, pyarrow.binary()),
        }
    )


def to_pandas(batch: "ReadBatch") -> "pandas.DataFrame":
    """Return a data frame with the columns timestamp and data, indexed by entry number."""
    import pandas  # noqa: PLC0415

    return pandas.DataFrame(
        {"timestamp": pandas.to_datetime(timestamps_array(batch), utc=True), "data": batch.payloads()},
        index=pandas.Index(numbers_array(batch), name="number"),
    )


def offsets_array(batch: "ReadBatch") -> "numpy.ndarray[Any, numpy.dtype[numpy.int64]]":
    """Return where each entry begins in the entries' bytes laid end to end, and where the last ends: shape (entries + 1,)."""
    import numpy  # noqa: PLC0415

    lengths = [numpy.asarray(part.stops) - numpy.asarray(part.starts) for part in batch.spans()]
    return numpy.concatenate([[0], *lengths]).cumsum(dtype=numpy.int64)
