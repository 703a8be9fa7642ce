"""What a read returns: entries of one stream in order, cut only when somebody asks for them."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from cometlog import columnar
from cometlog.errors import CorruptionError
from cometlog.inflate import inflater_for
from cometlog.kernel import decode
from cometlog.kernel.scan import Frames
from cometlog.segment import byte_offset

if TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow


class Entry(NamedTuple):
    """One entry: its stream, its number there, when its batch was encoded (ns since 1970), and its bytes."""

    stream: str
    number: int
    timestamp_ns: int
    data: bytes


class ArrowBatch(NamedTuple):
    """The entries of one frame as an Arrow binary array, without a copy.

    Entry ``i`` is ``data[offsets[i]:offsets[i + 1]]`` and has the number ``first_number + i``; ``offsets`` is
    int32 and has one value more than there are entries. Both are read-only and keep the segment mapped.
    """

    first_number: int
    timestamp_ns: int
    offsets: memoryview
    data: memoryview


class Spans(NamedTuple):
    """Where entries that follow one another lie: entry ``i`` is ``data[starts[i]:stops[i]]``.

    ``data`` is read-only and keeps the segment mapped; ``starts`` and ``stops`` are int64, which ``numpy.asarray`` takes as they are.
    """

    data: memoryview
    starts: memoryview
    stops: memoryview


class Run(NamedTuple):
    """Frames of one segment file, verified; they keep it mapped."""

    path: Path
    frames: Frames


new_run: Callable[[tuple[Path, Frames]], Run] = partial(tuple.__new__, Run)
"""A run of (path, frames), without the Python function that a named tuple's constructor is."""


class Piece(NamedTuple):
    """The payloads of the frames ``first_frame`` to ``stop_frame - 1`` of a run."""

    run: Run
    first_frame: int
    stop_frame: int
    payloads: list[bytes]


def _one_entry_offsets(length_bytes: int) -> memoryview:
    return memoryview(b"\0\0\0\0" + length_bytes.to_bytes(4, "little")).cast("i")


class ReadBatch(Sequence[Entry]):
    """Verified entries in order. ``next_entry`` is the number to go on reading from.

    The segments stay mapped as long as the batch lives, also after the reader is closed and after retention.
    Methods that cut payloads raise CorruptionError where a payload is not what its frame says.
    """

    def __init__(self, stream: str, runs: Sequence[Run], next_entry: int) -> None:
        self.stream = stream
        self.next_entry = next_entry
        self.runs = tuple(runs)
        self.length = runs[0].frames.entries if len(runs) == 1 else sum([run.frames.entries for run in runs])
        self._entries: list[Entry] | None = None

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, position: int) -> Entry: ...
    @overload
    def __getitem__(self, position: slice) -> list[Entry]: ...
    def __getitem__(self, position: int | slice) -> Entry | list[Entry]:
        return self._all()[position]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._all())

    def __repr__(self) -> str:
        return f"<ReadBatch {self.stream}: {self.length} entries, next {self.next_entry}>"

    def _all(self) -> list[Entry]:
        if self._entries is None:
            self._entries = [
                entry
                for run in self.runs
                for entry in decode.entries_of(
                    Entry, self.stream, run.frames, 0, len(run.frames), self._cut(run)
                )
            ]
        return self._entries

    @property
    def start(self) -> int:
        """Number of the first entry, or ``next_entry`` of an empty batch."""
        return self.runs[0].frames.start_number if self.length else self.next_entry

    @property
    def numbers(self) -> list[int]:
        """Entry numbers, ascending; a gap is an append that died or a segment that retention removed."""
        return [number for run in self.runs for number in decode.numbers(run.frames).tolist()]

    @property
    def timestamps_ns(self) -> list[int]:
        """Timestamp of each entry, ns since 1970."""
        return [timestamp for run in self.runs for timestamp in decode.timestamps(run.frames).tolist()]

    def payloads(self) -> list[bytes]:
        """Return the entries' bytes."""
        runs = self.runs
        if len(runs) == 1:
            return self._cut(runs[0])
        return [payload for run in self.runs for payload in self._cut(run)]

    def _cut(self, run: Run) -> list[bytes]:
        try:
            return decode.payloads(run.frames, inflater_for(run.path))
        except decode.DamagedBatchError as error:
            raise self._corruption(run, error) from error

    def each(self) -> Iterator[Entry]:
        """Yield the entries with no more than one compressed frame in memory at a time."""
        for piece in self.pieces():
            yield from decode.entries_of(
                Entry, self.stream, piece.run.frames, piece.first_frame, piece.stop_frame, piece.payloads
            )

    def pieces(self) -> Iterator[Piece]:
        """Yield the payloads with no more than those of one segment, or of one compressed frame, in memory at a time."""
        for run in self.runs:
            position = 0
            while position < len(run.frames):
                first = position
                try:
                    payloads, position = decode.payloads_from(run.frames, first, inflater_for(run.path))
                except decode.DamagedBatchError as error:
                    raise self._corruption(run, error) from error
                yield Piece(run, first, position, payloads)

    def check(self) -> None:
        """Raise CorruptionError at the first payload that is not what its frame says; keeps nothing in memory."""
        for run in self.runs:
            try:
                decode.check(run.frames, inflater_for(run.path))
            except decode.DamagedBatchError as error:
                raise self._corruption(run, error) from error

    def arrow_batches(self) -> list[ArrowBatch]:
        """Return one Arrow binary array for each frame, without a copy where the frame is not compressed."""
        batches = []
        for run in self.runs:
            try:
                found = decode.batches(run.frames, inflater_for(run.path))
            except decode.DamagedBatchError as error:
                raise self._corruption(run, error) from error
            for first_number, skip, take, _, timestamp_ns, offsets, data in found:
                bounds = _one_entry_offsets(len(data)) if offsets is None else offsets[skip : skip + take + 1]
                batches.append(ArrowBatch(first_number, timestamp_ns, bounds, data))
        return batches

    def spans(self) -> list[Spans]:
        """Return where the entries lie, without a copy where their frames are not compressed: the cheapest way to their bytes."""
        found = []
        for run in self.runs:
            try:
                found += decode.spans(run.frames, inflater_for(run.path))
            except decode.DamagedBatchError as error:
                raise self._corruption(run, error) from error
        return list(map(Spans._make, found))

    def memoryviews(self) -> list[memoryview]:
        """Return the entries' bytes as read-only views that keep their segment mapped."""
        return [
            part.data[start:stop]
            for part in self.spans()
            for start, stop in zip(part.starts.tolist(), part.stops.tolist(), strict=True)
        ]

    def numbers_array(self) -> "numpy.ndarray[Any, numpy.dtype[numpy.uint64]]":
        """Return the entry numbers as a numpy array, shape (entries,)."""
        return columnar.numbers_array(self)

    def timestamps_array(self) -> "numpy.ndarray[Any, numpy.dtype[numpy.datetime64]]":
        """Return the timestamps as numpy datetime64[ns], shape (entries,)."""
        return columnar.timestamps_array(self)

    def offsets_array(self) -> "numpy.ndarray[Any, numpy.dtype[numpy.int64]]":
        """Return where each entry begins in the entries' bytes laid end to end, and where the last ends: shape (entries + 1,)."""
        return columnar.offsets_array(self)

    def to_arrow(self) -> "pyarrow.Table":
        """Return an Arrow table of number, timestamp and data; data is not copied unless its frame is compressed."""
        return columnar.to_arrow(self)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a data frame of timestamp and data, indexed by entry number."""
        return columnar.to_pandas(self)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand the batch to any library that takes Arrow's C stream, such as polars or duckdb."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def _corruption(self, run: Run, error: decode.DamagedBatchError) -> CorruptionError:
        return CorruptionError(
            str(error), file=str(run.path), offset=byte_offset(error.unit), stream=self.stream,
            entry=run.frames.base + error.index,
        )  # fmt: skip
