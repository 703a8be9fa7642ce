"""The `latency` command: one write path under open-loop load, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import secrets
from pathlib import Path

import click
import numpy as np

from cometbench.benchmark import ENGINE_SUBJECT, ConfigValue
from cometbench.checkout import find_checkout
from cometbench.cli.measuring import default_directory
from cometbench.cli.outcomes import interruptible, says_errors
from cometbench.console import make_console, print_table
from cometbench.errors import CometbenchError
from cometbench.payload import use_payload
from cometbench.probe import Probe
from cometbench.probe_item import ProbeItem
from cometbench.probes.open_loop import LOADS, values_of
from cometbench.profiles import PROFILES
from cometbench.progress import RunProgress
from cometbench.run_root import RunRoot
from cometbench.runner import Runner
from cometbench.tables_latency import table_latency

WRITE_PATHS = ("mmap", "buffered", "sync", "async", "uring")
PRESETS = ("default", "ultra_low_latency", "high_throughput", "high_compression", "multi_process")
_DURABLE = frozenset({"sync", "async", "uring"})


def register(group: click.Group) -> None:
    """Add this module's command."""
    group.add_command(latency)


@click.command(short_help="Time one append under open-loop load.")
@click.option("--write-path", type=click.Choice(WRITE_PATHS), default="mmap", show_default=True)
@click.option(
    "--load",
    "loads",
    default=",".join(map(str, LOADS)),
    show_default=True,
    help="In percent of the capacity, comma-separated.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.05, 600),
    default=5.0,
    show_default=True,
    help="Of each round, in all.",
)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Writers on one shard."
)
@click.option(
    "--sync-ms", type=click.FloatRange(0), default=0.0, help="Sync so often meanwhile; 0: not at all."
)
@click.option(
    "--payload",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Append these entries, one a line, in the place of made-up ones.",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="default",
    show_default=True,
    help="A preset of the engine's configuration.",
)
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where logs are written; the file system under test."
)
@click.option("--seed", type=int, help="Replays payloads and schedules; random by default, and printed.")
@click.option(
    "--readings",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write each append's clock readings to this .npz file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the measurements as JSON.")
@says_errors
def latency(
    *,
    write_path: str,
    loads: str,
    seconds: float,
    rounds: int,
    processes: int,
    sync_ms: float,
    payload: Path | None,
    preset: str,
    directory: Path | None,
    seed: int | None,
    readings: Path | None,
    as_json: bool,
) -> None:
    """Measure what a caller waits for one append when appends come at their own times.

    First the capacity of the path, then appends at a share of it, at random moments (a seeded Poisson schedule) that do not wait for
    the append before. service: from an append's begin to its end. response: from the moment it was due, so that waiting in
    line counts. The stall meter is what doing nothing at the same pace waits: the platform's own share.

    Exit codes: 0 measured, 1 a round failed, 2 wrong use, 130 interrupted.
    """
    if write_path == "buffered" and processes > 1:
        raise click.UsageError(f"the buffered path has one process, got --processes {processes}")
    if readings is not None and not readings.absolute().parent.is_dir():
        raise click.UsageError(f"--readings {readings} cannot be written: its folder does not exist")
    percents = _percents(loads)
    config: dict[str, ConfigValue] = {
        "implementation": ENGINE_SUBJECT,
        "write_path": write_path,
        "preset": preset,
        "loads": ",".join(map(str, percents)),
        "sync_ms": sync_ms,
        "keep_readings": readings is not None,
    }
    probe = Probe(
        name=f"latency.{write_path}",
        experiment="latency",
        subject=write_path,
        implementation="cometbench.probes.open_loop:measure",
        values=values_of(percents),
        workload=use_payload(payload) if payload is not None else "json_line",
        processes=processes,
        durability="survives_power_loss" if write_path in _DURABLE else "survives_process_crash",
        config=config,
    )
    seed = seed if seed is not None else secrets.randbelow(1 << 31)
    item = _measured(probe, seconds, rounds, directory or default_directory(find_checkout()), seed)
    if readings is not None:
        np.savez_compressed(readings, **item.arrays())  # type: ignore[arg-type]
    if as_json:
        click.echo(json.dumps([one.model_dump(mode="json") for one in item.measurements()], indent=2))
        return
    print_table(table_latency(item.measurements()), make_console())
    found = item.measurements()[0].verification
    click.echo(f"seed {seed}; read back {found.entries_found:,} of {found.entries_expected:,} entries")


def _percents(text: str) -> tuple[int, ...]:
    try:
        percents = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise click.UsageError(f"--load is whole percents, comma-separated, got {text!r}") from None
    beyond = [percent for percent in percents if not 1 <= percent <= 95]
    if beyond:
        raise click.UsageError(
            f"--load is 1 to 95 % of the capacity, got {beyond[0]}: beyond it the queue only grows"
        )
    return percents


def _measured(probe: Probe, seconds: float, rounds: int, directory: Path, seed: int) -> ProbeItem:
    profile = dataclasses.replace(
        PROFILES["quick"],
        rounds_probe=rounds,
        least_probe=rounds,
        probe_seconds=seconds,
        worker_seconds_max=60 + 20 * seconds,
    )
    with interruptible(), RunRoot(directory) as root, RunProgress(make_console(stderr=True)) as progress:
        runner = Runner([probe], profile, root, seed=seed, progress=progress)
        runner.run()
    item = runner.items[probe.name]
    assert isinstance(item, ProbeItem)
    if item.failure:
        raise CometbenchError(item.failure)
    return item
