"""The command that tunes: `cometbench tune`."""

from __future__ import annotations

import dataclasses
import secrets
from pathlib import Path
from typing import Any

import click

import cometlog
from cometbench import environment
from cometbench.checkout import find_checkout
from cometbench.cli.measuring import default_directory
from cometbench.cli.outcomes import interruptible, says_errors
from cometbench.console import make_console, print_table
from cometbench.machine import fingerprint
from cometbench.model import Machine, Measurement
from cometbench.payload import payload_facts, use_payload
from cometbench.probe import Probe
from cometbench.profiles import PROFILES, Profile, find_profile
from cometbench.progress import RunProgress
from cometbench.run_root import RunRoot
from cometbench.runner import Runner
from cometbench.store import ResultsError, utc_now, write_atomically
from cometbench.tune_record import GOALS, Entries, Goal, Tune, show_setting, store_tune, to_toml
from cometbench.tuning import DEFAULTS, SECONDS_PER_VARIANT, Tuning, table_tried
from cometbench.verdicts import MINIMUM_WORKERS

# Starting a worker; opening the log of a variant and reading it back.
_WORKER_SECONDS, _VARIANT_SECONDS = 1.0, 0.3


def register(group: click.Group) -> None:
    """Add this module's command."""
    group.add_command(tune)


@click.command(short_help="Find what pays on your entries, and write it as TOML.")
@click.option(
    "--payload",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="Your own entries, one a line; results keep their number, their mean size and a hash.",
)
@click.option("--goal", type=click.Choice(GOALS), required=True, help="What shall get better.")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Writer processes that your program has.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("cometlog.toml"), show_default=True,
    help="The configuration to write, for cometlog.Config.load.",
)  # fmt: skip
@click.option("--directory", type=click.Path(path_type=Path), help="Where logs are written: your disk.")
@click.option(
    "--results", type=click.Path(path_type=Path, file_okay=False), help="Results tree; the checkout's results/ by default."
)  # fmt: skip
@click.option(
    "--profile", "profile_name", default="quick", show_default=True,
    help=f"One of {', '.join(PROFILES)}; {MINIMUM_WORKERS} rounds at least.",
)  # fmt: skip
@click.option("--seed", type=int, help="Replays the order of the turns; random by default, and stored.")
@click.option("--force", is_flag=True, help="Overwrite the output file.")
@click.option("--json", "as_json", is_flag=True, help="Print the stored record as JSON instead of a table.")
@says_errors
def tune(
    *, payload: Path, goal: Goal, processes: int, output: Path, directory: Path | None, results: Path | None,
    profile_name: str, seed: int | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Walk the guide's tuning checklist on your entries and this machine, and write what pays as a configuration.

    latency: time of one append. throughput: time of one entry in the best batch. storage: bytes stored for one byte
    given. Each step measures one setting against what was kept so far and against the defaults, in the same rounds,
    and is stored with its samples in results/<machine>/<UTC time>-<commit>-tune-<goal>/.

    Exit codes: 0 written, 1 a step could not be measured or stored, 2 wrong use, 130 interrupted (the steps that are
    done stay stored, no configuration is written).
    """
    if output.exists() and not force:
        raise click.UsageError(f"{output} exists; give another --output or --force")
    if not output.absolute().parent.is_dir():
        raise click.UsageError(f"{output} cannot be written: its folder does not exist")
    workload, chosen = use_payload(payload), find_profile(profile_name)
    rounds = max(chosen.rounds_probe, MINIMUM_WORKERS)
    profile = dataclasses.replace(chosen, rounds_probe=rounds, least_probe=rounds)
    facts, checkout, machine = payload_facts(payload), find_checkout(), fingerprint()
    where, tree = directory or default_directory(checkout), results or checkout / "results"
    commit, started = environment.commit_of(checkout), utc_now()
    console = make_console(stderr=as_json)
    with interruptible(), RunRoot(where) as root, RunProgress(console) as progress:
        begun = Tune(
            run_id=f"{started.replace('-', '').replace(':', '')}-{commit.hash[:7]}-tune-{goal}",
            machine_id=machine.machine_id, profile=profile.name, goal=goal, started_utc=started, commit=commit.hash,
            dirty=commit.dirty, seed=seed if seed is not None else secrets.randbelow(1 << 31), processes=processes,
            entries=Entries(
                workload=workload, count=facts.entries, different=facts.different, bytes_mean=facts.bytes_mean
            ),
            versions=environment.versions(),
            environment=environment.volatile_facts(root.path), defaults=dict(DEFAULTS), settings=dict(DEFAULTS),
        )  # fmt: skip
        if begun.busy is not None:
            click.echo(
                f"warning: this is measured {begun.busy}; what else runs widens every interval", err=True
            )
        tuned = _walk(
            Tuning(begun, _measuring(begun, profile, root, progress)), profile, machine, tree, progress
        )
    toml = to_toml(tuned, machine.label)
    _write(output, toml)
    folder = store_tune(tree, machine, tuned, toml)
    if as_json:
        click.echo(tuned.model_dump_json(indent=2))
        return
    print_table(table_tried(tuned), console)
    for line in (f"Steps stored in {folder}", _verdict(tuned.gain is not None, output)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _measuring(begun: Tune, profile: Profile, root: RunRoot, progress: RunProgress) -> Any:
    def measure(probe: Probe) -> dict[str, Measurement]:
        runner = Runner([probe], profile, root, seed=begun.seed, progress=progress)
        runner.run()
        return {one.metric: one for one in runner.measurements()}

    return measure


def _walk(tuning: Tuning, profile: Profile, machine: Machine, tree: Path, progress: RunProgress) -> Tune:
    """Take every step, and store each as it is done. Ctrl-C leaves those stored."""
    lines = tuning.lines()
    variants = sum(len(line.candidates) + 3 for line in lines) + 2
    each = SECONDS_PER_VARIANT * profile.probe_seconds + _VARIANT_SECONDS
    seconds = profile.rounds_probe * (variants * each + (len(lines) + 1) * _WORKER_SECONDS)
    store_tune(tree, machine, tuning.tune)
    progress.say(
        f"{len(lines)} steps of {profile.rounds_probe} rounds on {tuning.tune.environment['file_system']}, about {seconds:.0f} s; "
        f"seed {tuning.tune.seed}"
    )
    for reason in tuning.tune.left_out:
        progress.say(f"left out: {reason}")
    try:
        for number, (line, step) in enumerate(tuning.walk(), 1):
            store_tune(tree, machine, tuning.tune)
            said = (
                "nothing pays" if step.chosen is None else f"{show_setting(step.setting, step.chosen)} pays"
            )
            progress.say(f"step {number} of {len(lines)}, {line.setting} ({line.about}): {said}")
        return tuning.finish()
    except KeyboardInterrupt:
        done = len(tuning.tune.steps)
        progress.say(
            f"Interrupted: {done} of {len(lines)} steps are stored in {store_tune(tree, machine, tuning.tune)}"
        )
        raise


def _write(output: Path, toml: str) -> None:
    try:
        write_atomically(output, toml.encode())
    except OSError as error:
        raise ResultsError(f"{output} cannot be written: {error.strerror}") from error
    cometlog.Config.load(output)


def _verdict(anything: bool, output: Path) -> str:
    if not anything:
        return f"Nothing paid: the defaults stand. {output} says so."
    load = f"cometlog.open(path, cometlog.Config.load({str(output)!r}))"
    return f"Written to {output}: {load}. Its comments name what your program chooses itself."
