"""Print the entries of a stream, each followed by a line end, from the first that is kept to the last there is now.

On a terminal, characters that it would obey are shown as escapes; into a pipe or a file the bytes go as they are. An entry may hold
line ends: --json says where each begins and ends.
"""

import argparse

import cometlog
from cometlog.cli import EXIT_SOUND
from cometlog.cli.arguments import add_path
from cometlog.cli.entries import add_format, chosen_format, write_entries
from cometlog.cli.spans import add_span, batches, chosen_span

EXAMPLES = """\
  cometlog cat /var/log/app events:v1:shard:0000 --since 15m --numbers
  cometlog cat /var/log/app events:v1:shard:0000 --start 1000 --count 10 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    add_span(parser)
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print and return the exit code."""
    form = chosen_format(arguments)
    with cometlog.open(arguments.path, read_only=True) as client:
        span = chosen_span(client, arguments)
        missing = span.count
        for batch in batches(client, span):
            missing -= write_entries(batch.each(), form, missing)
    return EXIT_SOUND
