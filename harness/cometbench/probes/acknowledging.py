"""Acknowledging entry after entry through the hot handle of a consumer group, beside an empty C call in the same loop."""

from __future__ import annotations

import gc
import sys
from array import array
from collections.abc import Callable
from statistics import median
from time import perf_counter_ns

import cometlog
from cometbench._native import empty_call
from cometbench.benchmark import STREAM
from cometbench.probe import Outcome, Task
from cometbench.probes.read_log import build_pool, compare, write_log
from cometbench.verification import Finding

ENTRIES = 100_000
_GROUP = "bench"


def acknowledge(task: Task) -> Outcome:
    """Return ns per acknowledgement and per empty call, and the memory blocks that a pass of acknowledgements left allocated."""
    pool = build_pool(task)
    numbers = list(range(ENTRIES))
    with write_log(task.directory / "log", pool, ENTRIES, 1000) as client:
        with client.consumer(_GROUP) as consumer:
            taken = {"ack": array("d"), "empty_call": array("d")}
            blocks: list[int] = []
            until = perf_counter_ns() + task.seconds * 1e9
            while perf_counter_ns() < until or not blocks:
                consumer.reset(STREAM, 0)
                batches = consumer.read(STREAM, ENTRIES)
                ack = consumer.position(STREAM).ack
                taken["empty_call"].append(_each(empty_call, numbers))
                blocks.append(_blocks_left_by(ack, numbers, taken["ack"]))
            finding = compare([payload for batch in batches for payload in batch.payloads()], pool, ENTRIES)
        if finding.status == "ok":
            finding = _is_acknowledged(client)
    values = {name: median(times) for name, times in taken.items()}
    return Outcome({**values, "blocks": float(max(blocks))}, finding, {"passes": float(len(blocks))})


def _blocks_left_by(call: Callable[[int], object], numbers: list[int], times: array[float]) -> int:
    """Like `_each`, into `times`; return how many memory blocks more are allocated afterwards than before."""
    counts = array("q", [0, 0])  # an int that is kept would be a block of its own
    times.append(0)
    counts[0] = sys.getallocatedblocks()
    times[-1] = _each(call, numbers)
    counts[1] = sys.getallocatedblocks()
    return counts[1] - counts[0]


def _each(call: Callable[[int], object], numbers: list[int]) -> float:
    """Call once for each number, without the collector; return ns per call."""
    gc.disable()
    try:
        started = perf_counter_ns()
        for number in numbers:
            call(number)
        return (perf_counter_ns() - started) / len(numbers)
    finally:
        gc.enable()


def _is_acknowledged(client: cometlog.Client) -> Finding:
    """Say whether another consumer of the group finds nothing left, and the position at the end."""
    with client.consumer(_GROUP) as consumer:
        left = consumer.lag(STREAM) + sum(map(len, consumer.read(STREAM)))
    if left:
        return Finding(
            "failed", ENTRIES, ENTRIES - left, f"stream {STREAM}: {left} entries were not acknowledged"
        )
    return Finding("ok", ENTRIES, ENTRIES)
