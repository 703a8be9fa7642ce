"""A rate kept up over time: batches over shards are due at the offered rate, and each second is judged by what it acknowledged.

Config: `offered_per_s` and `required_per_s` in entries, `shards`, and the engine subject's keys. Values: `rate` in all,
`short_seconds` (share of the seconds that acknowledged less than is required; a run shorter than a second counts as one), and
`response`: a batch's time from when it was due. Retention may remove what was verified by its count alone; everything kept is
compared.
"""

from __future__ import annotations

import shutil
from array import array
from time import perf_counter_ns, sleep
from typing import Any

import cometlog
from cometbench._native import first_mismatch
from cometbench.errors import CannotMeasureError
from cometbench.histogram import Histogram
from cometbench.open_loop import NS, poisson_schedule
from cometbench.probe import Outcome, Task
from cometbench.profiles import LONG_RUN_FREE_BYTES
from cometbench.subjects.engine import chunks_of, engine_config
from cometbench.verification import Finding
from cometbench.workloads import batches_of, build_pool, pool_size


def measure(task: Task) -> Outcome:
    """Offer the load, then read back what is kept."""
    config, batch = task.probe.config, task.probe.batch
    free = shutil.disk_usage(task.directory).free
    if free < LONG_RUN_FREE_BYTES:
        raise CannotMeasureError(
            f"needs {LONG_RUN_FREE_BYTES >> 30} GiB free in the bench directory, has {free >> 30}"
        )
    offsets = poisson_schedule(float(config["offered_per_s"]) / batch, task.seconds, task.seed)
    pool = build_pool(task.probe.workload, pool_size(batch), task.seed)
    items = batches_of(pool, batch)
    streams = [f"events:v1:shard:{shard:04d}" for shard in range(int(config["shards"]))]
    with cometlog.open(task.directory / "log", engine_config(config)) as client:
        begin, ended = _offer([client.writer(stream) for stream in streams], items, offsets)
    counts = [batch * len(offsets[shard :: len(streams)]) for shard in range(len(streams))]
    finding, kept = _verify(task, streams, counts, pool)
    seconds = task.seconds if not ended else max(task.seconds, (ended[-1] - begin) / NS)
    per_second = acknowledged_per_second([at - begin for at in ended], batch, seconds)
    short = sum(count < float(config["required_per_s"]) for count in per_second)
    response = Histogram.of(at - begin - due for at, due in zip(ended, offsets, strict=True))
    values = {
        "rate": sum(counts) / seconds,
        "short_seconds": short / len(per_second),
        "response": response.quantile(50),
    }
    extra = {
        "trials": float(len(per_second)),
        "slowest_second_per_s": min(per_second),
        "kept_entries": float(kept),
    }
    return Outcome(values, finding, extra, histograms={"response": response})


def acknowledged_per_second(ended_ns: list[int], batch: int, seconds: float) -> list[float]:
    """Return entries per second of each whole second, by when their batch was acknowledged; of the whole where it is shorter."""
    whole = int(seconds)
    if whole < 1:
        return [len(ended_ns) * batch / seconds]
    counts = [0.0] * whole
    for at in ended_ns:
        if at < whole * NS:
            counts[at // NS] += batch
    return counts


def _offer(writers: list[Any], items: list[Any], offsets: array[int]) -> tuple[int, array[int]]:
    """Append each batch when it is due, to the shards in turn; the start, and when each was acknowledged."""
    ended = array("Q", bytes(8 * len(offsets)))
    begin = perf_counter_ns()
    for position, offset in enumerate(offsets):
        ahead_ns = begin + offset - perf_counter_ns()
        if ahead_ns > 0:
            sleep(ahead_ns / NS)
        shard = position % len(writers)
        writers[shard].extend(items[position // len(writers) % len(items)])
        ended[position] = perf_counter_ns()
    return begin, ended


def _verify(task: Task, streams: list[str], counts: list[int], pool: list[bytes]) -> tuple[Finding, int]:
    """Every entry was appended in its place of the pool; returns the finding, and how many entries are kept."""
    found = kept = 0
    with cometlog.open(task.directory / "log", read_only=True) as client:
        for stream, count in zip(streams, counts, strict=True):
            found += client.first_entry(stream)
            for numbers, entries in chunks_of(client, stream):
                assert numbers is not None
                at = first_mismatch(entries, pool, numbers.start)
                if at >= 0:
                    return Finding(
                        "failed", sum(counts), found + at, f"{stream}: entry {numbers[at]} altered"
                    ), kept
                found, kept = found + len(entries), kept + len(entries)
            if client.next_entry(stream) != count:
                detail = f"{stream}: ends before entry {client.next_entry(stream)}, {count} were acknowledged"
                return Finding("failed", sum(counts), found, detail), kept
    status, detail = (
        ("ok", "") if found == sum(counts) else ("failed", "entries are missing between segments")
    )
    return Finding(status, sum(counts), found, detail), kept
