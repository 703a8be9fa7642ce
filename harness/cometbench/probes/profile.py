"""Probes of section Y: time budgets by the kernel's accounts, py-spy beside them, the calibrator, system calls, the checklist.

Config: `works` names the works (`profiling.catalogue`), `seconds_max` limits the time of one, `memory` puts the log into /dev/shm.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cometbench.benchmark import ConfigValue
from cometbench.errors import CannotMeasureError
from cometbench.probe import Outcome, Task
from cometbench.profiling import flame_graph, py_spy
from cometbench.profiling.catalogue import MEMORY_DIRECTORY, WORKS, with_entries
from cometbench.profiling.hot_process import HotProcess
from cometbench.profiling.measure import Taken, hot_cpu, take_budget, take_profile
from cometbench.profiling.time_budget import CLASSES
from cometbench.run_root import RunRoot
from cometbench.verification import Finding, in_all

KNOWN_PERCENTS = (20, 50, 80)
_COUNTED_CALLS = 200
_PERF_SECONDS_MIN = 0.5
_HELPER_FUNCTIONS = 6
_SIGNIFICANT_PERCENT = 10.0
_IO_BOUND_PERCENT = 50.0
_COLLECTOR_PERCENT = 0.1

Values = dict[str, float]
Facts = dict[str, float | str]


def budgets(task: Task) -> Outcome:
    """`<work>_<class>` of every work, percent of wall time; `<work>_in_syscalls`; `<work>_ns` per entry; what all in_all say."""
    values: Values = {}
    facts: Facts = {}
    findings = []
    with _place(task) as (place, file_system), HotProcess(cpu=hot_cpu(), seed=task.seed) as process:
        for work in _works(task):
            with _open(process, place, work, _work(task, work)):
                taken = take_budget(process, _seconds(task), with_perf=_with_perf(task))
            findings.append(process.finding)
            values.update(_values(work, taken))
            facts.update(_facts(work, taken, process.fault_ns))
    facts["trials"] = float(task.probe.config.get("trials", 1))
    chosen = {
        name: _derived(name, values) if name in _DERIVED else values[name] for name in task.probe.values
    }
    return Outcome(chosen, in_all(findings), facts, file_system=file_system)


def py_spy_profile(task: Task) -> Outcome:
    """One work in one process: rusage first, then py-spy; the stacks are kept as collapsed text and as SVG."""
    (work,) = _works(task)
    py_spy.check_can_record(_seconds(task))
    with _place(task) as (place, file_system), HotProcess(cpu=hot_cpu(), seed=task.seed) as process:
        with _open(process, place, work, _work(task, work)):
            profiled = take_profile(process, _seconds(task))
            taken = take_budget(process, _seconds(task) / 2)
        finding = process.finding
    shares = profiled.shares
    values = {
        "in_syscalls": shares.in_syscalls,
        "rusage_in_syscalls": taken.budget.in_syscalls,
        "allocator": shares.allocator,
        "collector": shares.collector,
    }
    facts = _facts(work, taken, process.fault_ns)
    facts.update(
        samples=float(shares.samples), errors=float(profiled.errors), half_width_points=shares.half_width
    )
    met = py_spy.innermost(profiled.helper).most_common(_HELPER_FUNCTIONS)
    facts["helper_met_in"] = ", ".join(f"{name} {count}" for name, count in met)
    graphs = flame_graph.both_forms(task.probe.name, profiled.stacks, work)
    if profiled.helper:
        graphs.update(
            flame_graph.both_forms(f"{task.probe.name}.helper", profiled.helper, f"helper thread of {work}")
        )
    return Outcome(values, finding, facts, flame_graphs=graphs, file_system=file_system)


def calibrate(task: Task) -> Outcome:
    """`bias`: py-spy's largest error on loops of known shares, points, signed; `rusage_error` the same for rusage.

    In less time than py-spy can sample three loops, one must do.
    """
    seconds = max(_seconds(task), 1.0)
    percents = KNOWN_PERCENTS if task.seconds >= 1.0 else KNOWN_PERCENTS[1:2]
    biases, errors, facts = [], [], Facts()
    with _place(task) as (place, file_system), HotProcess(cpu=hot_cpu(), seed=task.seed) as process:
        for percent in percents:
            work: dict[str, ConfigValue] = {"kind": "spin_and_write", "kernel_percent": percent}
            with _open(process, place, f"known{percent}", work):
                taken, shares = take_budget(process, seconds / 2), take_profile(process, seconds).shares
            rusage = taken.budget.in_syscalls
            biases.append(shares.in_syscalls - rusage)
            errors.append(rusage - percent)
            facts.update({f"rusage_{percent}": rusage, f"py_spy_{percent}": shares.in_syscalls})
            facts[f"half_width_points_{percent}"] = shares.half_width
            facts[f"run_queue_{percent}"] = taken.budget.percent("run_queue")
    values = {"bias": max(biases, key=abs), "rusage_error": max(errors, key=abs)}
    return Outcome(values, Finding("not_applicable"), facts, file_system=file_system)


def system_calls(task: Task) -> Outcome:
    """`<work>` system calls of the hot thread per call, counted by strace; `<work>_not_stat` those that are no stat."""
    # Brings the stored model with it, which takes longer to import than a short profile lasts.
    from cometbench.profiling.system_calls import check_can_count, count_calls, not_stat  # noqa: PLC0415

    check_can_count()
    values: Values = {}
    facts: Facts = {"trials": float(_COUNTED_CALLS)}
    with _place(task) as (place, file_system), HotProcess(cpu=hot_cpu(), seed=task.seed) as process:
        for work in _works(task):
            with _open(process, place, work, _work(task, work)):
                counted = count_calls(process, _COUNTED_CALLS)
            values[work] = counted.total() / _COUNTED_CALLS
            values[f"{work}_not_stat"] = not_stat(counted) / _COUNTED_CALLS
            facts[f"{work}_names"] = ", ".join(f"{name} {count}" for name, count in counted.most_common())
    chosen = {name: values[name] for name in task.probe.values}
    return Outcome(chosen, Finding("not_applicable"), facts, file_system=file_system)


def _works(task: Task) -> list[str]:
    return str(task.probe.config["works"]).split()


def _work(task: Task, name: str) -> Mapping[str, ConfigValue]:
    return with_entries(WORKS[name], str(task.probe.config.get("workload", "")))


def _seconds(task: Task) -> float:
    return min(task.seconds, float(task.probe.config.get("seconds_max", task.seconds)))


def _with_perf(task: Task) -> bool:
    """Whether perf may divide kernel time: not in the rounds, where it would cost more than it says, nor in a moment."""
    return bool(task.probe.config.get("perf", True)) and _seconds(task) >= _PERF_SECONDS_MIN


@contextmanager
def _place(task: Task) -> Iterator[tuple[Path, str]]:
    """Yield the directory for logs and, if it is not the bench directory, its file system.

    Raises CannotMeasureError where memory is asked for and /dev/shm is none.
    """
    if not task.probe.config.get("memory", False):
        yield task.directory, ""
        return
    # Brings the stored model with it, which takes longer to import than a short profile lasts.
    from cometbench.environment import mount_of  # noqa: PLC0415

    mount = mount_of(MEMORY_DIRECTORY)
    if not mount.is_memory:
        raise CannotMeasureError(f"{MEMORY_DIRECTORY} is {mount.file_system}, not a file system in memory")
    with RunRoot(MEMORY_DIRECTORY) as root:
        yield root.path, mount.file_system


@contextmanager
def _open(process: HotProcess, place: Path, name: str, work: Mapping[str, ConfigValue]) -> Iterator[None]:
    """Have a work open in a directory of its own; afterwards it is verified, and its directory is gone."""
    directory = place / name
    directory.mkdir()
    process.open(directory, work)
    yield
    process.close_work()
    shutil.rmtree(directory, ignore_errors=True)


def _values(work: str, taken: Taken) -> Values:
    accounts = taken.spent.accounts
    entries = taken.spent.calls * float(WORKS[work].get("batch", 1))
    values = {f"{work}_{name}": taken.budget.percent(name) for name in CLASSES}
    values[f"{work}_in_syscalls"] = taken.budget.in_syscalls
    values[f"{work}_collector"] = taken.percent_of_wall(taken.spent.collecting_ns)
    # Waiting for a CPU is the neighbours' doing, not the work's.
    values[f"{work}_on_cpu"] = accounts.on_cpu_ns / (accounts.wall_ns - accounts.run_queue_ns)
    values[f"{work}_ns"] = (accounts.wall_ns - accounts.run_queue_ns) / entries
    return values


def _facts(work: str, taken: Taken, fault_ns: float) -> Facts:
    accounts, calls = taken.spent.accounts, taken.spent.calls
    return {
        f"{work}_faults_per_call": accounts.faults / calls,
        f"{work}_fault_floor_ns": fault_ns,
        f"{work}_helper_user": taken.percent_of_wall(max(accounts.others_user_ns, 0)),
        f"{work}_helper_kernel": taken.percent_of_wall(max(accounts.others_kernel_ns, 0)),
        f"{work}_helper_faults_per_call": accounts.others_faults / calls,
        f"{work}_split": taken.split.way,
        f"{work}_split_uncertain_points": taken.split.uncertain_points,
        f"{work}_ticks_half_width_points": taken.tick_half_width,
        f"{work}_waits": ", ".join(f"{kind} {count}" for kind, count in taken.waits.most_common()),
    }


def _derived(name: str, values: Values) -> float:
    return _DERIVED[name](values)


def _unbalanced(values: Values) -> float:
    """Share of the batch sizes from 10 on whose system calls are not fewer than at 1, or are insignificant."""
    shares = [values[f"batch{batch}_buffered_in_syscalls"] for batch in (1, 10, 100, 1000, 10_000)]
    return sum(share >= shares[0] or share < _SIGNIFICANT_PERCENT for share in shares[1:]) / 4


def _encoding_shrinks(values: Values) -> float:
    """Share of the batch sizes from 10 on whose user time is not a larger part than at 1."""
    shares = [values[f"batch{batch}_buffered_user"] for batch in (1, 10, 100, 1000, 10_000)]
    return sum(share <= shares[0] for share in shares[1:]) / 4


def _collector_idle(values: Values) -> float:
    """Share of the batch sizes from 10 on that spend less than 0.1 % of the time in the garbage collector."""
    shares = [values[f"batch{batch}_buffered_collector"] for batch in (10, 100, 1000, 10_000)]
    return sum(share < _COLLECTOR_PERCENT for share in shares) / 4


def _no_more_user(values: Values) -> float:
    """Share of the sizes whose user time is no larger part with compression than without."""
    return sum(values[f"orders{n}_compressed_user"] <= values[f"orders{n}_plain_user"] for n in (1, 100)) / 2


def _not_io_bound(values: Values) -> float:
    """Share of the sizes that spend less than half of their time in system calls when they compress."""
    return sum(values[f"orders{n}_compressed_in_syscalls"] < _IO_BOUND_PERCENT for n in (1, 100)) / 2


def _avoidable(values: Values) -> float:
    """Percent of the time of an append on the path with system calls that the path without does not need."""
    return 100 * (1 - values["batch1_mmap_ns"] / values["batch1_buffered_ns"])


_DERIVED = {
    "unbalanced": _unbalanced,
    "encoding_shrinks": _encoding_shrinks,
    "collector_idle": _collector_idle,
    "no_more_user": _no_more_user,
    "not_io_bound": _not_io_bound,
    "avoidable": _avoidable,
}
