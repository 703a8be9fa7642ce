"""The command line.

Exit codes: 0 all is well, 1 a benchmark or check failed, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import importlib

import click

from cometbench import __version__

# Each of these modules registers its commands on the group when `register(group)` is called.
_COMMAND_MODULES = ("cometbench.cli.measuring", "cometbench.cli.judging")


def build() -> click.Group:
    """Return the command group with every module's commands."""

    @click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
    @click.version_option(__version__, prog_name="cometbench")
    def group() -> None:
        """Measure cometlog, verify what was written, and set the guide's numbers beside the measured ones."""

    for name in _COMMAND_MODULES:
        importlib.import_module(name).register(group)
    return group


def main() -> None:
    """Entry point of the `cometbench` script."""
    build()(prog_name="cometbench")
