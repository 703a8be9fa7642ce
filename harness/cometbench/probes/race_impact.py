"""What races cost: the same processes write and read in each of three stretches, and only what they share differs.

`apart`: every writer on a shard of its own, while a reader and a process that tears index files (see `index_race`) work on another
log. `together`: the writers on one shard, the other two still elsewhere. `races`: all of them on the writers' shard. Values are
entries/s of the writers; each shard begins with the same entries and is read back. Config: the engine subject's keys.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import cometlog
from cometbench.benchmark import STREAM
from cometbench.crew import Crew
from cometbench.probe import Outcome, Probe, Task
from cometbench.probes.index_race import ENTRIES, Reader, Tearer
from cometbench.subjects.engine import chunks_of, engine_config
from cometbench.verification import Appended, Finding, verify_entries
from cometbench.workloads import build_pool

_SECONDS_MAX = 0.6
_OTHER_STREAM = "bench:v1:shard:0001"
_POOL_ENTRIES = 20_000
_WRITERS = 2


class Stretch(NamedTuple):
    """The streams of the writers, and the directory in which the other two work."""

    streams: tuple[str, ...]
    disturbed: str


STRETCHES = {
    "apart": Stretch((STREAM, _OTHER_STREAM), "elsewhere"),
    "together": Stretch((STREAM, STREAM), "elsewhere"),
    "races": Stretch((STREAM, STREAM), "races"),
}


def measure(task: Task) -> Outcome:
    """All three stretches, one log each."""
    first = build_pool(task.probe.workload, ENTRIES, task.seed, _WRITERS, _WRITERS + 1)
    _begin(task.directory / "elsewhere", task.probe, (STREAM,), first)
    values: dict[str, float] = {}
    expected = found = 0
    for name, stretch in STRETCHES.items():
        values[name], findings = _measure_one(task, name, stretch, first)
        expected += sum(one.entries_expected for one in findings)
        found += sum(one.entries_found for one in findings)
        for one in findings:
            if one.status == "failed":
                return Outcome(values, Finding("failed", expected, found, f"{name}: {one.detail}"))
    return Outcome(values, Finding("ok", expected, found))


def _measure_one(task: Task, name: str, stretch: Stretch, first: list[bytes]) -> tuple[float, list[Finding]]:
    root, probe = task.directory / name, task.probe
    _begin(root, probe, sorted(set(stretch.streams)), first)
    elsewhere = task.directory / stretch.disturbed

    def pool_of(process: int) -> list[bytes]:
        return build_pool(probe.workload, _POOL_ENTRIES, task.seed, process, _WRITERS + 1)

    writers = [
        partial(_Writer, root, probe, stream, pool_of(process))
        for process, stream in enumerate(stretch.streams)
    ]
    crew = Crew(
        [*writers, partial(Tearer, elsewhere), partial(Reader, elsewhere, first, f"{task.seed}/{name}")]
    )
    seconds = min(task.seconds, _SECONDS_MAX) / len(STRETCHES)
    methods = [*["append"] * len(writers), "tear", "look_up"]
    answers = crew.call_each([(method, (seconds,)) for method in methods])
    appended: list[Appended] = crew.finish()[: len(writers)]
    rate = sum(answers[: len(writers)])
    return rate, _verify(root, stretch.streams, appended, first)


def _begin(root: Path, probe: Probe, streams: Any, first: list[bytes]) -> None:
    with cometlog.open(root, engine_config(probe.config)) as client:
        for stream in streams:
            client.append(stream, first)


def _verify(
    root: Path, streams: tuple[str, ...], appended: list[Appended], first: list[bytes]
) -> list[Finding]:
    findings = []
    with cometlog.open(root, read_only=True) as client:
        for stream in sorted(set(streams)):
            own = [one for one, its in zip(appended, streams, strict=True) if its == stream]
            writers = [Appended(first, len(first)), *own]
            findings.append(verify_entries(stream, writers, chunks_of(client, stream)))
    return findings


class _Writer:
    """Appends batches back to back."""

    def __init__(self, root: Path, probe: Probe, stream: str, pool: list[bytes]) -> None:
        self._client = cometlog.open(root, engine_config(probe.config))
        self._extend = self._client.writer(stream).extend
        self._appended, self._batch = Appended(pool), probe.batch

    def append(self, seconds: float) -> float:
        """Append for so long; entries per second."""
        one, batch = self._appended, self._batch
        started = now = perf_counter()
        while now - started < seconds:
            at = one.count % len(one.pool)
            self._extend(one.pool[at : at + batch])
            one.count += batch
            now = perf_counter()
        return one.count / (now - started)

    def close(self) -> Appended:
        self._client.close()
        return self._appended
