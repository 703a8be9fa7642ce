"""One run from start to end: machine, store, interleaved rounds, latency and system-call passes, claims.

Exit status.

The store is written as passes end; an interruption (Ctrl-C, SIGTERM) keeps what has finished and says so.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cometbench import environment
from cometbench.benchmark import Benchmark
from cometbench.errors import CometbenchError
from cometbench.evaluate import evaluate_claims
from cometbench.experiment import Experiment
from cometbench.latency import measure_latency
from cometbench.machine import fingerprint
from cometbench.model import Measurement, Run
from cometbench.profiles import Profile
from cometbench.progress import RunProgress
from cometbench.run_root import RunRoot
from cometbench.runner import Runner
from cometbench.store import RunStore
from cometbench.syscalls import StraceMissingError, count_syscalls


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is asked for.

    `directory` is where logs are written, `results` the results tree; `search_path` holds subjects that live
    outside the package.
    """

    profile: Profile
    directory: Path
    results: Path
    checkout: Path
    seed: int
    search_path: tuple[Path, ...] = ()


@dataclasses.dataclass
class Finished:
    """The stored run, its directory, the failures (benchmark and reason), and whether it was interrupted."""

    run: Run
    path: Path
    failures: list[str]
    interrupted: bool = False


def run_experiments(experiments: Sequence[Experiment], settings: Settings, progress: RunProgress) -> Finished:
    """Run everything the experiments ask for and store it.

    Raises UsageError when the bench directory is unusable.
    """
    with RunRoot(settings.directory) as root:
        progress.say(_introduction(experiments, settings))
        facts = environment.volatile_facts(root.path)
        commit = environment.commit_of(settings.checkout)
        store = RunStore.create(
            settings.results, fingerprint(), settings.profile.name, commit=commit.hash, dirty=commit.dirty,
            seed=settings.seed, versions=environment.versions(), environment=facts,
        )  # fmt: skip
        session = _Session(experiments, settings, progress, root, store)
        interrupted = False
        try:
            session.measure()
        except KeyboardInterrupt:
            interrupted = True
        session.keep_rounds()
        run = store.finish(evaluate_claims(store.run), interrupted=interrupted)
    return Finished(run, store.path, session.failures, interrupted)


class _Session:
    """The passes of one run, in order, and what failed in them."""

    def __init__(
        self,
        experiments: Sequence[Experiment],
        settings: Settings,
        progress: RunProgress,
        root: RunRoot,
        store: RunStore,
    ) -> None:
        self._experiments, self._settings, self._progress = experiments, settings, progress
        self._root, self._store = root, store
        benchmarks = [benchmark for experiment in experiments for benchmark in experiment.benchmarks]
        self._runner = Runner(
            benchmarks,
            settings.profile,
            root,
            seed=settings.seed,
            progress=progress,
            search_path=settings.search_path,
        )
        self._kept = False
        self.failures: list[str] = []

    def measure(self) -> None:
        """Run the rounds first, then latency, then system calls."""
        self._runner.run()
        self.keep_rounds()
        self._pass("latency", [b for e in self._experiments for b in e.latency], self._latency)
        self._pass("system calls", [b for e in self._experiments for b in e.syscalls], self._syscalls)

    def keep_rounds(self) -> None:
        """Store what the rounds have collected so far, once."""
        if self._kept:
            return
        self._kept = True
        for measurement in self._runner.measurements():
            self._keep(measurement)
        suite = self._runner.suite()
        if suite is not None:
            self._store.attach_pyperf(suite)

    def _keep(self, measurement: Measurement) -> None:
        add = self._store.add_floor if measurement.experiment == "floor" else self._store.add_measurement
        add(measurement)
        if measurement.failure is not None:
            self.failures.append(f"{measurement.name}: {measurement.failure}")

    def _pass(self, title: str, benchmarks: list[Benchmark], step: Callable[[Benchmark], None]) -> None:
        if not benchmarks:
            return
        random.Random(f"{self._settings.seed}/{title}").shuffle(benchmarks)
        self._progress.phase(title, len(benchmarks), None)
        for done, benchmark in enumerate(benchmarks, 1):
            failures = len(self.failures)
            step(benchmark)
            for failure in self.failures[failures:]:
                self._progress.say(f"FAILED {failure}")
            self._progress.advance(done, len(benchmarks), benchmark.name, None)

    def _latency(self, benchmark: Benchmark) -> None:
        settings = self._settings
        measured = measure_latency(
            benchmark, settings.profile, self._root, settings.seed, settings.search_path
        )
        if measured.measurement.failure is None:
            self._store.add_latency(benchmark.name, np.asarray(measured.samples_ns))
        self._keep(measured.measurement)

    def _syscalls(self, benchmark: Benchmark) -> None:
        settings = self._settings
        try:
            self._keep(
                count_syscalls(benchmark, settings.profile, self._root, settings.seed, settings.search_path)
            )
        except StraceMissingError as reason:
            self._progress.say(f"not measured {benchmark.name}: {reason}")
            self._store.add_measurement(_uncounted(benchmark, str(reason)))
        except CometbenchError as error:
            self._keep(_uncounted(benchmark, str(error)))


def _introduction(experiments: Sequence[Experiment], settings: Settings) -> str:
    mount = environment.mount_of(settings.directory)
    where = f"{mount.file_system}{' (memory, not a disk)' if mount.is_memory else ''}"
    sections = ", ".join(experiment.section for experiment in experiments)
    count = sum(len(experiment.benchmarks) for experiment in experiments)
    asked = f"{count} benchmarks of {sections}"
    return f"Profile {settings.profile.name}: {asked}; logs on {where}; seed {settings.seed}"


def _uncounted(benchmark: Benchmark, reason: str) -> Measurement:
    return Measurement(
        name=benchmark.name,
        experiment=benchmark.experiment,
        subject=benchmark.subject,
        workload=benchmark.workload,
        metric="count_per_append",
        unit="syscalls",
        failure=reason,
    )
