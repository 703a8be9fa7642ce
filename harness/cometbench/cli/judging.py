"""Commands of the judging side: claims, report, validate, readme-numbers, guide-numbers."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import click

from cometbench.checkout import find_checkout
from cometbench.console import make_console, print_run, print_table
from cometbench.errors import CometbenchError
from cometbench.evaluate import result_ids
from cometbench.experiment import load_experiments
from cometbench.guide import write_guide
from cometbench.readme_numbers import update_readme
from cometbench.registry import all_claims
from cometbench.report import write_report
from cometbench.store import load_run
from cometbench.tables import Table, table_claims
from cometbench.validate import validate_tree

RUN_PATH = click.Path(exists=True, file_okay=False, path_type=Path)
EXIT_DIFFERS = 1
Params = ParamSpec("Params")


def register(group: click.Group) -> None:
    """Add this module's commands."""
    for command in (
        claims_command,
        report_command,
        validate_command,
        readme_numbers_command,
        guide_numbers_command,
    ):
        group.add_command(command)


def says_errors(command: Callable[Params, None]) -> Callable[Params, None]:
    """Turn the harness's own errors into one line on stderr and exit code 1."""

    @functools.wraps(command)
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CometbenchError as error:
            raise click.ClickException(str(error)) from error

    return guarded


@click.command("claims")
@click.argument("run_directory", metavar="[RUN]", type=RUN_PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@says_errors
def claims_command(run_directory: Path | None, as_json: bool) -> None:
    """List every claim of the guide; with RUN, with the verdicts of that run."""
    if run_directory is not None:
        results = load_run(run_directory).claims
        if as_json:
            click.echo(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
        else:
            print_table(table_claims(results, "claims", "Claims"), make_console())
        return
    listed = _registry_rows()
    if as_json:
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    columns = ["claim", "kind", "what", "guide", "measured by"]
    rows = [[row["id"], row["kind"], row["title"], row["guide"], row["covered_by"]] for row in listed]
    print_table(
        Table("claims", f"{len(rows)} checks of {len(list(all_claims()))} claims", columns, rows),
        make_console(),
    )


@click.command("report")
@click.argument("run_directory", metavar="RUN", type=RUN_PATH)
@click.option("--quiet", is_flag=True, help="Write the files, print no tables.")
@says_errors
def report_command(run_directory: Path, quiet: bool) -> None:
    """Render report.md, report.html and the figures of a stored RUN again, and print its tables."""
    written = write_report(run_directory, load_experiments(find_checkout()))
    if not quiet:
        print_run(load_run(run_directory), make_console())
    for path in written:
        click.echo(str(path))


@click.command("validate")
@click.argument("results", type=RUN_PATH, required=False)
@says_errors
def validate_command(results: Path | None) -> None:
    """Check every file under RESULTS (results/ by default); exit code 1 when something is wrong."""
    problems = validate_tree(results or find_checkout() / "results")
    for problem in problems:
        click.echo(f"{problem.place}: {problem.message}", err=True)
    if problems:
        sys.exit(EXIT_DIFFERS)
    click.echo("results are valid")


@click.command("readme-numbers")
@click.argument("run_directory", metavar="RUN", type=RUN_PATH)
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when README.md differs from the run.")
@click.option("--readme", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Another file.")
@says_errors
def readme_numbers_command(run_directory: Path, check: bool, readme: Path | None) -> None:
    """Write the numbers of a committed RUN into README.md, between its two markers."""
    target = readme or find_checkout() / "README.md"
    unchanged = update_readme(target, run_directory.resolve(), check=check)
    if check and not unchanged:
        remedy = f"run: cometbench readme-numbers {run_directory}"
        click.echo(f"{target.name} differs from {run_directory.name}; {remedy}", err=True)
        sys.exit(EXIT_DIFFERS)
    click.echo(
        f"{target.name} {'agrees with' if unchanged else 'now holds the numbers of'} {run_directory.name}"
    )


@click.command("guide-numbers")
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), help="Another results folder.")
@says_errors
def guide_numbers_command(results: Path | None) -> None:
    """Write the guide's own numbers as a machine under results/, from the claim registry."""
    click.echo(str(write_guide(results or find_checkout() / "results")))


def _registry_rows() -> list[dict[str, Any]]:
    rows = []
    for section, claim in all_claims():
        for check in claim.check:
            names = [name if isinstance(name, str) else " / ".join(name) for name in check.readings.values()]
            if check.equation is not None:
                covered = f"arithmetic: {check.equation.text}"
            else:
                covered = ", ".join(names) or f"not measured: {check.not_measured or section.not_measured}"
            rows.append(
                {
                    "id": f"{claim.id}.{check.id}",
                    "section": section.id,
                    "title": claim.title,
                    "kind": check.kind,
                    "guide": check.guide,
                    "guide_value": check.guide_value,
                    "unit": check.unit,
                    "results": result_ids(claim, check),
                    "covered_by": covered,
                }
            )
    return rows
