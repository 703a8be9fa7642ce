"""Take the time budget of a piece of work that is open in a hot process, and the samples of py-spy beside it."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from math import sqrt
from pathlib import Path
from typing import NamedTuple

from cometbench.errors import CannotMeasureError
from cometbench.profiling import kernel_split, py_spy
from cometbench.profiling.hot_loop import Spent
from cometbench.profiling.hot_process import HotProcess
from cometbench.profiling.kernel_split import Split
from cometbench.profiling.time_budget import TimeBudget, time_budget

# The fewest that Linux is built with on servers and desktops; where there are more, the interval is narrower.
_TICKS_A_SECOND = 250
_PERF_SECONDS_MIN, _PERF_SECONDS_MAX = 0.3, 3.0


class Taken(NamedTuple):
    """A budget, what it was made of, how its kernel time was divided, and what the thread was seen blocked on."""

    budget: TimeBudget
    spent: Spent
    split: Split
    waits: Counter[str]

    @property
    def tick_half_width(self) -> float:
        """Half of the 95 % interval of a share of CPU time that ticks divided, points, at its widest (half and half)."""
        ticks = max(self.spent.accounts.on_cpu_ns * _TICKS_A_SECOND / 1e9, 1.0)
        return float(100 * 1.96 * sqrt(0.25 / ticks))

    def percent_of_wall(self, ns: float) -> float:
        """Return a time as a share of the hot thread's wall time."""
        return 100.0 * ns / self.spent.accounts.wall_ns


class Profiled(NamedTuple):
    """py-spy's shares of the hot loop, the stacks behind them, and those of the log's helper thread.

    The helper runs on another CPU than py-spy, so its stacks say what it does, and not for how long.
    """

    shares: py_spy.Shares
    stacks: list[py_spy.Stack]
    helper: list[py_spy.Stack]
    errors: int


def hot_cpu() -> int:
    """Return the CPU for the hot thread: the last one this process may use, which interrupts land on least often."""
    return max(os.sched_getaffinity(0))


def take_budget(process: HotProcess, seconds: float, *, with_perf: bool = True) -> Taken:
    """Spend so many seconds unprofiled; where page faults matter, let perf divide the kernel time of a second stretch."""
    process.waits.clear()
    spent = process.run(seconds)
    waits = Counter(process.waits)
    split = kernel_split.counted_split(spent.accounts, process.fault_ns)
    if with_perf and kernel_split.faults_matter(spent.accounts, process.fault_ns):
        split = _ask_perf(process, seconds, spent, split)
    return Taken(time_budget(spent.accounts, split.fault_share), spent, split, waits)


def _ask_perf(process: HotProcess, seconds: float, spent: Spent, counted: Split) -> Split:
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "perf.data"
        try:
            process.hold()
            try:
                limit = min(max(seconds, _PERF_SECONDS_MIN), _PERF_SECONDS_MAX)
                kernel_split.record_kernel(process.thread, limit, data)
            finally:
                held = process.release()
            text = kernel_split.read_samples(data)
        except CannotMeasureError as reason:
            return counted._replace(way=f"{counted.way} ({reason})")
    samples = kernel_split.count_kernel_samples(text, held.stretches)
    if samples.syscalls + samples.faults < kernel_split.SAMPLES_MIN:
        return counted
    return kernel_split.sampled_split(samples, spent.accounts, process.fault_ns)


def take_profile(process: HotProcess, seconds: float) -> Profiled:
    """Sample the hot loop with py-spy. Raises CannotMeasureError where it may not, or with too few samples or too many errors."""
    assert process.cpu is not None, "py-spy is pinned to the worker's CPU"
    process.hold()
    try:
        recording = py_spy.record(process.pid, process.cpu, seconds)
    finally:
        process.release()
    stacks = py_spy.parse_collapsed(recording.collapsed)
    hot = py_spy.hot_stacks(stacks)
    return Profiled(py_spy.shares(hot), hot, py_spy.helper_stacks(stacks), recording.errors)
