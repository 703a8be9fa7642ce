"""One run from start to end: machine, store, interleaved rounds, latency and system-call passes, claims.

Exit status.

The store is written as passes end; an interruption (Ctrl-C, SIGTERM) keeps what has finished and says so.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cometbench import environment
from cometbench.benchmark import Benchmark
from cometbench.environment import mount_of
from cometbench.errors import CometbenchError, UsageError
from cometbench.evaluate import evaluate_claims
from cometbench.experiment import Experiment
from cometbench.latency import measure_latency
from cometbench.machine import fingerprint
from cometbench.model import ROUNDS_TAKEN, Measurement, Run
from cometbench.probe import Probe
from cometbench.profiles import Profile
from cometbench.progress import RunProgress
from cometbench.run_root import RunRoot
from cometbench.runner import Runner
from cometbench.services.shared import SharedServices
from cometbench.store import RunStore
from cometbench.syscalls import StraceMissingError, count_syscalls

# What one benchmark takes of the passes that follow the rounds, and what one synced append of it does, as far as plans go.
_PASS_SECONDS = 3.0
_SYNC_SECONDS = 1e-3


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is asked for.

    `directory` is where logs are written, `results` the results tree; `search_path` holds subjects that live
    outside the package; `resume` is the folder of an interrupted run to go on with, `servers` addresses of servers
    that run already (see `services.shared`).
    """

    profile: Profile
    directory: Path
    results: Path
    checkout: Path
    seed: int
    search_path: tuple[Path, ...] = ()
    resume: Path | None = None
    servers: Mapping[str, str] = dataclasses.field(default_factory=dict)


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
        store = _open_store(experiments, settings, root)
        interrupted = False
        with SharedServices(root.path / "services", progress.say, settings.servers) as services:
            session = _Session(experiments, settings, progress, root, store, services)
            try:
                session.measure()
            except KeyboardInterrupt:
                interrupted = True
                session.keep_rounds()
        run = store.finish(evaluate_claims(store.run), interrupted=interrupted)
    return Finished(run, store.path, session.failures, interrupted)


def _open_store(experiments: Sequence[Experiment], settings: Settings, root: RunRoot) -> RunStore:
    """Make a new run, or open the interrupted one. Raises UsageError where that was made by other code or elsewhere."""
    commit, machine = environment.commit_of(settings.checkout), fingerprint()
    if settings.resume is None:
        facts = environment.volatile_facts(root.path)
        facts["sections"] = [experiment.section for experiment in experiments]
        return RunStore.create(
            settings.results, machine, settings.profile.name, commit=commit.hash, dirty=commit.dirty,
            seed=settings.seed, versions=environment.versions(), environment=facts,
        )  # fmt: skip
    store = RunStore.resume(settings.resume)
    for what, here, there in (
        ("machine", machine.machine_id, store.run.machine_id),
        (
            "commit",
            f"{commit.hash[:7]}{'+' * commit.dirty}",
            f"{store.run.commit[:7]}{'+' * store.run.dirty}",
        ),
        ("file system", mount_of(root.path).file_system, store.run.environment.get("file_system")),
    ):
        if here != there:
            raise UsageError(
                f"{store.run.run_id} was begun with {what} {there}, this is {here}: start a new run"
            )
    return store


class _Session:
    """The passes of one run, in order, and what failed in them."""

    def __init__(
        self,
        experiments: Sequence[Experiment],
        settings: Settings,
        progress: RunProgress,
        root: RunRoot,
        store: RunStore,
        services: SharedServices,
    ) -> None:
        self._experiments, self._settings, self._progress = experiments, settings, progress
        self._root, self._store = root, store
        specifications: list[Benchmark | Probe] = []
        for experiment in experiments:
            specifications += [*experiment.benchmarks, *experiment.probes]
        self._runner = Runner(
            specifications,
            settings.profile,
            root,
            seed=settings.seed,
            progress=progress,
            search_path=settings.search_path,
            services=services,
        )
        if settings.resume is not None:
            self._runner.restore(store.run.all_measurements(), store.load_pyperf())
        self._done = {m.name for m in store.run.all_measurements() if m.failure is None}
        self._failed_passes: list[Measurement] = []

    def measure(self) -> None:
        """Run the rounds first, then latency, then system calls."""
        self._runner.run(after_round=self.keep_rounds, seconds_after=self._seconds_of_passes())
        self._pass("latency", [b for e in self._experiments for b in e.latency], self._latency)
        self._pass("system calls", [b for e in self._experiments for b in e.syscalls], self._syscalls)

    def _seconds_of_passes(self) -> float:
        """Return what the passes behind the rounds take at most."""
        profile = self._settings.profile
        latency = sum(
            min(profile.latency_seconds, profile.latency_samples_max * _SYNC_SECONDS)
            if benchmark.durability == "survives_power_loss"
            else _PASS_SECONDS
            for experiment in self._experiments
            for benchmark in experiment.latency
        )
        return latency + _PASS_SECONDS * sum(len(experiment.syscalls) for experiment in self._experiments)

    def keep_rounds(self) -> None:
        """Store what the rounds have collected so far: a process that is killed loses one round at most."""
        self._store.put(self._runner.measurements())
        self._store.add_facts({ROUNDS_TAKEN: self._runner.rounds_taken()})
        for key, samples in self._runner.arrays().items():
            self._store.add_latency(key, samples)
        for name, text in self._runner.flame_graphs().items():
            self._store.add_flame_graph(name, text)
        suite = self._runner.suite()
        if suite is not None:
            self._store.attach_pyperf(suite)

    @property
    def failures(self) -> list[str]:
        """Benchmark and reason of all that failed, but for what the limits of this machine explain."""
        beyond = self._runner.beyond_this_machine()
        failed = [m for m in self._runner.measurements() if m.failure is not None and m.name not in beyond]
        return [f"{m.name}: {m.failure}" for m in (*failed, *self._failed_passes)]

    def _keep(self, measurement: Measurement) -> None:
        self._store.put([measurement])
        if measurement.failure is not None:
            self._failed_passes.append(measurement)
            self._progress.say(f"FAILED {measurement.name}: {measurement.failure}")

    def _pass(self, title: str, benchmarks: list[Benchmark], step: Callable[[Benchmark], None]) -> None:
        benchmarks = [benchmark for benchmark in benchmarks if benchmark.name not in self._done]
        if not benchmarks:
            return
        random.Random(f"{self._settings.seed}/{title}").shuffle(benchmarks)
        self._progress.phase(title, len(benchmarks), None)
        for done, benchmark in enumerate(benchmarks, 1):
            step(benchmark)
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
            self._store.put([_uncounted(benchmark, str(reason))])
        except CometbenchError as error:
            self._keep(_uncounted(benchmark, str(error)))


def _introduction(experiments: Sequence[Experiment], settings: Settings) -> str:
    mount = mount_of(settings.directory)
    where = f"{mount.file_system}{' (memory, not a disk)' if mount.is_memory else ''}"
    sections = ", ".join(experiment.section for experiment in experiments)
    count = sum(len(experiment.benchmarks) + len(experiment.probes) for experiment in experiments)
    asked = f"{count} benchmarks and probes of {sections}"
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
