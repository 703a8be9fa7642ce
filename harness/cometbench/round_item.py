"""What takes turns in the rounds, and the directory that each turn gets.

One turn is one worker process in a directory of its own, which is removed with it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyperf

from cometbench.benchmark import Benchmark
from cometbench.environment import mount_of
from cometbench.errors import CannotMeasureError
from cometbench.forking import ForkServer, Pool
from cometbench.model import Measurement
from cometbench.probe import Probe
from cometbench.processes import run_module
from cometbench.profiles import Profile
from cometbench.run_root import RunRoot
from cometbench.services.shared import SharedServices

# Until an item has run once: about what starting an interpreter and reading a small log back takes.
_WORKER_SECONDS_GUESS = 0.5


class Place(NamedTuple):
    """The directories of one turn; `outcome` is where the worker writes its JSON."""

    directory: Path
    bench: Path
    outcome: Path

    def read_outcome(self) -> dict[str, Any]:
        """Return what the worker wrote. Raises CannotMeasureError where that is the reason why there is nothing."""
        outcome: dict[str, Any] = json.loads(self.outcome.read_text())
        if "cannot" in outcome:
            raise CannotMeasureError(outcome["cannot"])
        return outcome


class Workplace:
    """Hands out places; knows what every turn of a run has in common."""

    def __init__(
        self,
        profile: Profile,
        root: RunRoot,
        seed: int,
        search_path: Sequence[Path],
        services: SharedServices,
    ) -> None:
        self.profile, self.seed, self.search_path, self.services = profile, seed, search_path, services
        self.file_system = mount_of(root.path).file_system
        self.fork_server = ForkServer(search_path)
        self._root = root
        self._places = 0

    def run(
        self, module: str, arguments: Sequence[str], place: Place, *, fresh: bool, pools: Sequence[Pool] = ()
    ) -> None:
        """Run a measuring process in its place, forked, or `fresh`: an interpreter of its own. Raises WorkerFailedError."""
        limit = self.profile.worker_seconds_max
        if fresh:
            run_module(module, arguments, limit, search_path=self.search_path)
        else:
            self.fork_server.run(module, arguments, limit, place.directory, pools)

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Make a place, and remove it afterwards."""
        directory = self._root.fresh(f"worker-{self._places:05d}")
        self._places += 1
        bench = directory / "bench"
        bench.mkdir()
        try:
            yield Place(directory, bench, directory / "outcome.json")
        finally:
            self._root.drop(directory)


def process_kind(specification: Benchmark | Probe) -> str:
    """Say how the measuring processes of a specification come to be."""
    return "a new interpreter" if specification.fresh else "forked, a new server each round"


class RoundItem(ABC):
    """A benchmark or a probe with what it has collected so far.

    `cannot` says that its failure is the machine's. `rounds` is how many it gets, at most `rounds_wanted`; `turn_seconds` what a turn
    is expected to take.
    """

    def __init__(self, specification: Benchmark | Probe, workplace: Workplace) -> None:
        profile = workplace.profile
        self.name, self.workplace = specification.name, workplace
        self.group = f"{specification.experiment}, {specification.rounds}"
        self.rounds_wanted, self.rounds_least = profile.rounds(specification), profile.least(specification)
        self.rounds = self.rounds_wanted
        self.failure: str | None = None
        self.cannot = False
        work = profile.probe_seconds * specification.seconds if isinstance(specification, Probe) else 0.0
        self.turn_seconds = _WORKER_SECONDS_GUESS + work
        self._turns = 0

    def took(self, seconds: float) -> None:
        """Note what a turn took: the first one calibrates, so the mean is that of the others once there are any."""
        others = max(self._turns - 1, 0)
        self.turn_seconds = (self.turn_seconds * others + seconds) / (others + 1)
        self._turns += 1

    @abstractmethod
    def rounds_done(self) -> set[int]:
        """Return the rounds that have a value already."""

    @abstractmethod
    def restore(self, stored: Mapping[str, Measurement], raw: Mapping[str, list[pyperf.Run]]) -> None:
        """Take up what an interrupted run has stored: measurements by name, raw runs by benchmark; failures are forgotten."""

    @abstractmethod
    def measure(self, round_number: int, order: int) -> None:
        """Take the turn: run one worker, keep its values, or set `failure` where its log was wrong."""

    @abstractmethod
    def measurements(self) -> list[Measurement]:
        """Return what was collected, or the failure; empty before the first turn."""

    def raw_runs(self) -> list[pyperf.Run]:
        """Return pyperf's raw runs, where pyperf measured."""
        return []

    def arrays(self) -> Mapping[str, npt.NDArray[np.uint64]]:
        """Return raw samples by the key under which they are stored."""
        return {}

    def flame_graphs(self) -> Mapping[str, str]:
        """Return flame graphs, collapsed stacks and SVG, by file name."""
        return {}
