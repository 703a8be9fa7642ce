"""Show the consumer groups of a log and how far behind they are, or set where a group stands.

position: the entry number below which a group has acknowledged everything. lag: how many entry numbers lie between it and the
next that will be appended. A group is known to a shard once it has read there.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from typing import Any

import cometlog
from cometlog.cli import EXIT_DAMAGED, EXIT_SOUND, EXIT_WRONG_USE
from cometlog.cli.arguments import (
    add_config,
    add_json,
    add_path,
    check_owner,
    existing_stream,
    load_config,
    matching_streams,
    some_of,
    whole_number,
)
from cometlog.cli.confirm import is_agreed
from cometlog.cli.output import complain
from cometlog.cli.tables import Column, show
from cometlog.errors import CometlogError
from cometlog.group_offsets import GroupOffsets
from cometlog.names import check_group_name, parse_stream

EXAMPLES = """\
  cometlog groups lag /var/log/app shipper
  cometlog groups reset /var/log/app shipper events:v1:shard:0000 first
"""
LIST = (Column("group"), Column("streams", "count"), Column("lag", "count"))
LAG = (
    Column("group"),
    Column("stream"),
    Column("position", "count"),
    Column("next", "count"),
    Column("lag", "count"),
)
WORDS = ("first", "next")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a group stands in a stream; ``position`` and ``lag`` are None where the position is damaged."""

    group: str
    stream: str
    position: int | None
    next_entry: int
    lag: int | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list groups, in how many streams each is, and its lag in all")
    lag = actions.add_parser("lag", help="show where each group stands in each stream")
    for added in (listing, lag):
        add_path(added)
        if added is lag:
            added.add_argument("group", nargs="?", metavar="GROUP", help="only this group (default: all)")
        added.add_argument(
            "--stream", default="*", metavar="PATTERN", help="only streams that match (default: all)"
        )
        add_json(added)
    reset = actions.add_parser("reset", help="set the entry that a group is given next")
    add_path(reset)
    reset.add_argument("group", metavar="GROUP")
    reset.add_argument("stream", metavar="STREAM")
    reset.add_argument(
        "number", type=_place, metavar="NUMBER", help="the next entry to deliver, or first, or next"
    )
    reset.add_argument("--yes", action="store_true", help="do not ask")
    add_config(reset)
    for added, run_action in ((listing, _list), (lag, _lag), (reset, _reset)):
        added.set_defaults(run_action=run_action)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for and return the exit code."""
    return int(arguments.run_action(arguments))


def _place(text: str) -> int | str:
    if text in WORDS:
        return text
    return whole_number("where a group stands ('first' and 'next' apart)")(text)


def _standings(client: cometlog.Client, streams: list[str]) -> list[Standing]:
    found = []
    for stream in streams:
        try:
            offsets = GroupOffsets(parse_stream(stream).directory(client.path), stream)
        except FileNotFoundError:
            continue
        try:
            lines = offsets.lines()
        finally:
            offsets.close()
        following = client.next_entry(stream) if lines else 0
        for line in lines:
            lag = None if line.position is None else max(0, following - line.position)
            found.append(Standing(line.name, stream, line.position, following, lag))
    return sorted(found, key=lambda standing: (standing.group, standing.stream))


def _looked_at(arguments: argparse.Namespace) -> list[Standing]:
    with cometlog.open(arguments.path, read_only=True) as client:
        return _standings(client, matching_streams(client, arguments.stream))


def _code_for(standings: list[Standing]) -> int:
    damaged = [standing for standing in standings if standing.position is None]
    for standing in damaged:
        complain(
            f"cometlog groups: the position of group {standing.group} in {standing.stream} is damaged; reset it to go on"
        )
    return EXIT_DAMAGED if damaged else EXIT_SOUND


def _list(arguments: argparse.Namespace) -> int:
    standings = _looked_at(arguments)
    groups: dict[str, list[Standing]] = {}
    for standing in standings:
        groups.setdefault(standing.group, []).append(standing)
    rows: list[dict[str, Any]] = [
        {"group": name, "streams": len(places), "lag": sum(place.lag or 0 for place in places)}
        for name, places in groups.items()
    ]
    if arguments.json:
        print(json.dumps({"path": str(arguments.path), "groups": rows}, indent=1))
    else:
        show(LIST, [list(row.values()) for row in rows])
    return _code_for(standings)


def _lag(arguments: argparse.Namespace) -> int:
    standings = _looked_at(arguments)
    if arguments.group is not None:
        _check_known(arguments.group, standings, f"in {arguments.path}")
        standings = [standing for standing in standings if standing.group == arguments.group]
    if arguments.json:
        print(json.dumps({"path": str(arguments.path), "groups": list(map(asdict, standings))}, indent=1))
    else:
        show(LAG, [list(asdict(standing).values()) for standing in standings])
    return _code_for(standings)


def _check_known(group: str, standings: list[Standing], where: str) -> None:
    names = sorted({standing.group for standing in standings})
    if check_group_name(group) not in names:
        there = f"there are {some_of(names)}" if names else "it has none yet"
        raise CometlogError(f"no consumer group {group!r} {where}; {there}")


def _reset(arguments: argparse.Namespace) -> int:
    group: str = arguments.group
    config = load_config(arguments)
    with cometlog.open(arguments.path, read_only=True) as client:
        stream = existing_stream(client, arguments.stream)
        standings = _standings(client, [stream])
        _check_known(group, standings, f"of {stream}")
        places = {"first": client.first_entry(stream), "next": client.next_entry(stream)}
    number: int = places.get(arguments.number, arguments.number)
    if number > places["next"]:
        raise CometlogError(
            f"group {group!r} cannot stand at entry {number} of {stream}: give 0 to {places['next']}, the next to be appended"
        )
    (before,) = (standing.position for standing in standings if standing.group == group)
    question = (
        f"set group {group} in {stream} from entry {'damaged' if before is None else before} to {number}?"
    )
    if not arguments.yes and not is_agreed(question):
        return EXIT_WRONG_USE
    check_owner(arguments.path)
    with cometlog.open(arguments.path, config) as client, client.consumer(group) as consumer:
        consumer.reset(stream, number)
    print(f"group {group} goes on with entry {number} of {stream}")
    return EXIT_SOUND
