"""Commands of the measuring side: run, list, doctor, machine."""

from __future__ import annotations

import secrets
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from cometbench import doctor as checks
from cometbench.checkout import find_checkout
from cometbench.console import make_console, print_run
from cometbench.errors import CometbenchError, UsageError
from cometbench.experiment import Experiment, choose, load_experiments
from cometbench.machine import fingerprint
from cometbench.profiles import PROFILES, find_profile
from cometbench.progress import RunProgress
from cometbench.report import write_report
from cometbench.session import Finished, Settings, run_experiments
from cometbench.store import ResultsError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def register(group: click.Group) -> None:
    """Add this module's commands."""
    for command in (run, list_experiments, doctor, machine):
        group.add_command(command)


@click.command()
@click.option(
    "--profile", "profile_name", default="quick", show_default=True, help=f"One of {', '.join(PROFILES)}."
)
@click.option(
    "--sections", default="", help="Comma-separated, such as Q,G; all by default. Floors always run."
)
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where logs are written; the file system under test."
)
@click.option(
    "--results", type=click.Path(path_type=Path), help="Results tree; the checkout's results/ by default."
)
@click.option("--seed", type=int, help="Replays payloads and orders; random by default, and stored.")
@click.option(
    "--extra",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    multiple=True,
    help="Directory of further experiments and subjects, as modules; repeatable.",
)
def run(
    *,
    profile_name: str,
    sections: str,
    directory: Path | None,
    results: Path | None,
    seed: int | None,
    extra: tuple[Path, ...],
) -> None:
    """Run experiments and write one run into the results tree."""
    console = make_console()
    try:
        profile = find_profile(profile_name)
        checkout = find_checkout()
        chosen = choose(
            load_experiments(checkout, extra), [name.strip() for name in sections.split(",") if name.strip()]
        )
        settings = Settings(
            profile=profile,
            directory=directory or default_directory(checkout),
            results=results or checkout / "results",
            checkout=checkout,
            seed=seed if seed is not None else secrets.randbelow(1 << 31),
            search_path=extra,
        )
        signal.signal(signal.SIGTERM, _as_interrupt)
        with RunProgress(console) as progress:
            finished = run_experiments(chosen, settings, progress)
    except UsageError as error:
        raise click.exceptions.UsageError(str(error)) from error
    except (CometbenchError, ResultsError) as error:
        raise click.ClickException(str(error)) from error
    _conclude(chosen, finished)


def default_directory(checkout: Path) -> Path:
    """Return the bench directory inside the checkout.

    Which lies on a disk more often than the temporary directory does.
    """
    return checkout / "build" / "bench"


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _conclude(chosen: list[Experiment], finished: Finished) -> None:
    console = make_console()
    print_run(finished.run, console)
    for experiment in chosen:
        for line in experiment.finding(finished.run):
            console.print(f"{experiment.section}: {line}", markup=False, highlight=False, soft_wrap=True)
    write_report(finished.path, {experiment.section: experiment for experiment in chosen})
    console.print(f"Run stored in {finished.path}", markup=False, highlight=False, soft_wrap=True)
    for failure in finished.failures:
        click.echo(f"FAILED {failure}", err=True)
    if finished.interrupted:
        kept = len(finished.run.all_measurements())
        click.echo(
            f"Interrupted: the {kept} measurements that have values are kept; the run is marked unfinished.",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    if finished.failures:
        sys.exit(EXIT_FAILED)


@click.command(name="list")
def list_experiments() -> None:
    """List the experiments: question, method, limitations, number of benchmarks."""
    try:
        experiments = load_experiments(find_checkout())
    except CometbenchError as error:
        raise click.ClickException(str(error)) from error
    for experiment in experiments.values():
        click.echo(f"{experiment.section}: {experiment.title} ({len(experiment.benchmarks)} benchmarks)")
        for name in ("question", "method", "limitations"):
            click.echo(click.wrap_text(f"{name}: {getattr(experiment, name)}", 100, "  ", "    "))


@click.command()
@click.option("--directory", type=click.Path(path_type=Path), help="The bench directory to look at.")
def doctor(directory: Path | None) -> None:
    """Say what can be measured here and what stands in the way.

    Exit code 1 where a run cannot work at all.
    """
    try:
        where = directory or default_directory(find_checkout())
    except CometbenchError as error:
        raise click.ClickException(str(error)) from error
    findings = checks.examine(where)
    for finding in findings:
        click.echo(f"{finding.state:8} {finding.what}: {finding.detail}")
    if any(finding.state == "missing" and finding.required for finding in findings):
        sys.exit(EXIT_FAILED)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The machine record as stored in results/.")
def machine(as_json: bool) -> None:
    """Print this machine's fingerprint: what is stored about it, all of it."""
    record = fingerprint()
    if as_json:
        click.echo(record.model_dump_json(indent=2))
        return
    click.echo(f"{record.machine_id}: {record.label}")
    for name, value in record.hardware.items():
        shown = "; ".join(value) if isinstance(value, list) else value
        click.echo(f"  {name}: {shown}")
