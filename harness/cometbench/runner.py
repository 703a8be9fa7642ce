"""The interleaved runner: per round, in a shuffled seeded order, one worker per benchmark and probe.

Drift of the machine thus falls on all of a round alike, and ratios pair workers of one round. Every worker verifies the log it
wrote; an item whose log differs fails and gets no further worker.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import numpy as np
import numpy.typing as npt
import pyperf

from cometbench.benchmark import Benchmark
from cometbench.benchmark_item import BenchmarkItem
from cometbench.budget import Group, allot
from cometbench.errors import CannotMeasureError, CometbenchError
from cometbench.model import Measurement
from cometbench.probe import Probe
from cometbench.probe_item import ProbeItem
from cometbench.processes import WorkerFailedError
from cometbench.profiles import Profile
from cometbench.progress import RunProgress
from cometbench.round_item import RoundItem, Workplace
from cometbench.run_root import RunRoot
from cometbench.services.shared import SharedServices


class Runner:
    """Runs benchmarks and probes under one profile in one run root; `items` hold what there is at any time."""

    def __init__(
        self,
        specifications: Sequence[Benchmark | Probe],
        profile: Profile,
        root: RunRoot,
        *,
        seed: int,
        progress: RunProgress,
        search_path: Sequence[Path] = (),
        services: SharedServices | None = None,
    ) -> None:
        shared = services or SharedServices(root.path / "services", progress.say)
        workplace = self._workplace = Workplace(profile, root, seed, search_path, shared)
        self.items: dict[str, RoundItem] = {
            one.name: ProbeItem(one, workplace) if isinstance(one, Probe) else BenchmarkItem(one, workplace)
            for one in specifications
        }
        if len(self.items) != len(specifications):
            raise CometbenchError("benchmark names must be unique in a run")
        self._seed, self._progress, self._profile = seed, progress, profile
        self._seconds_after = 0.0

    def restore(self, measurements: Sequence[Measurement], suite: pyperf.BenchmarkSuite | None) -> None:
        """Take up what an interrupted run has stored; rounds that have a value are not run again."""
        stored = {measurement.name: measurement for measurement in measurements}
        raw = {one.get_name(): one.get_runs() for one in suite.get_benchmarks()} if suite is not None else {}
        for item in self.items.values():
            item.restore(stored, raw)

    def run(self, after_round: Callable[[], None] = lambda: None, seconds_after: float = 0.0) -> None:
        """Run the rounds, as many as fit the profile's time less `seconds_after`; call `after_round` behind each.

        Failures are collected, not raised.
        """
        self._seconds_after = seconds_after
        until = monotonic() + self._profile.seconds_max - seconds_after
        round_number = 0
        try:
            while round_number < self._rounds():
                self._round(round_number)
                self._workplace.fork_server.close()
                after_round()
                round_number += 1
                self._allot(until - monotonic(), round_number)
        finally:
            self._workplace.fork_server.close()

    def rounds_taken(self) -> list[str]:
        """Say how many rounds each group got, of how many, and why not all."""
        limit = f"as many as fit {self._profile.seconds_max:,.0f} s"
        lines = []
        for group, items in self._groups().items():
            sound = [item for item in items if not item.failure]
            if not sound or sound[0].rounds_wanted == 1:
                continue
            taken, wanted = max(len(item.rounds_done()) for item in sound), sound[0].rounds_wanted
            why = "" if taken == wanted else f", {limit if taken > sound[0].rounds_least else 'the least'}"
            lines.append(f"{group.partition(',')[0]}: {taken} of {wanted} rounds{why}")
        return list(dict.fromkeys(lines))

    def measurements(self) -> list[Measurement]:
        """Return everything that has a value or a failure, in the order given."""
        return [measurement for item in self.items.values() for measurement in item.measurements()]

    def suite(self) -> pyperf.BenchmarkSuite | None:
        """Return the raw runs as a pyperf suite, or None where nothing was measured."""
        benchmarks = [pyperf.Benchmark(runs) for item in self.items.values() if (runs := item.raw_runs())]
        return pyperf.BenchmarkSuite(benchmarks) if benchmarks else None

    def arrays(self) -> dict[str, npt.NDArray[np.uint64]]:
        """Return all raw samples by key."""
        return {key: array for item in self.items.values() for key, array in item.arrays().items()}

    def flame_graphs(self) -> dict[str, str]:
        """Return all flame graphs by file name."""
        return {name: text for item in self.items.values() for name, text in item.flame_graphs().items()}

    def beyond_this_machine(self) -> set[str]:
        """Names of the measurements that failed because the machine does not let them be made."""
        return {m.name for item in self.items.values() if item.cannot for m in item.measurements()}

    def _rounds(self) -> int:
        return max((item.rounds for item in self.items.values() if not item.failure), default=0)

    def _round(self, number: int) -> None:
        items = [
            item
            for item in self.items.values()
            if item.rounds > number and not item.failure and number not in item.rounds_done()
        ]
        if not items:
            return
        random.Random(f"{self._seed}/round/{number}").shuffle(items)
        self._progress.phase(
            f"round {number + 1} of {self._rounds()}", len(items), self._seconds_left(number - 1, [])
        )
        for order, item in enumerate(items):
            self._guarded(item, lambda item=item, order=order: item.measure(number, order))  # type: ignore[misc]
            left = self._seconds_left(number, items[order + 1 :])
            self._progress.advance(order + 1, len(items), item.name, left)

    def _seconds_left(self, rounds_done_index: int, rest_of_round: Sequence[RoundItem]) -> float:
        later = sum(
            max(item.rounds - rounds_done_index - 1, 0) * item.turn_seconds
            for item in self.items.values()
            if not item.failure
        )
        in_all = later + sum(item.turn_seconds for item in rest_of_round)
        # Before the first round has shown what turns take, there may be wanted more than the profile's time holds.
        return min(in_all, self._profile.seconds_max) + self._seconds_after

    def _groups(self) -> dict[str, list[RoundItem]]:
        groups: dict[str, list[RoundItem]] = {}
        for item in self.items.values():
            groups.setdefault(item.group, []).append(item)
        return groups

    def _allot(self, seconds: float, done: int) -> None:
        """Settle anew how many rounds each group gets, by what its turns have taken so far."""
        groups = {name: [i for i in items if not i.failure] for name, items in self._groups().items()}
        rounds = allot(
            [
                Group(
                    name,
                    items[0].rounds_least,
                    items[0].rounds_wanted,
                    min(done, items[0].rounds),
                    sum(item.turn_seconds for item in items),
                )
                for name, items in groups.items()
                if items and items[0].rounds >= done
            ],
            seconds,
        )
        for name, number in rounds.items():
            for item in groups[name]:
                item.rounds = number

    def _guarded(self, item: RoundItem, step: Callable[[], None]) -> None:
        started = monotonic()
        try:
            step()
        except CannotMeasureError as reason:
            item.failure, item.cannot = str(reason), True
        except (WorkerFailedError, CometbenchError, OSError) as error:
            item.failure = str(error)
        if item.failure:
            self._progress.say(f"{'not measured' if item.cannot else 'FAILED'} {item.name}: {item.failure}")
        item.took(monotonic() - started)
