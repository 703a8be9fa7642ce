"""The command line of the log: ``cometlog <command> PATH``.

Each command is a module here with ``EXAMPLES``, ``add_arguments(parser)`` and ``run(arguments) -> exit code``; a new one is a file
and a line below. Only the module of the command that was asked for is imported. Commands print to standard output, and what went
wrong to standard error.
"""

import argparse
import importlib
import keyword
import sys
from collections.abc import Sequence
from typing import NoReturn

import cometlog
from cometlog.cli.output import OutputError, complain, standard_output
from cometlog.errors import CometlogError, CorruptionError

COMMANDS = {
    "ls": "list streams: entries, bytes, segments, first and next entry, age",
    "stat": "show the counters of every shard, what is durable, and writers that stand still",
    "cat": "print the entries of a stream",
    "tail": "print the last entries of streams, and follow them",
    "append": "append what standard input holds to a stream",
    "export": "write a stream as JSON lines, CSV, Arrow or Parquet",
    "forward": "forward streams to Kafka or NATS, and follow them",
    "import": "append what Kafka or NATS has to a stream",
    "groups": "show consumer groups and their lag, set where one stands",
    "retain": "remove old segments as limits say",
    "train-dictionary": "train a compression dictionary on the entries of a stream",
    "slo": "judge a log by the guide's service levels",
    "health": "look at a log for a while and say what limits it",
    "verify": "read everything and report every damaged place",
    "repair": "make a damaged shard sound again, keeping the original aside",
}
EXIT_SOUND, EXIT_DAMAGED, EXIT_WRONG_USE, EXIT_NO_OUTPUT = 0, 1, 2, 3
EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 130, 141
EXIT_CODES = (
    "Exit codes: 0 sound, 1 damaged, 2 wrong use, or what was asked cannot be done (standard error says why), 3 standard output is "
    "full or closed, 130 interrupted, 141 whoever read the output has left."
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the words in one line."""

    def error(self, message: str) -> NoReturn:
        complain(f"{self.prog}: {message}; see {self.prog} --help")
        self.exit(EXIT_WRONG_USE)


class _Form(argparse.HelpFormatter):
    """Fits paragraphs to the terminal and leaves indented ones, the examples, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(
            paragraph if "\n  " in paragraph else super(_Form, self)._fill_text(paragraph, width, indent)
            for paragraph in paragraphs
        )


def module_name(command: str) -> str:
    """Return the name of a command's module here; a word of Python has an underscore behind it."""
    return f"{command}_" if keyword.iskeyword(command) else command.replace("-", "_")


def build(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser for some words; ``arguments.run`` is then the function to call."""
    parser = _Parser(
        prog="cometlog", description="Look into a cometlog directory, and look after it.", formatter_class=_Form,
        epilog=f"`cometlog COMMAND --help` says what a command takes, with examples.\n\n{EXIT_CODES}",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"cometlog {cometlog.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        if name not in words[:1]:
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f"cometlog.cli.{module_name(name)}")
        added = commands.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=_Form,
            epilog=f"Examples:\n{module.EXAMPLES}\n{EXIT_CODES}",
        )  # fmt: skip
        module.add_arguments(added)
        added.set_defaults(run=module.run)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; the ``cometlog`` script and ``python -m cometlog`` end with it."""
    given = sys.argv[1:] if words is None else words
    name = " ".join(["cometlog", *(word for word in given[:1] if word in COMMANDS)])
    try:
        with standard_output():
            arguments = build(given).parse_args(given)
            return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OutputError as error:
        if error.is_broken_pipe:
            return EXIT_BROKEN_PIPE
        complain(f"{name}: {error}")
        return EXIT_NO_OUTPUT
    except (CometlogError, OSError) as error:
        complain(f"{name}: {_in_words(error)}")
        return EXIT_DAMAGED if isinstance(error, CorruptionError) else EXIT_WRONG_USE


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
