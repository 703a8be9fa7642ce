"""The hot loop and its accounts: stretches of marked work, and nothing between them counts.

Invariant: time is taken only around `marked_hot_loop`, whose name a profile's stacks are chosen by.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from cometbench.profiling.time_budget import AccountReader, Accounts
from cometbench.profiling.work import Work

MARKER = "marked_hot_loop"
STRETCH_S = 0.02


def marked_hot_loop(work: Work, prepared: Any) -> None:
    """Run one stretch of work."""
    work.run(prepared)


class Spent(NamedTuple):
    """What the stretches took: accounts, calls, time and runs of the garbage collector in them, their times (CLOCK_MONOTONIC, ns)."""

    accounts: Accounts
    calls: int
    collections: int
    collecting_ns: int
    stretches: list[tuple[int, int]]


class HotLoop:
    """Runs a piece of work in stretches of about 20 ms; the first ones find out how many calls that is."""

    def __init__(self, work: Work) -> None:
        self._work, self._reader = work, AccountReader()
        self._calls = self._calls_of_a_stretch()

    def run(self, enough: Callable[[float], bool]) -> Spent:
        """Run stretches until `enough` of the seconds spent in them, the run queue left out down to a quarter of the wall time.

        A busy machine thus takes longer to profile, up to four times, and not fewer ticks of a thread that hardly gets a CPU.
        """
        accounts, calls, stretches = Accounts(), 0, []
        with _Collector() as collector:
            while not enough(max(accounts.wall_ns - accounts.run_queue_ns, accounts.wall_ns / 4) / 1e9):
                prepared = self._work.prepare(self._calls)
                began = time.monotonic_ns()
                before = self._reader.read()
                collector.counting = True
                marked_hot_loop(self._work, prepared)
                collector.counting = False
                accounts = accounts.plus(self._reader.read().since(before))
                stretches.append((began, time.monotonic_ns()))
                calls += self._calls
        return Spent(accounts, calls, collector.runs, collector.spent_ns, stretches)

    def between_marks(self, calls: int, begin: Callable[[], None], end: Callable[[], None]) -> None:
        """Run so many calls, and nothing else, between `begin` and `end`."""
        prepared = self._work.prepare(calls)
        begin()
        marked_hot_loop(self._work, prepared)
        end()

    def close(self) -> None:
        """Release the accounts; the work is its owner's."""
        self._reader.close()

    def _calls_of_a_stretch(self) -> int:
        calls = 1
        while True:
            prepared = self._work.prepare(calls)
            started = time.perf_counter()
            marked_hot_loop(self._work, prepared)
            if time.perf_counter() - started >= STRETCH_S / 2 or calls >= self._work.calls_max:
                return calls
            calls = min(2 * calls, self._work.calls_max)


class _Collector:
    """Times the garbage collector while `counting`."""

    def __init__(self) -> None:
        self.counting, self.runs, self.spent_ns, self._started = False, 0, 0, 0

    def __enter__(self) -> Self:
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._started = time.perf_counter_ns()
        elif self.counting:
            self.runs += 1
            self.spent_ns += time.perf_counter_ns() - self._started
