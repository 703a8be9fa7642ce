"""Entries as they are printed: lines, lines with numbers, the bytes alone, or JSON lines."""

import argparse
import base64
import json
from collections.abc import Callable, Iterable
from typing import Any

from cometlog.cli.output import output, unit_of_work
from cometlog.read_batch import Entry

PIECE_BYTES = 1 << 20
"""How much is written at once."""

Format = Callable[[Entry], bytes]


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a form."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--numbers", action="store_true", help="print the entry number and a tab before each entry"
    )
    forms.add_argument(
        "--raw", action="store_true", help="print the bytes alone, with nothing between two entries"
    )
    forms.add_argument(
        "--json", action="store_true",
        help="print JSON lines: stream, number, timestamp_ns, data, and base64: whether data is encoded so",
    )  # fmt: skip


def chosen_format(arguments: argparse.Namespace, *, with_stream: bool = False) -> Format:
    """Return what turns an entry into bytes. ``with_stream`` puts the stream before each line."""
    if arguments.raw:
        return _raw
    if arguments.json:
        return as_json_line
    escape = output().isatty()

    def line(entry: Entry) -> bytes:
        data = _escaped(entry.data) if escape else entry.data
        if arguments.numbers:
            data = b"%d\t%b" % (entry.number, data)
        return (b"%b\t%b\n" % (entry.stream.encode(), data)) if with_stream else data + b"\n"

    return line


def _raw(entry: Entry) -> bytes:
    return entry.data


def _escaped(data: bytes) -> bytes:
    """Return what a terminal shows and does not obey."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(
        letter if letter.isprintable() or letter == "\t" else letter.encode("unicode_escape").decode()
        for letter in text
    ).encode()


def as_dict(entry: Entry) -> dict[str, Any]:
    """Return an entry for JSON and CSV: as text where its bytes are UTF-8, else in base64."""
    try:
        data, encoded = entry.data.decode(), False
    except UnicodeDecodeError:
        data, encoded = base64.b64encode(entry.data).decode(), True
    return {
        "stream": entry.stream, "number": entry.number, "timestamp_ns": entry.timestamp_ns, "data": data, "base64": encoded
    }  # fmt: skip


def as_json_line(entry: Entry) -> bytes:
    """Return an entry as one line of JSON."""
    return json.dumps(as_dict(entry)).encode() + b"\n"


def write_entries(entries: Iterable[Entry], form: Format, count: int) -> int:
    """Print up to ``count`` entries, whole ones only, and return how many."""
    written = 0
    pieces: list[bytes] = []
    size_bytes = 0
    for entry in entries:
        if written == count:
            break
        pieces.append(form(entry))
        size_bytes += len(pieces[-1])
        written += 1
        if size_bytes >= PIECE_BYTES:
            _write(pieces)
            size_bytes = 0
    _write(pieces)
    return written


def _write(pieces: list[bytes]) -> None:
    with unit_of_work():
        output().write_bytes(b"".join(pieces))
        pieces.clear()
