"""What an experiment is: its question, method and limitations in words, its benchmarks as data.

Its finding as text.

Experiments live in the checkout's `experiments` package, one module per section, each with a module-level
EXPERIMENT.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cometbench.benchmark import Benchmark
from cometbench.checkout import make_importable
from cometbench.errors import UsageError, unknown
from cometbench.model import Run
from cometbench.probe import Probe

_Spec = TypeVar("_Spec", Benchmark, Probe)
_WORKLOAD_KEYS = ("workload", "dictionary_workload")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One section.

    `benchmarks` and `probes` take turns in the rounds; `latency` lists benchmarks that get a pass of
    per-operation samples, `syscalls` those whose system calls are counted; `finding` turns a run into
    sentences, each with its figures.
    """

    section: str
    title: str
    question: str
    method: str
    limitations: str
    benchmarks: tuple[Benchmark, ...]
    finding: Callable[[Run], list[str]]
    probes: tuple[Probe, ...] = ()
    latency: tuple[Benchmark, ...] = ()
    syscalls: tuple[Benchmark, ...] = ()

    def with_workload(self, workload: str) -> Experiment:
        """Return the same experiment on other entries; what appends none (floors) stays.

        A probe that appends several workloads names them in its config: `workload`, `<variant>/workload`, `dictionary_workload`.
        """

        def replaced(one: _Spec) -> _Spec:
            config = {
                key: workload if key.rpartition("/")[2] in _WORKLOAD_KEYS else value
                for key, value in one.config.items()
            }
            own = workload if one.workload not in ("", "none") else one.workload
            return dataclasses.replace(one, workload=own, config=config)

        return dataclasses.replace(
            self,
            benchmarks=tuple(map(replaced, self.benchmarks)),
            probes=tuple(map(replaced, self.probes)),
            latency=tuple(map(replaced, self.latency)),
            syscalls=tuple(map(replaced, self.syscalls)),
        )

    def measurement_names(self) -> list[str]:
        """Names of all measurements that a run of this experiment yields."""
        names = [benchmark.name for benchmark in (*self.benchmarks, *self.latency, *self.syscalls)]
        return names + [name for probe in self.probes for name in probe.measurement_names()]


def load_experiments(checkout: Path, extra: Sequence[Path] = ()) -> dict[str, Experiment]:
    """All experiments by section, floors first: the checkout's.

    Then those of the modules in the `extra` directories.

    Raises UsageError when a section is defined twice.
    """
    make_importable(checkout, *extra)
    package = importlib.import_module("experiments")
    modules = [f"experiments.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    modules += [module.name for module in pkgutil.iter_modules([str(directory) for directory in extra])]
    found: dict[str, Experiment] = {}
    for name in modules:
        experiment = getattr(importlib.import_module(name), "EXPERIMENT", None)
        if not isinstance(experiment, Experiment):
            continue
        if found.setdefault(experiment.section, experiment) is not experiment:
            raise UsageError(f"section {experiment.section!r} of {name} exists already")
    return dict(sorted(found.items(), key=lambda item: item[0] != "floors"))


def choose(experiments: dict[str, Experiment], sections: Sequence[str]) -> list[Experiment]:
    """Pick the experiments of these sections (all where none is named); floors always come along.

    Raises UsageError naming the unknown section and those that exist.
    """
    for section in sections:
        if section not in experiments:
            raise unknown("section", section, list(experiments))
    wanted = {*sections, "floors"} if sections else set(experiments)
    return [item for section, item in experiments.items() if section in wanted]
