"""Section Y: where the time goes, by the kernel's accounts and by py-spy, and the guide's thesis that syscall-bound is perfect."""

from __future__ import annotations

import dataclasses

from cometbench.benchmark import ConfigValue
from cometbench.budget_views import class_shares
from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.probes.checklist import CASES
from cometbench.profiling.agreement import BIAS, agreement_in, value_in
from cometbench.profiling.catalogue import BATCHES, WRITE_PATHS
from cometbench.profiling.time_budget import CLASSES

SINGLES = tuple(f"batch1_{path}" for path in WRITE_PATHS)
_IN_SYSCALLS = tuple(f"{work}_in_syscalls" for work in SINGLES)
BUFFERED = tuple(f"batch{batch}_buffered" for batch in BATCHES)
MAPPED = (*(f"batch{batch}_mmap" for batch in BATCHES[1:]), "cold_map")
ORDERS = ("orders1_plain", "orders1_compressed", "orders100_plain", "orders100_compressed")
READS = ("read_bytes", "read_views", "wait")
COUNTED = ("batch1000_buffered", "batch1000_mmap", "read_bytes", "read_views")
IN_MEMORY = (*SINGLES, "batch1000_mmap", "cold_map")
PROFILED = ("batch1_buffered", "batch1_mmap", "batch1_sync", "batch1000_buffered", "batch1000_mmap")
_PROBES = "cometbench.probes.profile"
# The works' own, unless a user's are to be appended.
_ENTRIES: dict[str, ConfigValue] = {"workload": ""}


def _budgets(name: str, works: tuple[str, ...], *more: str, **config: ConfigValue) -> Probe:
    values = {f"{work}_{one}": "%" for work in works for one in CLASSES if one != "run_queue"}
    values.update({f"{work}_ns": "ns" for work in works})
    values.update(
        {
            one: "%" if one == "avoidable" or one.endswith(("collector", "in_syscalls")) else "share"
            for one in more
        }
    )
    return Probe(
        name=f"Y.{name}",
        experiment="Y",
        subject="cometlog",
        implementation=f"{_PROBES}:budgets",
        values=values,
        seconds=1.5,
        rounds="once",
        config={"works": " ".join(works), **_ENTRIES, **config},
    )


def _py_spy(work: str) -> Probe:
    return Probe(
        name=f"Y.py_spy_{work}",
        experiment="Y",
        subject="py-spy",
        implementation=f"{_PROBES}:py_spy_profile",
        values=dict.fromkeys(("in_syscalls", "rusage_in_syscalls", "allocator", "collector"), "%"),
        seconds=5.0,
        rounds="once",
        config={"works": work, "seconds_max": 10.0, **_ENTRIES},
    )


def _in_rounds(name: str, works: tuple[str, ...], *more: str, **config: ConfigValue) -> Probe:
    """Budgets that a verdict rests on: short ones, in as many rounds as it takes, without perf."""
    probe = _budgets(name, works, *more, perf=False, seconds_max=0.6, **config)
    return dataclasses.replace(probe, rounds="other", seconds=1.0)


_PROBES_OF_Y = (
    _in_rounds("singles", SINGLES, "avoidable", *_IN_SYSCALLS),
    _in_rounds("batches_buffered", BUFFERED, "unbalanced", "encoding_shrinks", "collector_idle", "batch1000_buffered_collector",
             "batch10000_buffered_collector", trials=4),
    _budgets("batches_mmap", MAPPED),
    _in_rounds("compression", ORDERS, "no_more_user", "not_io_bound", trials=2),
    _in_rounds("reads", READS, "read_bytes_on_cpu", "read_views_on_cpu", "wait_on_cpu", trials=1000),
    _budgets("memory", IN_MEMORY, memory=True),
    Probe(
        name="Y.calls",
        experiment="Y",
        subject="cometlog",
        implementation=f"{_PROBES}:system_calls",
        values=dict.fromkeys((*COUNTED, "read_bytes_not_stat", "read_views_not_stat"), "syscalls"),
        rounds="once",
        config={"works": " ".join(COUNTED), **_ENTRIES},
    ),
    Probe(
        name="Y.checklist",
        experiment="Y",
        subject="cometlog",
        implementation="cometbench.probes.checklist:checklist",
        values={"wrong": "share"},
        config=_ENTRIES,
        seconds=0.5,
        rounds="other",
    ),
    Probe(
        name="Y.calibrator",
        experiment="Y",
        subject="py-spy",
        implementation=f"{_PROBES}:calibrate",
        values={"bias": "points", "rusage_error": "points"},
        seconds=5.0,
        rounds="once",
        config={"seconds_max": 10.0},
    ),
    *map(_py_spy, PROFILED),
)  # fmt: skip


def finding(run: Run) -> list[str]:
    """What the guide's thesis is worth here, each sentence with its figures."""
    parts = (_instruments(run), _thesis(run), _mapped(run), _batches(run), _others(run), _checklist(run))
    return [line for lines in parts for line in lines]


def _instruments(run: Run) -> list[str]:
    calibrator = run.find("Y.calibrator.bias")
    if calibrator is None:
        return []
    if calibrator.failure is not None:
        return [f"py-spy has no say in this run, shares are rusage's alone: {calibrator.failure}"]
    shown = ", ".join(
        f"{percent} % known: rusage {calibrator.extra[f'rusage_{percent}']:.0f}, py-spy "
        f"{calibrator.extra[f'py_spy_{percent}']:.0f} +-{calibrator.extra[f'half_width_points_{percent}']:.0f}"
        for percent in (20, 50, 80)
        if f"rusage_{percent}" in calibrator.extra
    )
    lines = [
        f"Calibrator, share of system calls: {shown}; py-spy's largest bias is {value_in(run, BIAS):+.1f} points"
    ]
    for work in PROFILED:
        if run.find(f"Y.py_spy_{work}.in_syscalls") is not None:
            lines.append(f"{work}: {agreement_in(run, f'Y.py_spy_{work}').sentence}")
    return lines


def _thesis(run: Run) -> list[str]:
    shares = [
        f"{path} {share:.0f} %" for path in WRITE_PATHS
        if (share := value_in(run, f"Y.singles.batch1_{path}_in_syscalls")) is not None
    ]  # fmt: skip
    avoidable = value_in(run, "Y.singles.avoidable")
    if not shares or avoidable is None:
        return []
    return [
        f"Time in system calls of single appends: {', '.join(shares)}; the guide says 97 % and calls it perfect",
        f"It is not: of the time of an append that makes a system call (buffered, {_ns(run, 'batch1_buffered')}), the mapped path "
        f"({_ns(run, 'batch1_mmap')}, same promise: survives a crash of the process) does without {avoidable:.0f} %. A high share of "
        "system calls says that the rest is small, not that the calls are needed",
    ]


def _ns(run: Run, work: str) -> str:
    return f"{value_in(run, f'Y.singles.{work}_ns'):,.0f} ns"


def _mapped(run: Run) -> list[str]:
    lines = []
    for where, probe in (("disk", "singles"), ("disk", "batches_mmap"), ("memory", "memory")):
        for work in ("batch1_mmap", "batch1000_mmap", "batch10000_mmap", "cold_map"):
            measurement = run.find(f"Y.{probe}.{work}_user")
            if measurement is None or not measurement.samples:
                continue
            extra = measurement.extra
            helper = float(extra[f"{work}_helper_user"]) + float(extra[f"{work}_helper_kernel"])
            lines.append(
                f"{work} in {where if where == 'memory' else measurement.file_system}: {_classes(run, f'Y.{probe}.{work}')}; "
                f"{extra[f'{work}_faults_per_call']:.3g} faults a call; beside it the helper thread works {helper:.0f} % of the time, "
                f"{extra[f'{work}_helper_kernel']:.0f} % in the kernel, populating pages; kernel time divided by: "
                f"{extra[f'{work}_split']}, uncertain by {extra[f'{work}_split_uncertain_points']:.1f} points"
            )
    for work in PROFILED:
        profile = run.find(f"Y.py_spy_{work}.in_syscalls")
        if work.endswith("mmap") and profile is not None and profile.samples:
            lines.append(
                f"The helper thread beside {work}, samples by function: {profile.extra['helper_met_in']}"
            )
    return lines


def _classes(run: Run, prefix: str) -> str:
    shares = class_shares(run, prefix) or {}
    return ", ".join(f"{name.replace('_', ' ')} {share:.0f} %" for name, share in shares.items())


def _batches(run: Run) -> list[str]:
    lines = [
        f"{work}: {shown}" for work in (*BUFFERED, *ORDERS)
        if (shown := _classes(run, f"Y.{'compression' if work in ORDERS else 'batches_buffered'}.{work}"))
    ]  # fmt: skip
    collecting = value_in(run, "Y.batches_buffered.batch10000_buffered_collector")
    if collecting is not None:
        text = f"Garbage collection takes {collecting:.2f} % of batches of 10,000 (timed by the collector's own callbacks)"
        for work in ("batch1000_buffered", "batch1000_mmap"):
            share = value_in(run, f"Y.py_spy_{work}.allocator")
            if share is not None:
                text += f"; the allocator {share:.1f} % of py-spy's samples in {work}"
        lines.append(text)
    return lines


def _others(run: Run) -> list[str]:
    lines = [f"{work}: {shown}" for work in READS if (shown := _classes(run, f"Y.reads.{work}"))]
    calls = run.find("Y.calls.read_views")
    if calls is not None and calls.samples:
        lines.append(f"System calls of 200 reads of 1000 entries: {calls.extra['read_views_names']}")
    for path in WRITE_PATHS:
        disk, memory = (value_in(run, f"Y.{probe}.batch1_{path}_ns") for probe in ("singles", "memory"))
        if disk is not None and memory is not None:
            lines.append(
                f"{path}, single appends: {disk:,.0f} ns on the bench directory, {memory:,.0f} ns in memory"
            )
    return lines


def _checklist(run: Run) -> list[str]:
    checklist = run.find("Y.checklist.wrong")
    if checklist is None or not checklist.samples:
        return []
    return [
        f"{case.what}: the guide says {case.expected}, the profile {checklist.extra[f'{key}_named']} "
        f"({checklist.extra[f'{key}_evidence']})"
        for key, case in CASES.items()
    ]


EXPERIMENT = Experiment(
    section="Y",
    title="Syscall against CPU",
    question=(
        "Where does the time of an append and of a read go, and is a high share of system calls the mark of a log that has "
        "nothing left to gain?"
    ),
    method=(
        "Five classes of the hot thread's wall time: user, kernel in system calls, kernel in page faults, blocked, run "
        "queue. They come from accounts that the kernel keeps while nobody looks (rusage, the thread's clock, schedstat), "
        "summed over marked stretches of 20 ms. Kernel time is divided into faults and calls by counting faults at what "
        "one costs at least on that file system, and where that is over 2 %, by kernel stacks that perf samples in a "
        "further stretch; how far the two are apart is published as the uncertainty. What a verdict rests on is measured for 0.6 s "
        "in every round instead, and divided by counting alone. What a blocked thread waits for is "
        "read from /proc every 2 ms without stopping it. py-spy is pinned to the hot thread's CPU (100 samples a second, "
        "native stacks, idle threads too), attached after warm-up; only stacks below the marker count. A calibrator, spin "
        "and write at three known shares, gives its bias: beyond 10 points rusage's shares replace its own. A verdict on "
        "a share needs both to agree within 10 points. Calls are counted by strace, never timed under it. The same on the "
        "bench directory's file system and in memory. Time in system calls is kernel time in calls plus blocked time, of "
        "the wall time without the run queue. The checklist's five cases are named by the rule in "
        "cometbench.profiling.bottleneck."
    ),
    limitations=(
        "rusage divides CPU time by ticks: at 250 a second, T seconds are uncertain by 6 points / sqrt(T). py-spy's "
        "interval at 100 samples a second is as wide, and too narrow on a busy machine, where a thread in the run queue "
        "is met at the same place again and again. Interrupts count as kernel time of whom they meet. Logs keep their "
        "last 128 MiB; what removing the rest costs is outside the stretches. The helper thread's time is rusage's, of "
        "the process less the hot thread; its stacks are py-spy's from another CPU. Allocator and collector are told by "
        "function names, which an interpreter built without symbols hides. One reader, one hot thread; several writers "
        "only in the checklist."
    ),
    benchmarks=(),
    probes=_PROBES_OF_Y,
    finding=finding,
)
