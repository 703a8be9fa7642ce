"""What an acknowledgement costs: time, and allocations, of one entry, of a batch over shards, and of what a read returned.

An allocation is one that Python's allocators saw during a call, freed again or not: `tracemalloc`'s peak is set back before each
call and compared with what is left after it; blocks that stay are counted by `sys.getallocatedblocks`. Times come from a pass
without either. What C libraries allocate by themselves is not seen.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from time import perf_counter_ns
from typing import Any

import cometlog
from cometbench._native import empty_call
from cometbench.probe import Outcome, Task
from cometbench.verification import Finding
from cometbench.workloads import build_pool

SHARDS = 4
COUNTED = 1_000
_GROUP = "bench"
_STREAMS = [f"ack:v1:shard:{shard:04d}" for shard in range(SHARDS)]
# Of each shard: what is acknowledged one by one, what in ranges, and what read batch by read batch.
_SINGLES, _RANGES, _READS = 3 * COUNTED, 2 * COUNTED, 200
_RANGE_ENTRIES, _READ_ENTRIES = 2, 2
_ENTRIES = _SINGLES + _RANGES * _RANGE_ENTRIES + _READS * _READ_ENTRIES


def measure(task: Task) -> Outcome:
    """Acknowledge everything that the shards hold; the group's positions say at the end how much that was."""
    pool = build_pool("json_line", _ENTRIES, task.seed)
    with cometlog.open(task.directory / "log") as client:
        for stream in _STREAMS:
            client.append(stream, pool)
        consumer = client.consumer(_GROUP)
        # Only what was delivered is acknowledged the short way.
        delivered = [consumer.read_one(stream, _ENTRIES - _READS * _READ_ENTRIES) for stream in _STREAMS]
        positions = [consumer.position(batch.stream) for batch in delivered]
        values = _one_by_one(positions) | _over_shards(positions) | _as_read(consumer)
        settled = sum(position.follow() for position in positions)
        lag = sum(consumer.lag(stream) for stream in _STREAMS)
    sound = settled == SHARDS * _ENTRIES and lag == 0
    detail = "" if sound else f"group {_GROUP} stands at {settled} in all and lags by {lag}"
    finding = Finding("ok" if sound else "failed", SHARDS * _ENTRIES, settled, detail)
    return Outcome(values, finding, {"trials": float(COUNTED)})


def allocations(call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> float:
    """Return how many of these calls allocated, blocks that stayed included."""
    nothing = _allocations(empty_call, [(None,)] * len(arguments))
    return max(0.0, _allocations(call, arguments) - nothing)


def _allocations(call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> float:
    passing = 0
    now = peak = 0
    tracemalloc.start()
    try:
        blocks = sys.getallocatedblocks()
        for given in arguments:
            tracemalloc.reset_peak()
            call(*given)
            now, peak = tracemalloc.get_traced_memory()
            passing += peak > now
        return passing + max(0, sys.getallocatedblocks() - blocks)
    finally:
        tracemalloc.stop()


def _one_by_one(positions: list[Any]) -> dict[str, float]:
    numbers = list(range(_SINGLES))
    ack = positions[0].ack
    timed = numbers[: _SINGLES - COUNTED]
    started = perf_counter_ns()
    for number in timed:
        ack(number)
    ended = perf_counter_ns()
    counted = allocations(ack, [(number,) for number in numbers[_SINGLES - COUNTED :]])
    for position in positions[1:]:
        position.ack_range(0, _SINGLES)
    return {"time_one": (ended - started) / len(timed), "allocations_one": counted / COUNTED}


def _over_shards(positions: list[Any]) -> dict[str, float]:
    edges = [_SINGLES + number * _RANGE_ENTRIES for number in range(_RANGES + 1)]
    ranges = list(pairwise(edges))
    calls = [position.ack_range for position in positions]
    started = perf_counter_ns()
    for start, stop in ranges[: _RANGES - COUNTED]:
        for ack_range in calls:
            ack_range(start, stop)
    ended = perf_counter_ns()
    counted = sum(allocations(ack_range, ranges[_RANGES - COUNTED :]) for ack_range in calls)
    return {"time_batch": (ended - started) / (_RANGES - COUNTED), "allocations_batch": counted / COUNTED}


def _as_read(consumer: cometlog.Consumer) -> dict[str, float]:
    """Through the consumer, which is given the batch that it delivered."""
    for stream in _STREAMS[1:]:
        consumer.ack(consumer.read_one(stream, _READS * _READ_ENTRIES))
    batches = [(consumer.read_one(_STREAMS[0], _READ_ENTRIES),) for _ in range(_READS)]
    return {"allocations_read_batch": allocations(consumer.ack, batches) / len(batches)}
