"""List the streams of a log, and how much each holds.

entries: how many can be read (numbers that appends burnt which died are not counted). size: length of the segment files, which is
what retention counts. first, next: the first entry that is kept, and the number that the next one gets. oldest, newest: how long
ago the first and the last entry were appended.
"""

import argparse
import json
import time
from typing import Any

import cometlog
from cometlog.cli import EXIT_DAMAGED, EXIT_SOUND
from cometlog.cli.arguments import add_json, add_path, add_pattern, matching_streams
from cometlog.cli.output import complain
from cometlog.cli.tables import Column, show
from cometlog.errors import CorruptionError
from cometlog.names import parse_stream
from cometlog.retention import kept_segments

EXAMPLES = """\
  cometlog ls /var/log/app
  cometlog ls /var/log/app 'events:v1:*' --json
"""
COLUMNS = (
    Column("stream"), Column("entries", "count"), Column("size", "bytes"), Column("segments", "count"), Column("first", "count"),
    Column("next", "count"), Column("oldest", "seconds"), Column("newest", "seconds"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    add_pattern(parser, "streams to list, such as 'events:v1:*'")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List and return the exit code; a damaged stream does not keep the others from being listed."""
    rows: list[dict[str, Any]] = []
    code = EXIT_SOUND
    with cometlog.open(arguments.path, read_only=True) as client:
        for stream in matching_streams(client, arguments.pattern):
            try:
                rows.append(_row(client, stream))
            except CorruptionError as error:
                code = EXIT_DAMAGED
                rows.append({"stream": stream, "damage": str(error)})
                complain(f"cometlog ls: {error}")
    if arguments.json:
        print(json.dumps({"path": str(arguments.path), "streams": rows}, indent=1))
    else:
        show(COLUMNS, [_cells(row) for row in rows])
    return code


def _row(client: cometlog.Client, stream: str) -> dict[str, Any]:
    segments = kept_segments(parse_stream(stream).directory(client.path))
    oldest, newest = client.read(stream, 0, 1), client.recent(stream, 1)
    return {
        "stream": stream,
        "entries": client.entry_count(stream),
        "size_bytes": sum(segment.size_bytes for segment in segments),
        "segments": len(segments),
        "first_entry": client.first_entry(stream),
        "next_entry": client.next_entry(stream),
        "oldest_timestamp_ns": oldest.timestamps_ns[0] if len(oldest) else None,
        "newest_timestamp_ns": newest.timestamps_ns[0] if len(newest) else None,
    }


def _cells(row: dict[str, Any]) -> list[str | int | float | None]:
    now_ns = time.time_ns()

    def age_s(key: str) -> float | None:
        return None if row.get(key) is None else max(0, now_ns - row[key]) / 1e9

    names = ("stream", "entries", "size_bytes", "segments", "first_entry", "next_entry")
    return [*(row.get(name) for name in names), age_s("oldest_timestamp_ns"), age_s("newest_timestamp_ns")]
