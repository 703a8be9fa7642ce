"""Open-loop load: operations are due when a seeded Poisson schedule says so, whether or not the one before has returned.

Service time runs from the start of an operation to its end, response time from when it was due: what a stall makes the operations
behind it wait shows in the response alone. Standard library only, because measuring processes import it.
"""

from __future__ import annotations

import random
import threading
from array import array
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, NamedTuple

from cometbench._native import empty_call
from cometbench.histogram import Histogram
from cometbench.measuring import Writing

NS = 1_000_000_000
_CHUNK_CALLS = 2_000
_OVERHEAD_CALLS = 20_000
# The first operation is due so long after the loop was entered.
_LEAD_NS = 1_000_000


class Operations(NamedTuple):
    """Clock readings of each operation in nanoseconds: when it was due, started and ended; and what the last one returned."""

    intended: array[int]
    started: array[int]
    ended: array[int]
    last_result: Any

    def service(self) -> Histogram:
        """From start to end."""
        return Histogram.of(map(int.__sub__, self.ended, self.started))

    def response(self) -> Histogram:
        """From when it was due to its end."""
        return Histogram.of(map(int.__sub__, self.ended, self.intended))


def poisson_schedule(rate_per_second: float, seconds: float, seed: int | str) -> array[int]:
    """Return offsets in nanoseconds, ascending, of a Poisson process of that rate: the same for the same arguments."""
    source, mean_ns = random.Random(seed), NS / rate_per_second
    offsets = array("Q")
    at, end = 0.0, seconds * NS
    while (at := at + source.expovariate(1.0) * mean_ns) < end:
        offsets.append(int(at))
    return offsets


def drive(
    call: Callable[[Any], Any],
    items: Sequence[Any],
    offsets: Sequence[int],
    clock: Callable[[], int] = perf_counter_ns,
) -> Operations:
    """Call with each item so many nanoseconds from now, at once where that time is past; waiting is done awake, on the clock."""
    started, ended = (array("Q", bytes(8 * len(items))) for _ in range(2))
    result = None
    begin = clock() + _LEAD_NS
    for position, (item, offset) in enumerate(zip(items, offsets, strict=True)):
        due = begin + offset
        now = clock()
        while now < due:
            now = clock()
        result = call(item)
        ended[position] = clock()
        started[position] = now
    return Operations(array("Q", [begin + offset for offset in offsets]), started, ended, result)


def timer_overhead_ns() -> float:
    """Median service time of an operation that does nothing: what two clock readings and a call add to each."""
    operations = drive(empty_call, [None] * _OVERHEAD_CALLS, [0] * _OVERHEAD_CALLS)
    return operations.service().quantile(50)


class LoadGenerator:
    """One process's writer under load. `sync_ms` above 0 syncs the subject from another thread, so often."""

    def __init__(self, writing: Writing, batch: int, sync_ms: float = 0.0) -> None:
        self._writing = writing
        self._call = writing.subject.append_call(batch)
        self._syncs = _Syncs(writing.subject.settle, sync_ms) if sync_ms else None

    def capacity(self, seconds: float) -> float:
        """Append back to back, as fast as the measuring loop goes; operations per second."""
        calls, busy_ns = 0, 0
        while busy_ns < seconds * NS:
            operations = self._appended(self._writing.take(_CHUNK_CALLS), [0] * _CHUNK_CALLS)
            busy_ns += operations.ended[-1] - operations.started[0]
            calls += _CHUNK_CALLS
        return calls * NS / busy_ns

    def load(self, rate_per_second: float, seconds: float, seed: int | str) -> Operations:
        """Append as a Poisson schedule says."""
        offsets = poisson_schedule(rate_per_second, seconds, seed)
        items = self._writing.take(len(offsets))
        return self._appended(items, offsets)

    def idle(self, rate_per_second: float, seconds: float, seed: int | str) -> Operations:
        """Do nothing at the same pace: the stall meter, which shows what the platform adds by itself."""
        offsets = poisson_schedule(rate_per_second, seconds, seed)
        return drive(empty_call, [None] * len(offsets), offsets)

    def close(self) -> None:
        """End the syncs and leave the subject."""
        if self._syncs is not None:
            self._syncs.end()
        self._writing.subject.close()

    def _appended(self, items: list[Any], offsets: Sequence[int]) -> Operations:
        operations = drive(self._call, items, offsets)
        if items:
            self._writing.count(len(items), operations.last_result)
        return operations


class _Syncs:
    """A thread that syncs again and again; the first error ends it and comes out of `end`."""

    def __init__(self, sync: Callable[[], object], interval_ms: float) -> None:
        self._sync, self._interval_s = sync, interval_ms / 1000
        self._ending = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ending.wait(self._interval_s):
                self._sync()
        except Exception as error:  # carried to the thread that ends this one
            self._error = error

    def end(self) -> None:
        """Stop syncing."""
        self._ending.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
