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

from cometbench.benchmark import Benchmark
from cometbench.checkout import make_importable
from cometbench.errors import UsageError, unknown
from cometbench.model import Run


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One section.

    `latency` lists benchmarks that get a pass of per-operation samples, `syscalls` those whose system calls
    are counted; `finding` turns a run into sentences, each with its figures.
    """

    section: str
    title: str
    question: str
    method: str
    limitations: str
    benchmarks: tuple[Benchmark, ...]
    finding: Callable[[Run], list[str]]
    latency: tuple[Benchmark, ...] = ()
    syscalls: tuple[Benchmark, ...] = ()


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
