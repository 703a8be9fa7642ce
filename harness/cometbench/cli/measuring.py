"""Commands of the measuring side: run, list, doctor, machine."""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cometbench import doctor as checks
from cometbench.checkout import find_checkout
from cometbench.cli.outcomes import EXIT_FAILED, EXIT_INTERRUPTED, interruptible, says_errors
from cometbench.console import make_console, print_run
from cometbench.errors import UsageError
from cometbench.experiment import Experiment, choose, load_experiments
from cometbench.machine import fingerprint
from cometbench.model import Run
from cometbench.payload import PREFIX, use_payload
from cometbench.profiles import PROFILES, find_profile
from cometbench.progress import RunProgress
from cometbench.registry import use_claims_of
from cometbench.report import write_report
from cometbench.services.shared import KAFKA
from cometbench.session import Finished, Settings, run_experiments
from cometbench.store import load_run

_ADDRESS = re.compile(r"[^\s:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")
_WORDS = ("question", "method", "limitations")

_RUN_OPTIONS = (
    click.option(
        "--profile", "profile_name", default="quick", show_default=True, help=f"One of {', '.join(PROFILES)}."
    ),
    click.option(
        "--directory",
        type=click.Path(path_type=Path, resolve_path=True),
        help="Where logs are written; the file system under test.",
    ),
    click.option(
        "--results", type=click.Path(path_type=Path), help="Results tree; the checkout's results/ by default."
    ),
    click.option(
        "--payload",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Your own entries, one a line (JSON lines or any text), instead of the guide's.",
    ),
    click.option("--seed", type=int, help="Replays payloads and orders; random by default, and stored."),
    click.option(
        "--resume",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        metavar="RUN",
        help="Go on with an interrupted run, its folder under results/; profile, sections and seed are its own.",
    ),
    click.option(
        "--extra",
        type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
        multiple=True,
        help="Directory of further experiments, subjects, workloads and write paths (modules) and claims (TOML); repeatable.",
    ),
    click.option(
        "--kafka", metavar="HOST:PORT", help="A Kafka broker that runs already; one is started by default."
    ),
)


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every command that measures has, but for the choice of sections."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


def register(group: click.Group) -> None:
    """Add this module's commands."""
    for command in (run, list_experiments, doctor, machine):
        group.add_command(command)


@click.command()
@click.option(
    "--sections",
    default="",
    help="Comma-separated, such as Q,G; by default all, with profile quick the guide's main tables. Floors and controls always run.",
)
@run_options
@says_errors
def run(sections: str, **options: Any) -> None:
    """Run experiments and write one run into the results tree.

    It says first what it will measure, then where it stands and how long the rest takes. Every log is read back, and a
    benchmark whose log differs fails. Ctrl-C keeps what has finished; `--resume` goes on with it.

    \b
    cometbench run                                        the guide's main tables, in minutes
    cometbench run --sections Q,C --profile full          two sections, for publication
    cometbench run --directory /dev/shm/bench             the same in memory: a file system of its own among the results
    cometbench run --payload mine.jsonl --sections Q      your own entries

    Exit codes: 0 all measured, 1 a benchmark failed or the results cannot be written, 2 wrong use, 130 interrupted.
    """  # noqa: D301 (click keeps the lines of a paragraph that begins with a backspace)
    measure(sections, **options)


def measure(
    sections: str,
    *,
    profile_name: str,
    directory: Path | None,
    results: Path | None,
    payload: Path | None,
    seed: int | None,
    resume: Path | None,
    extra: tuple[Path, ...],
    kafka: str | None,
    judge: Callable[[list[Experiment], Run], list[str]] = lambda _chosen, _run: [],
) -> None:
    """Do what `run` says, with the options of `run_options`; what `judge` finds missing in the run fails it too."""
    console = make_console()
    if kafka is not None and not _ADDRESS.fullmatch(kafka):
        raise UsageError(f"--kafka is HOST:PORT, such as 127.0.0.1:9092, got {kafka!r}")
    use_claims_of(extra)
    if resume is not None:
        profile_name, sections, seed = _begun(resume, payload)
    profile = find_profile(profile_name)
    checkout = find_checkout()
    chosen = choose(
        load_experiments(checkout, extra),
        [name.strip() for name in sections.split(",") if name.strip()] or profile.sections,
    )
    if payload is not None:
        workload = use_payload(payload)
        chosen = [experiment.with_workload(workload) for experiment in chosen]
    settings = Settings(
        profile=profile,
        directory=directory or default_directory(checkout),
        results=results or checkout / "results",
        checkout=checkout,
        seed=seed if seed is not None else secrets.randbelow(1 << 31),
        search_path=extra,
        resume=resume,
        servers={KAFKA: kafka} if kafka else {},
    )
    with interruptible(), RunProgress(console) as progress:
        finished = run_experiments(chosen, settings, progress)
    finished.failures += judge(chosen, finished.run)
    _conclude(chosen, finished)


def _begun(run_directory: Path, payload: Path | None) -> tuple[str, str, int]:
    """Return profile, sections and seed of an interrupted run; its payload must be given again."""
    begun = load_run(run_directory)
    of_users = {m.workload for m in begun.all_measurements() if m.workload.startswith(PREFIX)}
    if of_users and (payload is None or use_payload(payload) not in of_users):
        raise UsageError(
            f"{begun.run_id} was begun with entries of your own: give the same file as --payload"
        )
    sections = begun.environment.get("sections")
    if not isinstance(sections, list):
        raise UsageError(f"{begun.run_id} does not tell its sections: start a new run")
    return begun.profile, ",".join(sections), begun.seed


def default_directory(checkout: Path) -> Path:
    """Return the bench directory inside the checkout.

    Which lies on a disk more often than the temporary directory does.
    """
    return checkout / "build" / "bench"


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
            f"Interrupted: the {kept} measurements that have values are kept. Go on with: cometbench run --resume {finished.path}",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    if finished.failures:
        sys.exit(EXIT_FAILED)


@click.command(name="list", short_help="List the experiments and what each asks.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, every benchmark and probe by name, instead of text."
)
@says_errors
def list_experiments(as_json: bool) -> None:
    """List the experiments: question, method, limitations, number of benchmarks and probes.

    A section's letter is what `cometbench run --sections` takes.
    """
    experiments = load_experiments(find_checkout()).values()
    if as_json:
        click.echo(json.dumps([_described(experiment) for experiment in experiments], indent=2))
        return
    for experiment in experiments:
        count = len(experiment.benchmarks) + len(experiment.probes)
        click.echo(f"{experiment.section}: {experiment.title} ({count} benchmarks and probes)")
        for name in _WORDS:
            click.echo(click.wrap_text(f"{name}: {getattr(experiment, name)}", 100, "  ", "    "))


def _described(experiment: Experiment) -> dict[str, Any]:
    words = {name: getattr(experiment, name) for name in ("section", "title", *_WORDS)}
    return {
        **words,
        "benchmarks": [benchmark.name for benchmark in experiment.benchmarks],
        "probes": {probe.name: dict(probe.values) for probe in experiment.probes},
    }


@click.command()
@click.option("--directory", type=click.Path(path_type=Path), help="The bench directory to look at.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@says_errors
def doctor(directory: Path | None, as_json: bool) -> None:
    """Say what can be measured here and what stands in the way.

    ok: it works. limited: a part of a run is missing or noisy, and the line says what to do. missing: it is not there.

    Exit codes: 0 a run can work, 1 it cannot work at all, 2 wrong use.
    """
    findings = checks.examine(directory or default_directory(find_checkout()))
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.state:8} {finding.what}: {finding.detail}")
    if any(finding.state == "missing" and finding.required for finding in findings):
        sys.exit(EXIT_FAILED)


@click.command(short_help="Print all that is stored about this machine.")
@click.option("--json", "as_json", is_flag=True, help="The machine record as stored in results/.")
def machine(as_json: bool) -> None:
    """Print this machine's fingerprint: what is stored about it, all of it.

    The name is a hash of the hardware below it; neither a host name nor a serial number is read.
    """
    record = fingerprint()
    if as_json:
        click.echo(record.model_dump_json(indent=2))
        return
    click.echo(f"{record.machine_id}: {record.label}")
    for name, value in record.hardware.items():
        shown = "; ".join(value) if isinstance(value, list) else value
        click.echo(f"  {name}: {shown}")
