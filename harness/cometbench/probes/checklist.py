"""Probe of the guide's bottleneck checklist: five cases provoked on purpose, each to be named from its profile alone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from cometbench.benchmark import ConfigValue
from cometbench.probe import Outcome, Task
from cometbench.profiling.bottleneck import CONTENTION, CPU, IO, Bottleneck, name_bottleneck
from cometbench.profiling.catalogue import append, with_entries
from cometbench.profiling.hot_process import HotProcess
from cometbench.profiling.time_budget import Accounts, time_budget
from cometbench.verification import in_all

_WRITERS = 4


class Case(NamedTuple):
    """What is provoked, its name in the guide's checklist, the work, and how many processes do it on one shard."""

    what: str
    expected: str
    config: Mapping[str, ConfigValue]
    processes: int = 1


CASES: Mapping[str, Case] = {
    "compression": Case(
        "compression of small entries", CPU, append("buffered", 10, threshold_bytes=1, level=3)
    ),
    "small_appends": Case("many small appends", CPU, append("buffered", 1)),
    "synced": Case("fdatasync at every append", IO, append("sync", 1)),
    "batching": Case("insufficient batching", IO, append("async", 10)),
    "writers": Case(
        f"{_WRITERS} writers of one shard, single entries",
        CONTENTION,
        append("async", 1, processes=_WRITERS),
        _WRITERS,
    ),
}


def checklist(task: Task) -> Outcome:
    """`wrong`: share of the cases whose name is not the guide's; the facts hold each case's name and evidence."""
    facts: dict[str, float | str] = {"trials": float(len(CASES))}
    wrong = 0
    findings = []
    with ExitStack() as stack:
        writers: list[HotProcess] = []
        for key, case in CASES.items():
            while len(writers) < case.processes:
                writers.append(
                    stack.enter_context(HotProcess(cpu=None, seed=task.seed, process=len(writers)))
                )
            directory = task.directory / key
            directory.mkdir()
            own = case._replace(config=with_entries(case.config, str(task.probe.config.get("workload", ""))))
            named = run_case(own, writers[: case.processes], directory, task.seconds)
            shutil.rmtree(directory)
            findings.append(writers[0].finding)
            wrong += named.name != case.expected
            facts[f"{key}_expected"], facts[f"{key}_named"] = case.expected, named.name
            facts[f"{key}_evidence"] = named.evidence
    return Outcome({"wrong": wrong / len(CASES)}, in_all(findings), facts)


def run_case(case: Case, writers: list[HotProcess], directory: Path, seconds: float) -> Bottleneck:
    """Run one case in its processes, all at once and unpinned, and name it by the sum of their budgets."""
    for writer in writers:
        writer.ask_open(directory, case.config)
    for writer in writers:
        writer.opened()
    for writer in writers:
        writer.ask_run(seconds)
    total, waits = Accounts(), Counter[str]()
    for writer in writers:
        total = total.plus(writer.spent().accounts)
        waits += writer.waits
    for writer in writers:
        writer.close_work()
    return name_bottleneck(time_budget(total, 0.0), waits)
