"""Which entries of a stream a command prints: a start, a count, a time; all that is there when it begins."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import cometlog
from cometlog.cli.arguments import existing_stream, whole_number
from cometlog.cli.output import complain
from cometlog.cli.times import first_since, moment_ns
from cometlog.errors import EntryNotFoundError
from cometlog.read_batch import ReadBatch

BATCH_ENTRIES = 1000


@dataclass(frozen=True, slots=True)
class Span:
    """The entries from ``start`` to before ``stop``, at most ``count``."""

    stream: str
    start: int
    stop: int
    count: int


def add_span(parser: argparse.ArgumentParser) -> None:
    """Add the stream and the options that choose its entries."""
    parser.add_argument("stream", metavar="STREAM", help="the stream, such as events:v1:shard:0000")
    starts = parser.add_mutually_exclusive_group()
    starts.add_argument(
        "--start",
        type=whole_number("an entry number"),
        metavar="NUMBER",
        help="begin with this entry (default: the first kept)",
    )
    starts.add_argument(
        "--since", type=moment_ns, metavar="TIME",
        help="begin with the first entry since a time: ISO 8601, local where it names no zone, or how long ago, such as 15m",
    )  # fmt: skip
    parser.add_argument(
        "--count",
        type=whole_number("a count"),
        metavar="N",
        help="end after N entries (default: all there are now)",
    )


def chosen_span(client: cometlog.Client, arguments: argparse.Namespace) -> Span:
    """Return the entries that were asked for; raises EntryNotFoundError for a start that is not kept, or is not there yet."""
    stream = existing_stream(client, arguments.stream)
    first, stop = client.first_entry(stream), client.next_entry(stream)
    start = first
    if arguments.since is not None:
        start = first_since(client, stream, arguments.since)
    elif arguments.start is not None:
        start = arguments.start
        if not first <= start <= stop:
            kept = (
                f"the entries that are kept are {first} to {stop - 1}"
                if first < stop
                else f"it is empty, {stop} comes next"
            )
            raise EntryNotFoundError(f"--start {start}: {stream} has no such entry; {kept}")
    count = stop - start if arguments.count is None else arguments.count
    return Span(stream, start, stop, count)


def batches(client: cometlog.Client, span: Span) -> Iterator[ReadBatch]:
    """Yield the batches of a span. Goes on with the first kept entry where retention was faster."""
    position, missing = span.start, span.count
    while missing > 0 and position < span.stop:
        try:
            batch = client.read(span.stream, position, min(BATCH_ENTRIES, missing))
        except EntryNotFoundError:
            first = client.first_entry(span.stream)
            if first <= position:
                raise
            position = first
            continue
        if not len(batch) and batch.next_entry < span.stop:
            _tell_who_blocks(client, span.stream, batch.next_entry)
            return
        if len(batch):
            yield batch
        missing -= len(batch)
        position = batch.next_entry


def _tell_who_blocks(client: cometlog.Client, stream: str, number: int) -> None:
    stalled = [item.pid for item in client.stalled_writers() if item.stream == stream]
    who = f"process {', '.join(map(str, stalled))} stands still" if stalled else "a writer is"
    complain(
        f"cometlog: {stream} can be read up to entry {number - 1} for now: {who} in the middle of an append"
    )
