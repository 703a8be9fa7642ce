"""The command line of the log: ``cometlog <command> PATH``.

Each command is a module here with ``HELP``, ``add_arguments(parser)`` and ``run(arguments) -> exit code``; a new one is a file
and a line below. Commands print to standard output, and what went wrong to standard error.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from cometlog.errors import CometlogError

COMMANDS = ("verify", "repair")
EXIT_SOUND, EXIT_DAMAGED, EXIT_WRONG_USE = 0, 1, 2
_EXIT_CODES = "Exit codes: 0 sound, 1 damaged, 2 wrong use, not a log, or a log that cannot be opened."


def build() -> argparse.ArgumentParser:
    """Return the parser with every command; ``arguments.run`` is the function to call."""
    parser = argparse.ArgumentParser(
        prog="cometlog", description="Look after a cometlog directory.", epilog=_EXIT_CODES
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"cometlog.cli.{name}")
        added = commands.add_parser(
            name, help=module.HELP, description=module.__doc__, epilog=_EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        module.add_arguments(added)
        added.set_defaults(run=module.run)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; the ``cometlog`` script and ``python -m cometlog`` end with it."""
    arguments = build().parse_args(words)
    try:
        return int(arguments.run(arguments))
    except (CometlogError, OSError) as error:
        print(f"cometlog {arguments.command}: {error}", file=sys.stderr)
        return EXIT_WRONG_USE
