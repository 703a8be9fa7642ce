"""Read every entry of a log and report every damaged place: stream, entry, file and offset.

Nothing is written and no lock is taken, so it may run beside writers. It goes on behind damage: one run lists all.

Damage is what costs entries. Two things are not: words that writers which died left behind ("waiting": the next writer or recovery
turns them into gaps) and derived files that are not true ("note": they are rebuilt).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cometlog
from cometlog.cli import EXIT_DAMAGED, EXIT_SOUND
from cometlog.cli.arguments import add_json, add_path, matching_streams
from cometlog.names import parse_stream
from cometlog.shard_survey import ShardSurvey, survey_shard

EXAMPLES = """\
  cometlog verify /var/log/app
  cometlog verify /var/log/app --stream 'events:v1:*' --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    parser.add_argument("--stream", default="*", metavar="PATTERN", help="streams to look at (default: all)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify and return the exit code."""
    with cometlog.open(arguments.path, read_only=True) as client:
        streams = matching_streams(client, arguments.stream)
    reports = [survey_shard(parse_stream(name).directory(arguments.path), name) for name in streams]
    damages = sum(len(report.damages) for report in reports)
    if arguments.json:
        print(json.dumps(_as_dict(arguments.path, reports, damages), indent=1))
    else:
        for report in reports:
            _print_report(report)
        print(f"{len(reports)} streams: " + (f"{damages} damaged places" if damages else "sound"))
    return EXIT_DAMAGED if damages else EXIT_SOUND


def _as_dict(path: Path, reports: list[ShardSurvey], damages: int) -> dict[str, Any]:
    return {
        "path": str(path),
        "sound": damages == 0,
        "damaged_places": damages,
        "streams": [report.as_dict() for report in reports],
    }


def _print_report(report: ShardSurvey) -> None:
    print(
        f"{report.stream}: {len(report.segments)} segments, {report.frames} frames, {report.entries} entries"
    )
    for damage in report.damages:
        print(f"  damage: {damage.as_line()}")
    for kind, lines in (
        ("waiting", report.waiting),
        ("in flight", report.in_flight),
        ("note", report.notes),
    ):
        for line in lines:
            print(f"  {kind}: {line}")
