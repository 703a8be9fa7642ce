"""Commands of the judging side: claims, report, validate, readme-numbers, findings, guide-numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from cometbench.checkout import find_checkout
from cometbench.cli.outcomes import EXIT_DIFFERS, says_errors
from cometbench.console import make_console, print_run, print_table
from cometbench.errors import UsageError
from cometbench.evaluate import result_ids
from cometbench.experiment import load_experiments
from cometbench.findings_page import findings_page, update_page
from cometbench.guide import write_guide
from cometbench.readme_numbers import update_readme
from cometbench.registry import all_claims
from cometbench.report import write_report
from cometbench.store import MACHINE_FILE, load_machine, load_run
from cometbench.tables import Table, table_claims
from cometbench.validate import validate_tree

RUN_PATH = click.Path(exists=True, file_okay=False, path_type=Path)


def register(group: click.Group) -> None:
    """Add this module's commands."""
    for command in (
        claims_command,
        report_command,
        validate_command,
        readme_numbers_command,
        findings_command,
        guide_numbers_command,
    ):
        group.add_command(command)


@click.command("claims", short_help="List every claim of the guide, or a run's verdicts.")
@click.argument("run_directory", metavar="[RUN]", type=RUN_PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@says_errors
def claims_command(run_directory: Path | None, as_json: bool) -> None:
    """List every claim of the guide; with RUN, a folder under results/, with the verdicts of that run.

    Verdicts: reproduced, exceeded, direction only, not reproduced, inconclusive (the interval or the noise is too wide), not measured
    (with the reason), arithmetic error (the guide contradicts itself).

    Exit codes: 0 printed, 1 RUN cannot be read, 2 wrong use.
    """
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


@click.command("report", short_help="Render the report of a stored run again.")
@click.argument("run_directory", metavar="RUN", type=RUN_PATH)
@click.option("--quiet", is_flag=True, help="Write the files, print no tables.")
@says_errors
def report_command(run_directory: Path, quiet: bool) -> None:
    """Render report.md, report.html and the figures of a stored RUN again, and print its tables.

    RUN is a folder under results/. Nothing is measured; the chapter across hardware takes in the machines that have come since.

    Exit codes: 0 written, 1 RUN cannot be read or written, 2 wrong use.
    """
    written = write_report(run_directory, load_experiments(find_checkout()))
    if not quiet:
        print_run(load_run(run_directory), make_console())
    for path in written:
        click.echo(str(path))


@click.command("validate", short_help="Check every file of a results tree.")
@click.argument("results", type=RUN_PATH, required=False)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the problems as JSON, an empty list where there are none."
)
@says_errors
def validate_command(results: Path | None, as_json: bool) -> None:
    """Check every file under RESULTS (results/ by default): schema, names, samples, claims, private text.

    Exit codes: 0 valid, 1 something is wrong (one line each on standard error), 2 wrong use.
    """
    tree = results or find_checkout() / "results"
    machines = (
        [folder for folder in tree.iterdir() if (folder / MACHINE_FILE).exists()] if tree.is_dir() else []
    )
    if results is not None and not machines:
        raise UsageError(
            f"{tree} holds no machine's folder: give a results tree, <tree>/<machine>/{MACHINE_FILE}"
        )
    problems = validate_tree(tree)
    if as_json:
        click.echo(json.dumps([problem._asdict() for problem in problems], indent=2))
    else:
        for problem in problems:
            click.echo(f"{problem.place}: {problem.message}", err=True)
    if problems:
        sys.exit(EXIT_DIFFERS)
    if not as_json:
        runs = sum(entry.is_dir() for machine in machines for entry in machine.iterdir())
        click.echo(f"results are valid: {len(machines)} machines, {runs} runs")


@click.command("readme-numbers", short_help="Write the numbers of a run into README.md.")
@click.argument("run_directory", metavar="RUN", type=RUN_PATH)
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when README.md differs from the run.")
@click.option("--readme", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Another file.")
@says_errors
def readme_numbers_command(run_directory: Path, check: bool, readme: Path | None) -> None:
    """Write the numbers of a committed RUN into README.md, between its two markers.

    Exit codes: 0 written or in agreement, 1 RUN cannot be read or --check found a difference, 2 wrong use.
    """
    target = readme or find_checkout() / "README.md"
    unchanged = update_readme(target, run_directory.resolve(), check=check)
    if check and not unchanged:
        remedy = f"run: cometbench readme-numbers {run_directory}"
        click.echo(f"{target.name} differs from {run_directory.name}; {remedy}", err=True)
        sys.exit(EXIT_DIFFERS)
    click.echo(
        f"{target.name} {'agrees with' if unchanged else 'now holds the numbers of'} {run_directory.name}"
    )


@click.command("findings", short_help="Say in words what a run found about the guide.")
@click.argument("run_directory", metavar="RUN", type=RUN_PATH)
@click.option("--write", is_flag=True, help="Write docs/findings.md instead of printing it.")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when the page differs from the run.")
@click.option(
    "--page", type=click.Path(dir_okay=False, path_type=Path), help="Another file than docs/findings.md."
)
@says_errors
def findings_command(run_directory: Path, write: bool, check: bool, page: Path | None) -> None:
    """Say in words what a committed RUN found about the guide: what holds, what does not, what replaces it.

    Exit codes: 0 printed, written or in agreement, 1 RUN cannot be read or --check found a difference, 2 wrong use.
    """
    run_directory = run_directory.resolve()
    if not write and not check:
        click.echo(findings_page(load_run(run_directory), load_machine(run_directory.parent)), nl=False)
        return
    target = page or find_checkout() / "docs" / "findings.md"
    unchanged = update_page(target, run_directory, check=check)
    if check and not unchanged:
        click.echo(
            f"{target.name} differs from {run_directory.name}; run: cometbench findings {run_directory} --write",
            err=True,
        )
        sys.exit(EXIT_DIFFERS)
    click.echo(
        f"{target.name} {'agrees with' if unchanged else 'now says what'} {run_directory.name}{'' if unchanged else ' found'}"
    )


@click.command("guide-numbers", short_help="Write the guide's own numbers as a machine.")
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
