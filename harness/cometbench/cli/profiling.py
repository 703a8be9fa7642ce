"""The command `profile`: one workload now, its five classes by the kernel's accounts, py-spy beside them, a flame graph."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import click

from cometbench.checkout import find_checkout
from cometbench.cli.measuring import default_directory
from cometbench.cli.outcomes import interruptible, says_errors
from cometbench.console import make_console, print_table
from cometbench.environment import mount_of
from cometbench.errors import CannotMeasureError, CometbenchError
from cometbench.profiling.agreement import agree
from cometbench.profiling.bottleneck import name_bottleneck
from cometbench.profiling.catalogue import WRITE_PATHS, append
from cometbench.profiling.flame_graph import both_forms
from cometbench.profiling.hot_process import HotProcess
from cometbench.profiling.measure import Profiled, Taken, hot_cpu, take_budget, take_profile
from cometbench.profiling.time_budget import CLASSES
from cometbench.run_root import RunRoot
from cometbench.store import write_atomically
from cometbench.tables import Table
from cometbench.units import format_ns


def register(group: click.Group) -> None:
    """Add this module's command."""
    group.add_command(profile)


@click.command(short_help="Say where the time of appends goes.")
@click.option("--write-path", type=click.Choice(WRITE_PATHS), default="mmap", show_default=True)
@click.option(
    "--batch", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Entries per append."
)
@click.option("--compress", is_flag=True, help="Compress from 1 byte on; off by default.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 600),
    default=10.0,
    show_default=True,
    help="Of each of the two looks.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="Where the log is written; the file system under test.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where flame graphs go; build/profiles by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@says_errors
def profile(
    *,
    write_path: str,
    batch: int,
    compress: bool,
    seconds: float,
    directory: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Profile appends: where the time goes by the kernel's accounts and by py-spy, and a flame graph.

    Five classes: user code, the kernel in system calls, the kernel in page faults, blocked, waiting for a CPU. They come from the
    kernel's own accounts of an undisturbed loop; py-spy looks at it afterwards and stands beside them. Where it may not
    attach, `cometbench doctor` says why.

    Exit codes: 0 profiled, 1 it could not be or the log was wrong, 2 wrong use, 130 interrupted.
    """
    config = append(write_path, batch, threshold_bytes=1 if compress else 1 << 30)
    name = f"{write_path}-batch{batch}{'-compressed' if compress else ''}"
    checkout = find_checkout()
    graphs = output or checkout / "build" / "profiles"
    graphs.mkdir(parents=True, exist_ok=True)
    with interruptible(), RunRoot(directory or default_directory(checkout)) as root:
        file_system = mount_of(root.path).file_system
        click.echo(f"{name} on {file_system}: two looks of {seconds:g} s each", err=True)
        taken, profiled, reason = _look(root.fresh("log"), config, seconds)
    files = _write_graphs(graphs, f"{name}-{file_system}", profiled)
    found = _facts(taken, profiled, reason, batch)
    if as_json:
        click.echo(
            json.dumps(
                {"workload": name, "file_system": file_system, **found, "files": list(map(str, files))},
                indent=2,
            )
        )
        return
    console = make_console()
    print_table(_table(f"{name} on {file_system}", taken, profiled), console)
    for line in (
        found["agreement"],
        found["split"],
        f"bottleneck: {found['bottleneck']} ({found['evidence']})",
    ):
        click.echo(line)
    for file in files:
        click.echo(str(file))


def _look(directory: Path, config: dict[str, Any], seconds: float) -> tuple[Taken, Profiled | None, str]:
    """Take the budget, then py-spy's samples in the same process, or the reason why there are none."""
    with HotProcess(cpu=hot_cpu(), seed=secrets.randbelow(1 << 31)) as process:
        process.open(directory, config)
        taken = take_budget(process, seconds)
        try:
            profiled, reason = take_profile(process, seconds), ""
        except CannotMeasureError as error:
            profiled, reason = None, str(error)
        process.close_work()
    if process.finding.status == "failed":
        raise CometbenchError(f"the log is wrong: {process.finding.detail}")
    return taken, profiled, reason


def _facts(taken: Taken, profiled: Profiled | None, reason: str, batch: int) -> dict[str, Any]:
    budget, accounts = taken.budget, taken.spent.accounts
    shares = profiled.shares if profiled is not None else None
    named = name_bottleneck(budget, taken.waits)
    # The calibrator belongs to a run; here both shares stand side by side, and the reader sees how far they are apart.
    agreement = agree(budget.in_syscalls, shares.in_syscalls if shares is not None else None, 0.0, reason)
    return {
        "percent": {name: budget.percent(name) for name in CLASSES},
        "in_syscalls": {
            "rusage": budget.in_syscalls,
            "py_spy": shares.in_syscalls if shares is not None else None,
        },
        "ns_per_entry": (accounts.wall_ns - accounts.run_queue_ns) / taken.spent.calls / batch,
        "page_faults_per_append": accounts.faults / taken.spent.calls,
        "helper_percent": taken.percent_of_wall(accounts.others_user_ns + accounts.others_kernel_ns),
        "agreement": agreement.sentence,
        "split": f"kernel time divided by: {taken.split.way}, uncertain by {taken.split.uncertain_points:.1f} points",
        "bottleneck": named.name,
        "evidence": named.evidence,
    }


def _table(title: str, taken: Taken, profiled: Profiled | None) -> Table:
    rows = [[name.replace("_", " "), f"{taken.budget.percent(name):.1f} %", ""] for name in CLASSES]
    seen = (
        "not seen"
        if profiled is None
        else f"{profiled.shares.in_syscalls:.1f} % of {profiled.shares.samples} samples"
    )
    rows.append(["in system calls, without the run queue", f"{taken.budget.in_syscalls:.1f} %", seen])
    accounts = taken.spent.accounts
    per_append = format_ns((accounts.wall_ns - accounts.run_queue_ns) / taken.spent.calls)
    note = (
        f"{per_append} an append without the run queue, {accounts.faults / taken.spent.calls:.3g} page faults; helper threads work "
        f"{taken.percent_of_wall(accounts.others_user_ns + accounts.others_kernel_ns):.0f} % of the time. Shares by ticks are "
        f"uncertain by {taken.tick_half_width:.1f} points"
    )
    if profiled is not None:
        note += f", py-spy's by {profiled.shares.half_width:.1f}"
    return Table("profile", title, ["class", "kernel's accounts", "py-spy"], rows, f"{note}.")


def _write_graphs(directory: Path, name: str, profiled: Profiled | None) -> list[Path]:
    if profiled is None:
        return []
    written = []
    for file, text in both_forms(name, profiled.stacks, name).items():
        written.append(directory / file)
        write_atomically(written[-1], text.encode())
    return written
