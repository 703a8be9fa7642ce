"""The command that sets the engine beside other systems: section A."""

from __future__ import annotations

from typing import Any

import click

from cometbench.alternatives import missing
from cometbench.cli.measuring import measure, run_options
from cometbench.cli.outcomes import says_errors
from cometbench.experiment import Experiment
from cometbench.model import Run


def register(group: click.Group) -> None:
    """Add this module's command."""
    group.add_command(alternatives)


@click.command(short_help="Measure the engine beside other systems: section A.")
@click.option(
    "--sections", default="A", show_default=True, help="Comma-separated; others may run beside A, all for ''."
)
@click.option(
    "--require",
    default="",
    help="Comma-separated systems, such as kafka,redis: each that was not measured fails the run.",
)
@run_options
@says_errors
def alternatives(sections: str, require: str, **options: Any) -> None:
    """Measure the engine beside raw files, SQLite, LMDB, RocksDB, Redis, NATS and Kafka.

    A system that is not installed is a row with the command that installs it. Servers are started on free loopback ports
    with their data under the bench directory, and stopped; --kafka takes a broker that runs already. Rows are compared
    within one class of durability only.

    Exit codes: 0 all measured, 1 a benchmark failed or a system of --require is missing, 2 wrong use, 130 interrupted.
    """
    required = [name.strip() for name in require.split(",") if name.strip()]

    def judge(_chosen: list[Experiment], run: Run) -> list[str]:
        return missing(run, required)

    measure(sections, **options, judge=judge)
