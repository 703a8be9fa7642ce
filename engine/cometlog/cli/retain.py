"""Remove the oldest segments of a log as limits say: whole segments, never the active one.

Limits come from --config and the options, which go before it. What a consumer group has not acknowledged stays, up to
--forced-shard-size. A shard that another process retains at the moment, or that live processes write by another path than
--write-path, is left to them. --dry-run writes nothing.
"""

import argparse
import json
import time
from dataclasses import asdict

import cometlog
from cometlog.cli import EXIT_SOUND
from cometlog.cli.arguments import (
    add_config,
    add_json,
    add_path,
    check_owner,
    duration_s,
    load_config,
    matching_streams,
    size_bytes,
    whole_number,
)
from cometlog.cli.output import complain
from cometlog.cli.tables import Column, show
from cometlog.config import Config, RetentionConfig
from cometlog.errors import CometlogError
from cometlog.names import parse_stream
from cometlog.retention import RemovedSegment, choose, kept_segments, unconsumed_from
from cometlog.retention_thread import share_excess
from cometlog.write_paths import WRITE_PATHS

EXAMPLES = """\
  cometlog retain /var/log/app --max-age 7d --dry-run
  cometlog retain /var/log/app --stream 'events:v1:*' --max-shard-size 2G --json
"""
COLUMNS = (
    Column("stream"), Column("segment", "count"), Column("first", "count"), Column("last", "count"), Column("size", "bytes"),
    Column("reason"),
)  # fmt: skip
LIMITS = {
    "max_age": "max_age_s", "max_shard_size": "max_shard_bytes", "max_total_size": "max_total_bytes", "min_segments": "min_segments",
    "forced_shard_size": "forced_shard_bytes",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    parser.add_argument(
        "--stream", default="*", metavar="PATTERN", help="streams to look after (default: all)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would go, change nothing")
    parser.add_argument(
        "--max-age", type=duration_s, metavar="TIME", help="segments whose newest entry is older, such as 7d"
    )
    parser.add_argument(
        "--max-shard-size", type=size_bytes, metavar="SIZE", help="size of one shard, such as 2G"
    )
    parser.add_argument("--max-total-size", type=size_bytes, metavar="SIZE", help="size of the whole log")
    parser.add_argument(
        "--min-segments",
        type=whole_number("a count", 1),
        metavar="N",
        help="segments of a shard that always stay (default: 2)",
    )
    parser.add_argument(
        "--forced-shard-size",
        type=size_bytes,
        metavar="SIZE",
        help="size beyond which a group loses what it has not read",
    )
    parser.add_argument(
        "--write-path",
        choices=list(WRITE_PATHS),
        default="mmap",
        help="how live processes write (default: mmap)",
    )
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Remove or plan, and return the exit code."""
    config = _with_limits(load_config(arguments), arguments)
    with cometlog.open(arguments.path, read_only=True) as client:
        streams = matching_streams(client, arguments.stream)
        if not arguments.dry_run:
            check_owner(arguments.path)
        segments = _planned(client, streams, config.retention)
    left: list[RemovedSegment] = []
    if not arguments.dry_run and segments:
        with cometlog.open(arguments.path, config, write_path=arguments.write_path) as client:
            segments = client.retain(arguments.stream)
            left = _planned(client, streams, config.retention)
    _tell(arguments, segments)
    for stream in sorted({segment.stream for segment in left}):
        complain(
            f"cometlog retain: segments of {stream} stay for now: other processes use it, or write it by another path"
        )
    return EXIT_SOUND


def _with_limits(config: Config, arguments: argparse.Namespace) -> Config:
    given = {field: getattr(arguments, option) for option, field in LIMITS.items()}
    limits = {field: value for field, value in given.items() if value is not None}
    # one call: no thread is to run beside it
    config = config.with_changes(retention=limits | {"interval_s": 0.0})
    if not config.retention.has_limit:
        raise CometlogError(
            "no limit was given, so everything stays; give --max-age, --max-shard-size, --max-total-size, "
            "--forced-shard-size, or a --config that has one"
        )
    return config


def _planned(client: cometlog.Client, streams: list[str], limits: RetentionConfig) -> list[RemovedSegment]:
    """Return what the limits condemn now."""
    excess = share_excess(client.path, client.streams(), limits.max_total_bytes)
    planned = []
    for stream in streams:
        directory = parse_stream(stream).directory(client.path)
        condemned = choose(
            kept_segments(directory), limits, now_ns=time.time_ns(), unconsumed=unconsumed_from(directory, stream),
            excess_bytes=excess.get(stream, 0),
        )  # fmt: skip
        planned += [
            RemovedSegment(
                stream, kept.name.number, kept.name.base, kept.next_base or 0, kept.size_bytes, reason
            )
            for kept, reason in condemned
        ]
    return planned


def _tell(arguments: argparse.Namespace, segments: list[RemovedSegment]) -> None:
    total_bytes = sum(segment.size_bytes for segment in segments)
    if arguments.json:
        report = {"path": str(arguments.path), "dry_run": arguments.dry_run, "size_bytes": total_bytes}
        print(json.dumps(report | {"segments": list(map(asdict, segments))}, indent=1))
        return
    rows = [
        (item.stream, item.number, item.first_entry, item.next_entry - 1, item.size_bytes, item.reason)
        for item in segments
    ]
    if rows:
        show(COLUMNS, rows)
    done = "would be removed" if arguments.dry_run else "removed"
    complain(f"cometlog retain: {len(segments)} segments, {total_bytes} bytes {done}")
