"""Show what all processes have done to a log since its shards' control files were made: in sum, and by shard.

entries and size: what was appended, headers included. durable: the entry number below which everything survives power loss.
path: how the shard was written last. state: failed-sync where a shard takes no more appends until it is opened alone. --json has
every counter of every shard, and its latencies. Writers that did not move for a tenth of a second are listed: a live one that stands
still needs looking after, a dead one costs nothing.
"""

import argparse
import json
import time
from dataclasses import asdict
from typing import Any

import cometlog
from cometlog.cli import EXIT_SOUND
from cometlog.cli.arguments import add_json, add_path, add_pattern, duration_s, matching_streams
from cometlog.cli.output import output
from cometlog.cli.tables import Column, is_drawn, show
from cometlog.statistics import ShardStatistics, StalledWriter

EXAMPLES = """\
  cometlog stat /var/log/app
  cometlog stat /var/log/app 'events:v1:*' --watch 5
"""
SUM = (Column("counter"), Column("total", "count"))
SHARDS = (
    Column("stream"), Column("entries", "count"), Column("size", "bytes"),
    Column("durable", "count"), Column("next", "count"), Column("path"), Column("state", colours={"failed-sync": "bold red"}),
)  # fmt: skip
STALLED = (
    Column("stalled"), Column("pid", "count"), Column("owner", colours={"live": "bold red"}), Column("doing"),
    Column("segment", "count"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    add_pattern(parser, "streams to look at, such as 'events:v1:*'")
    parser.add_argument(
        "--watch",
        type=duration_s,
        metavar="SECONDS",
        help="look again and again; with --json one line each time",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show and return the exit code."""
    with cometlog.open(arguments.path, read_only=True) as client:
        while True:
            _look(client, arguments)
            if arguments.watch is None:
                return EXIT_SOUND
            output().flush()
            time.sleep(arguments.watch)
            output().check_reader()


def _look(client: cometlog.Client, arguments: argparse.Namespace) -> None:
    streams = matching_streams(client, arguments.pattern)
    statistics = client.stats()
    shards = {stream: statistics[stream] for stream in streams if stream in statistics}
    following = {stream: client.next_entry(stream) for stream in shards}
    stalled = [writer for writer in client.stalled_writers() if writer.stream in shards]
    if arguments.json:
        report = {
            "path": str(client.path),
            "time_ns": time.time_ns(),
            "total": _sum(list(shards.values())),
            "streams": [
                {"stream": stream, "next_entry": following[stream]} | _as_dict(counters)
                for stream, counters in shards.items()
            ],
            "stalled_writers": list(map(asdict, stalled)),
        }
        print(json.dumps(report, indent=None if arguments.watch else 1))
        return
    if arguments.watch and is_drawn():
        print("\x1b[H\x1b[2J", end="")
    show(SUM, list(_sum(list(shards.values())).items()), "All shards")
    print()
    show(SHARDS, [_row(stream, shards[stream], following[stream]) for stream in shards], "By shard")
    if stalled:
        print()
        show(STALLED, [_stalled_row(writer) for writer in stalled], "Writers that stand still")
    if arguments.watch and not is_drawn():
        print()


def _sum(shards: list[ShardStatistics]) -> dict[str, Any]:
    """Return the sums of the counters; positions and states have none."""
    counters = [
        name for name, value in asdict(ShardStatistics()).items()
        if isinstance(value, int) and not isinstance(value, bool) and name != "durable_entry"
    ]  # fmt: skip
    return {"shards": len(shards)} | {
        name: sum(getattr(shard, name) for shard in shards) for name in counters
    }


def _as_dict(shard: ShardStatistics) -> dict[str, Any]:
    """Return the counters as they are, and of each latency histogram what it says."""
    return asdict(shard) | {
        name: {
            "samples": histogram.sample_count,
            "mean_ns": histogram.mean_ns,
            "p50_ns": histogram.percentile_ns(50),
            "p99_ns": histogram.percentile_ns(99),
            "max_ns": histogram.max_ns,
        }
        for name, histogram in (("latency", shard.latency), ("latency_shared", shard.latency_shared))
    }


def _row(stream: str, shard: ShardStatistics, following: int) -> list[Any]:
    state = "failed-sync" if shard.poisoned else "sound"
    return [
        stream, shard.entries, shard.bytes, shard.durable_entry, following, shard.write_path, state
    ]  # fmt: skip


def _stalled_row(writer: StalledWriter) -> list[Any]:
    owner = "live" if writer.alive else "dead"
    return [writer.stream, writer.pid, owner, writer.state, writer.segment]
