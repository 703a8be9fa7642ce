"""Look at a log for a while and say what limits it: CPU, I/O, contention or nothing, with the numbers behind it.

verdict: failing where a sync failed and a shard refuses appends, attention where a live writer stands still or the disk is nearly
full, else ok. Anything but ok is exit code 1.
"""

import argparse
import json
from dataclasses import asdict

import cometlog
from cometlog.cli import EXIT_DAMAGED, EXIT_SOUND
from cometlog.cli.arguments import add_json, add_path, duration_s
from cometlog.cli.tables import Column, Value, show

EXAMPLES = """\
  cometlog health /var/log/app
  cometlog health /var/log/app --window 10 --json
"""
COLOURS = {"ok": "green", "attention": "bold yellow", "failing": "bold red"}
COLUMNS = (Column("finding"), Column("value", colours=COLOURS))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    parser.add_argument(
        "--window", type=duration_s, default=1.0, metavar="SECONDS", help="how long to look (default: 1)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look and return the exit code."""
    with cometlog.open(arguments.path, read_only=True) as client:
        health = client.health(arguments.window)
    if arguments.json:
        report = {
            "path": str(arguments.path),
            "verdict": health.verdict,
            "bottleneck": health.bottleneck,
            "evidence": dict(health.evidence),
            "reasons": list(health.reasons),
            "stalled_writers": list(map(asdict, health.stalled_writers)),
            "poisoned": list(health.poisoned),
            "free_bytes": health.free_bytes,
            "window_s": health.window_s,
        }
        print(json.dumps(report, indent=1))
    else:
        rows: list[tuple[str, Value]] = [
            ("verdict", health.verdict), ("bottleneck", health.bottleneck), ("free_bytes", health.free_bytes), *health.evidence.items()
        ]  # fmt: skip
        show(COLUMNS, rows)
        for reason in health.reasons:
            print(reason)
    return EXIT_SOUND if health.verdict == "ok" else EXIT_DAMAGED
