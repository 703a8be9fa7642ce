"""Commands on runs of other times and machines: compare, import."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cometbench.checkout import find_checkout
from cometbench.cli.judging import RUN_PATH
from cometbench.cli.outcomes import EXIT_DIFFERS, says_errors
from cometbench.compare import compare_runs, table_compared
from cometbench.console import make_console, print_table
from cometbench.importing import import_results
from cometbench.store import load_run


def register(group: click.Group) -> None:
    """Add this module's commands."""
    group.add_command(compare_command)
    group.add_command(import_command)


@click.command("compare", short_help="Say what became faster or slower between two runs.")
@click.argument("first", metavar="A", type=RUN_PATH)
@click.argument("second", metavar="B", type=RUN_PATH)
@click.option("--only", default="*", metavar="PATTERN", help="Measurements to compare, such as 'Q.*mmap*'.")
@click.option("--fail-if-slower", is_flag=True, help="Exit code 1 when anything became slower.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@says_errors
def compare_command(first: Path, second: Path, only: str, fail_if_slower: bool, as_json: bool) -> None:
    """Say what became faster or slower from run A to run B, on one machine or on two.

    Each side is first expressed in multiples of a machine floor of the same rounds (timer, system call, sync
    or memory), which removes what drifted between the runs; then B is divided by A. A verdict needs 5 rounds,
    an interval that excludes 1, and an effect beyond the noise of both runs' A/A controls. Different durability, for
    example a disk and memory, gets no verdict.

    Exit codes: 0 compared, 1 a run cannot be read or --fail-if-slower found one, 2 wrong use.
    """
    runs = load_run(first), load_run(second)
    compared = compare_runs(*runs, only)
    if not compared:
        raise click.UsageError(f"no measurement of either run matches {only!r}")
    if as_json:
        click.echo(json.dumps([one._asdict() for one in compared], indent=2, default=list))
    else:
        print_table(table_compared(*runs, compared), make_console())
    if fail_if_slower and any(one.change == "slower" for one in compared):
        sys.exit(EXIT_DIFFERS)


@click.command("import", short_help="Take in runs of another machine.")
@click.argument("source", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), help="Another results folder.")
@says_errors
def import_command(source: Path, results: Path | None) -> None:
    """Take runs of another machine into results/: a machine's folder, or a .tar.gz or .zip of it.

    Everything is validated before anything is copied. Runs that are here already must be identical, and no run
    is ever overwritten. The folders of new runs are printed, nothing where all are here.

    Exit codes: 0 taken in, 1 something is wrong with it, 2 wrong use.
    """
    for path in import_results(source, results or find_checkout() / "results"):
        click.echo(str(path))
