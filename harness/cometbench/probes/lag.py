"""Consumer lag and error rate of a writer at a steady rate and a consumer group in another process, as the engine states them.

Config: `entries_per_s`, and the engine subject's keys; batches are due by a Poisson schedule. Values: `lag_median` and `lag_max`,
of `Consumer.lag` read every millisecond by a third process; `error_percent`, the share of appends that raised one of the engine's
errors or an OSError. The consumer compares every entry that it is given with what was appended.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from threading import Timer
from time import monotonic, perf_counter_ns, sleep
from typing import Any

import cometlog
from cometbench._native import first_mismatch
from cometbench.crew import Crew
from cometbench.open_loop import NS, poisson_schedule
from cometbench.probe import Outcome, Task
from cometbench.subjects.engine import engine_config
from cometbench.verification import Finding
from cometbench.workloads import batches_of, build_pool, pool_size

GROUP = "shipper"
STREAM = "events:v1:shard:0000"
_SECONDS_MAX = 0.6
_CONSUMED_BATCH = 1000
_DRAIN_SECONDS_MAX = 20.0
_LOOK_SECONDS = 0.001


def measure(task: Task) -> Outcome:
    """Write and consume at once; done when the group has what was acknowledged to the writer."""
    seconds = min(task.seconds, _SECONDS_MAX)
    crew = Crew([partial(_Writer, task), partial(_Consumer, task), partial(_Onlooker, task)])
    count = len(_schedule(task, seconds)) * task.probe.batch
    answers = crew.call_each([("run", (seconds,)), ("run", (count, seconds)), ("run", (seconds,))])
    (appended, errors), (consumed, wrong), lags = answers
    crew.finish()
    attempts = appended // task.probe.batch + errors
    values = {
        "lag_median": float(median(lags)),
        "lag_max": float(max(lags)),
        "error_percent": 100 * errors / attempts,
    }
    sound = not wrong and consumed == appended
    detail = wrong or (
        "" if sound else f"{STREAM}: {appended} entries acknowledged, {consumed} delivered to {GROUP}"
    )
    extra = {"looks": float(len(lags)), "appends": float(attempts)}
    return Outcome(values, Finding("ok" if sound else "failed", appended, consumed, detail), extra)


def _schedule(task: Task, seconds: float) -> Any:
    return poisson_schedule(float(task.probe.config["entries_per_s"]) / task.probe.batch, seconds, task.seed)


def _pool(task: Task) -> list[bytes]:
    return build_pool(task.probe.workload, pool_size(task.probe.batch), task.seed)


class _Process:
    """A process with a client of its own."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.client = cometlog.open(task.directory / "log", engine_config(task.probe.config))

    def close(self) -> None:
        self.client.close()


class _Writer(_Process):
    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._items: list[Any] = list(batches_of(_pool(task), task.probe.batch))
        self._writer = self.client.writer(STREAM)

    def run(self, seconds: float) -> tuple[int, int]:
        """Entries acknowledged, and appends that raised."""
        appended = errors = 0
        begin = perf_counter_ns()
        for position, offset in enumerate(_schedule(self.task, seconds)):
            ahead_ns = begin + offset - perf_counter_ns()
            if ahead_ns > 0:
                sleep(ahead_ns / NS)
            try:
                appended += len(self._writer.extend(self._items[position % len(self._items)]))
            except (cometlog.CometlogError, OSError):
                errors += 1
        return appended, errors


class _Consumer(_Process):
    def run(self, count: int, seconds: float) -> tuple[int, str]:
        """Entries delivered, and what was wrong with the first that was not what was appended."""
        consumer, pool = self.client.consumer(GROUP), _pool(self.task)
        delivered, wrong = 0, ""

        def handle(batch: cometlog.ReadBatch) -> None:
            nonlocal delivered, wrong
            at = first_mismatch(batch.payloads(), pool, delivered)
            if at >= 0 and not wrong:
                wrong = f"{STREAM}: entry {batch.numbers[at]} was delivered altered or out of order"
            delivered += len(batch)
            if delivered >= count:
                consumer.stop()

        given_up = Timer(seconds + _DRAIN_SECONDS_MAX, consumer.stop)
        given_up.start()
        consumer.process(handle, STREAM, batch_size=_CONSUMED_BATCH)
        given_up.cancel()
        return delivered, wrong


class _Onlooker(_Process):
    def run(self, seconds: float) -> list[int]:
        """Lag of the group, millisecond by millisecond."""
        consumer = self.client.consumer(GROUP)
        lags = []
        until = monotonic() + seconds
        while monotonic() < until:
            lags.append(consumer.lag(STREAM))
            sleep(_LOOK_SECONDS)
        return lags
