"""Write the entries of a stream to standard output as JSON lines, CSV, an Arrow stream or Parquet.

JSON lines and CSV: stream, number, timestamp_ns, data, and base64, which says whether data is not UTF-8 and therefore encoded so.
Arrow and Parquet (with the extra cometlog[arrow]): number, timestamp, data as binary.
"""

import argparse
import csv
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import cometlog
from cometlog.cli import EXIT_SOUND
from cometlog.cli.arguments import add_path
from cometlog.cli.entries import as_dict, as_json_line, write_entries
from cometlog.cli.output import output, unit_of_work
from cometlog.cli.progress import Progress
from cometlog.cli.spans import add_span, batches, chosen_span
from cometlog.errors import CometlogError
from cometlog.read_batch import ReadBatch

EXAMPLES = """\
  cometlog export /var/log/app events:v1:shard:0000 --format csv > events.csv
  cometlog export /var/log/app events:v1:shard:0000 --since 24h --format parquet > events.parquet
"""
FIELDS = ("stream", "number", "timestamp_ns", "data", "base64")
BINARY = ("arrow", "parquet")

Write = Callable[[ReadBatch, int], int]
"""Writes at most so many entries of a batch and returns how many."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    add_span(parser)
    parser.add_argument("--format", choices=list(FORMATS), default="jsonl", help="the form (default: jsonl)")


def run(arguments: argparse.Namespace) -> int:
    """Export and return the exit code."""
    if arguments.format in BINARY and output().isatty():
        raise CometlogError(f"--format {arguments.format} is not for a terminal; send the output to a file")
    with cometlog.open(arguments.path, read_only=True) as client:
        span = chosen_span(client, arguments)
        progress = Progress(min(span.count, span.stop - span.start), "entries")
        done = 0
        with FORMATS[arguments.format]() as write:
            for batch in batches(client, span):
                done += write(batch, span.count - done)
                progress.report(done)
        progress.end()
    return EXIT_SOUND


@contextmanager
def _jsonl() -> Iterator[Write]:
    yield lambda batch, count: write_entries(batch.each(), as_json_line, count)


@contextmanager
def _csv() -> Iterator[Write]:
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")

    def rest() -> bytes:
        line = text.getvalue().encode()
        text.seek(0)
        text.truncate()
        return line

    def line(entry: cometlog.Entry) -> bytes:
        fields = as_dict(entry)
        writer.writerow(fields | {"base64": str(fields["base64"]).lower()})
        return rest()

    writer.writeheader()
    output().write_bytes(rest())
    yield lambda batch, count: write_entries(batch.each(), line, count)


class _Sink(io.RawIOBase):
    """Standard output as a binary file."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return output().write_bytes(bytes(data))


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise CometlogError(
            f"Arrow and Parquet need pyarrow, which cannot be imported ({error}): pip install 'cometlog[arrow]'"
        ) from error
    return pyarrow


@contextmanager
def _columns(open_writer: Callable[[Any, Any, Any], AbstractContextManager[Any]]) -> Iterator[Write]:
    pyarrow = _pyarrow()
    schema = pyarrow.schema(
        [
            ("number", pyarrow.uint64()),
            ("timestamp", pyarrow.timestamp("ns", "UTC")),
            ("data", pyarrow.binary()),
        ]
    )
    with open_writer(pyarrow, _Sink(), schema) as writer:

        def write(batch: ReadBatch, count: int) -> int:
            table = batch.to_arrow().slice(0, count)
            with unit_of_work():
                writer.write_table(table)
            return int(table.num_rows)

        yield write


FORMATS: dict[str, Callable[[], AbstractContextManager[Write]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "arrow": lambda: _columns(lambda pyarrow, sink, schema: pyarrow.ipc.new_stream(sink, schema)),
    "parquet": lambda: _columns(lambda pyarrow, sink, schema: pyarrow.parquet.ParquetWriter(sink, schema)),
}
