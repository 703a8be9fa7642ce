"""The command line.

Exit codes: 0 all is well, 1 a benchmark or check failed, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys

import click

from cometbench import __version__
from cometbench.cli.outcomes import EXIT_INTERRUPTED

# Each of these modules registers its commands on the group when `register(group)` is called.
_COMMAND_MODULES = tuple(
    f"cometbench.cli.{name}"
    for name in ("measuring", "loading", "alternatives", "profiling", "tuning", "judging", "comparing")
)


def build() -> click.Group:
    """Return the command group with every module's commands."""

    @click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
    @click.version_option(__version__, prog_name="cometbench")
    def group() -> None:
        """Measure cometlog, verify what was written, and set the guide's numbers beside the measured ones.

        Begin with `cometbench doctor`, which says what this machine allows, and `cometbench run`. What is measured lands in
        results/<machine>/<run>/; RUN is such a folder everywhere.

        Exit codes of every command: 0 all is well, 1 a benchmark or check failed, 2 wrong use, 130 interrupted.
        """

    for name in _COMMAND_MODULES:
        importlib.import_module(name).register(group)
    return group


def main() -> None:
    """Entry point of the `cometbench` script. Ctrl-C while its modules load ends it like any other."""
    try:
        build()(prog_name="cometbench")
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
