"""Append what standard input holds to a stream: each line an entry, or all of it one entry.

Lines are appended as they come, as many together as are there. An entry counts once it is acknowledged: its number printed with
-v, or counted in the line that ends the command, on standard error. Ctrl-C, an input that breaks and an error end it at once; what
was acknowledged stays, and the line says how many entries that are. With --sync an entry is acknowledged once it survives power loss.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cometlog
from cometlog.cli import EXIT_SOUND
from cometlog.cli.arguments import add_config, add_path, check_owner, load_config, whole_number
from cometlog.cli.output import complain, output, unit_of_work
from cometlog.cli.stopping import waiting_for
from cometlog.errors import BatchTooLargeError, CometlogError
from cometlog.kernel import layout
from cometlog.names import parse_stream
from cometlog.write_paths import WRITE_PATHS

EXAMPLES = """\
  journalctl -f -o json | cometlog append /var/log/app journal:v1:shard:0000
  cometlog append /var/log/app reports:v1:shard:0000 --file --sync < report.pdf
"""
READ_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    parser.add_argument("stream", metavar="STREAM", help="the stream; it begins with its first entry")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--lines", action="store_true", help="each line is an entry, without its line end (default)"
    )
    forms.add_argument("--file", action="store_true", help="all of standard input is one entry")
    parser.add_argument(
        "--batch", type=whole_number("a batch", 1), default=1000, metavar="N",
        help="append at most N entries at once; a batch becomes visible as a whole (default: 1000)",
    )  # fmt: skip
    parser.add_argument("--sync", action="store_true", help="acknowledge what survives power loss")
    parser.add_argument("--create", action="store_true", help="create the log where there is none")
    parser.add_argument(
        "--write-path", choices=list(WRITE_PATHS), default="mmap", help="how to write (default: mmap)"
    )
    add_config(parser)
    says = parser.add_mutually_exclusive_group()
    says.add_argument("-v", "--verbose", action="store_true", help="print the number of each entry")
    says.add_argument(
        "--json", action="store_true", help="print what was appended as a JSON object at the end"
    )


@dataclass
class Tally:
    """What was acknowledged: how many entries, the first number and the one behind the last."""

    stream: str
    entries: int = 0
    first_entry: int | None = None
    next_entry: int | None = None

    def add(self, numbers: range) -> None:
        """Count a batch."""
        self.entries += len(numbers)
        self.first_entry = numbers.start if self.first_entry is None else self.first_entry
        self.next_entry = numbers.stop

    def __str__(self) -> str:
        if self.first_entry is None or self.next_entry is None:
            return f"nothing was appended to {self.stream}"
        entries = "1 entry" if self.entries == 1 else f"{self.entries} entries"
        return f"{entries} appended to {self.stream}, numbers {self.first_entry} to {self.next_entry - 1}"


def run(arguments: argparse.Namespace) -> int:
    """Append and return the exit code."""
    if not arguments.create:
        cometlog.open(arguments.path, read_only=True).close()
        check_owner(arguments.path)
    tally = Tally(str(parse_stream(arguments.stream)))
    with cometlog.open(arguments.path, load_config(arguments), write_path=arguments.write_path) as client:
        interrupted = ""
        try:
            for entries in _pieces(whole=arguments.file):
                with unit_of_work():
                    _append(client, entries, tally, arguments)
        except KeyboardInterrupt:
            interrupted = "interrupted; "
            raise
        finally:
            complain(f"cometlog append: {interrupted}{tally}")
            if arguments.json:
                print(json.dumps(vars(tally) | {"synced": arguments.sync}))
    return EXIT_SOUND


def _append(
    client: cometlog.Client, entries: list[bytes], tally: Tally, arguments: argparse.Namespace
) -> None:
    """Append a piece of the input in batches and acknowledge it as a whole."""
    appended: list[range] = []
    try:
        for start in range(0, len(entries), arguments.batch):
            appended += _in_segments(client, tally.stream, entries[start : start + arguments.batch])
    finally:
        if appended:
            _acknowledge(client, appended, tally, arguments)


def _acknowledge(
    client: cometlog.Client, appended: list[range], tally: Tally, arguments: argparse.Namespace
) -> None:
    if arguments.sync:
        client.sync(tally.stream)
    for numbers in appended:
        tally.add(numbers)
    if arguments.verbose:
        for numbers in appended:
            print(*numbers, sep="\n")
        output().flush()


def _in_segments(client: cometlog.Client, stream: str, entries: list[bytes]) -> Iterator[range]:
    """Append a batch, in halves where a segment cannot take it."""
    try:
        yield client.append(stream, entries)
    except BatchTooLargeError:
        if len(entries) == 1:
            raise
        middle = len(entries) // 2
        yield from _in_segments(client, stream, entries[:middle])
        yield from _in_segments(client, stream, entries[middle:])


def _pieces(*, whole: bool) -> Iterator[list[bytes]]:
    """Yield the entries of standard input, as many together as are there."""
    if sys.stdin is None:
        raise CometlogError("standard input is closed; give it a file or a pipe to read from")
    if sys.stdin.isatty():
        complain("cometlog append: reading from the terminal; Ctrl-D ends")
    with waiting_for(sys.stdin.fileno()) as wait:
        yield from _entries(wait, whole=whole)


def _entries(wait: Callable[[], None], *, whole: bool) -> Iterator[list[bytes]]:
    pending: list[bytes] = []
    pending_bytes = 0
    while piece := _read(wait):
        head, end, rest = (b"", b"", piece) if whole else piece.rpartition(b"\n")
        if end:
            yield b"".join([*pending, head]).split(b"\n")
            pending, pending_bytes = [], 0
        pending.append(rest)
        pending_bytes += len(rest)
        if pending_bytes > layout.MAX_BATCH_BYTES:
            what = "standard input" if whole else "a line of standard input"
            raise BatchTooLargeError(
                f"{what} has more than {layout.MAX_BATCH_BYTES} bytes, the most an entry can have"
            )
    last = b"".join(pending)
    if last or whole:
        yield [last]


def _read(wait: Callable[[], None]) -> bytes:
    try:
        wait()
        return os.read(sys.stdin.fileno(), READ_BYTES)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard input") from error
