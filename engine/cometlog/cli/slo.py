"""Judge a log by the guide's seven service levels, from what all its processes have counted.

A value on the good side of `good` is good, of `acceptable` acceptable; anything else is to be investigated, and is exit code 1.
unknown: too little was counted; the reason says what is needed.
"""

import argparse
import json
from dataclasses import asdict

import cometlog
from cometlog.cli import EXIT_DAMAGED, EXIT_SOUND
from cometlog.cli.arguments import add_json, add_path
from cometlog.cli.tables import Column, show

EXAMPLES = """\
  cometlog slo /var/log/app
  cometlog slo /var/log/app --json
"""
COLOURS = {"good": "green", "acceptable": "yellow", "investigate": "bold red", "unknown": "dim"}
COLUMNS = (
    Column("id"), Column("metric"), Column("value", "count"), Column("unit"), Column("good", "count"), Column("acceptable", "count"),
    Column("verdict", colours=COLOURS), Column("reason"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Judge and return the exit code."""
    with cometlog.open(arguments.path, read_only=True) as client:
        rows = client.slo()
    if arguments.json:
        print(json.dumps({"path": str(arguments.path), "rows": list(map(asdict, rows))}, indent=1))
    else:
        show(COLUMNS, [list(asdict(row).values()) for row in rows])
    return EXIT_DAMAGED if any(row.verdict == "investigate" for row in rows) else EXIT_SOUND
