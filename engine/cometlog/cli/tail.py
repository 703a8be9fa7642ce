"""Print the last entries of the streams that match, and with --follow each new one as it comes.

Where PATTERN is not the name of one stream, each line begins with the stream's name and a tab. Shards that appear later are followed
from their first entry. Nothing is polled: the command sleeps until a writer of any process wakes it, for which it sets one flag in
each shard's control file and nothing else; where it may not write there, it looks every few milliseconds, and ten times a second
when nothing comes.
"""

import argparse
import time
from contextlib import closing

import cometlog
from cometlog.cli import EXIT_SOUND
from cometlog.cli.arguments import (
    add_path,
    add_pattern,
    existing_stream,
    is_stream_name,
    matching_streams,
    whole_number,
)
from cometlog.cli.entries import Format, add_format, chosen_format, write_entries
from cometlog.cli.output import output
from cometlog.errors import EntryNotFoundError
from cometlog.names import parse_stream
from cometlog.sleeper import POLL_S, Sleeper

EXAMPLES = """\
  cometlog tail /var/log/app events:v1:shard:0000 -n 20
  cometlog tail /var/log/app 'events:v1:*' --follow --json
"""
BATCH_ENTRIES = 1000
DISCOVERY_S = 1.0
"""How often new streams are looked for, and whether somebody still reads the output."""
PAUSE_S_MAX = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    add_pattern(parser, "a stream, or streams such as 'events:v1:*'")
    parser.add_argument(
        "-n",
        "--lines",
        type=whole_number("a count"),
        default=10,
        metavar="N",
        help="the last N entries of each (default: 10)",
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is appended, until Ctrl-C"
    )
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print, follow, and return the exit code."""
    pattern: str = arguments.pattern
    form = chosen_format(arguments, with_stream=not is_stream_name(pattern))
    with cometlog.open(arguments.path, read_only=True) as client:
        if is_stream_name(pattern):
            existing_stream(client, pattern)
        elif not arguments.follow:
            matching_streams(client, pattern)
        following: dict[str, int] = {}
        for stream in client.streams(pattern):
            batch = client.recent(stream, arguments.lines)
            write_entries(batch.each(), form, len(batch))
            following[stream] = batch.next_entry
        if arguments.follow:
            with closing(Sleeper(may_write=True)) as sleeper:
                _follow(client, sleeper, pattern, following, form)
    return EXIT_SOUND


def _follow(
    client: cometlog.Client, sleeper: Sleeper, pattern: str, following: dict[str, int], form: Format
) -> None:
    """Print what comes, for ever. ``following``: the entry to go on with in each stream."""
    look_s, pause_s = 0.0, POLL_S
    while True:
        ticket = sleeper.ticket()
        if time.monotonic() >= look_s:
            for stream in client.streams(pattern):
                following.setdefault(stream, 0)
            output().check_reader()
            look_s = time.monotonic() + DISCOVERY_S
        if sum([_print_new(client, stream, following, form) for stream in following]):
            pause_s = POLL_S
            continue
        output().flush()
        began_s = time.monotonic()
        directories = [parse_stream(stream).directory(client.path) for stream in following]
        sleeper.sleep(directories, ticket, max(0.0, look_s - began_s), lambda: _has_new(client, following))
        if time.monotonic() - began_s < pause_s and not _has_new(client, following):
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)


def _print_new(client: cometlog.Client, stream: str, following: dict[str, int], form: Format) -> int:
    try:
        batch = client.read(stream, following[stream], BATCH_ENTRIES)
    except EntryNotFoundError:
        first = client.first_entry(stream)
        if first <= following[stream]:
            raise
        batch = client.read(stream, first, BATCH_ENTRIES)  # retention was faster
    written = write_entries(batch.each(), form, len(batch))
    following[stream] = batch.next_entry
    return written


def _has_new(client: cometlog.Client, following: dict[str, int]) -> bool:
    try:
        return any(len(client.read(stream, start, 1)) for stream, start in following.items())
    except EntryNotFoundError:
        return True  # for the next read to meet
