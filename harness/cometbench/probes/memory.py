"""Resident memory: of the index, of the compression buffers, and of a whole typical deployment."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cometlog
from cometbench import workloads
from cometbench.probe import Outcome, Task
from cometbench.probes.memory_use import anonymous_bytes, memory_use
from cometbench.probes.places import memory_directory
from cometbench.subjects.engine import chunks_of
from cometbench.verification import Appended, Finding, in_all, verify_entries
from cometlog.index import load_index
from cometlog.segment import Segment

SHARDS = 16
BOUNDARIES = 10_000
GROUP = "shipper"
_BOUNDARIES_PER_SECOND = 20_000
_LARGE_BATCH_BYTES = 4 << 20
_BATCH = 100
_BATCHES_PER_SECOND = 20


def index(task: Task) -> Outcome:
    """Probe function: bytes of one boundary on disk and in memory, and what 16 shards with 10,000 boundaries each take."""
    config = cometlog.Config.default().with_changes(indexing={"boundary_interval_entries": 1})
    streams = [f"index:v1:shard:{shard:04d}" for shard in range(SHARDS)]
    count = min(BOUNDARIES, int(_BOUNDARIES_PER_SECOND * task.seconds))
    pool = workloads.build_pool("json_shared", count, task.seed)
    with memory_directory() as memory:
        log = memory / "log"
        with cometlog.open(log, config) as client:
            for stream in streams:
                append = client.writer(stream).append
                for entry in pool:
                    append(entry)
        (first,) = (log / "index/v1/0000").glob("*.seg")
        on_disk = first.with_suffix(".idx").stat().st_size
        in_memory, loaded = _loaded_index_bytes(first)
        with cometlog.open(log, read_only=True) as client, _traced() as taken:
            last = [client.read(stream, start=count - 1, count=1).payloads() for stream in streams]
            all_shards = taken()
    found = sum(entries == pool[-1:] for entries in last)
    detail = "" if found == SHARDS else f"the last entry of {SHARDS - found} shards was not found"
    finding = Finding("failed" if detail else "ok", SHARDS, found, detail)
    values = {
        "disk_per_boundary": on_disk / loaded,
        "memory_per_boundary": in_memory / loaded,
        "shards16": float(all_shards),
    }
    return Outcome(values, finding, {"boundaries": float(loaded)})


@contextmanager
def _traced() -> Iterator[Callable[[], int]]:
    """Yield a function that returns the bytes of Python's allocators that were taken since and are still held."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    def taken() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    try:
        yield taken
    finally:
        tracemalloc.stop()


def _loaded_index_bytes(path: Path) -> tuple[int, int]:
    """Return the bytes that one segment's index takes in memory, and the boundaries it holds."""
    segment = Segment(path, writable=False)
    with _traced() as taken:
        loaded = load_index(path.with_suffix(".idx"), segment.header.uuid, segment.tail())
        in_memory = taken()
    segment.close()
    return in_memory, len(loaded)


def compression_buffers(task: Task) -> Outcome:
    """Probe function: anonymous memory that compressing large batches adds, with 4 workers and on the appending thread alone."""
    values: dict[str, float] = {}
    findings = []
    size = len(workloads.build_pool("json_order", 1, task.seed)[0])
    pool = workloads.build_pool("json_order", _LARGE_BATCH_BYTES // size, task.seed)
    for workers in (1, 4):
        log = task.directory / f"workers{workers}"
        changes = {"threshold_bytes": 256, "workers": workers}
        stream = "buffers:v1:shard:0000"
        with cometlog.open(log, cometlog.Config.default().with_changes(compression=changes)) as client:
            writer = client.writer(stream)
            writer.extend([b"x"] * len(pool))
            gc.collect()
            before = anonymous_bytes()
            for _ in range(2):
                writer.extend(pool)
            values[f"workers{workers}"] = float(anonymous_bytes() - before)
        with cometlog.open(log, read_only=True) as client:
            written = [b"x"] * len(pool) + 2 * pool
            findings.append(
                verify_entries(stream, [Appended(written, len(written))], chunks_of(client, stream))
            )
    return Outcome(values, in_all(findings), {"batch_bytes": float(sum(map(len, pool)))})


def deployment(task: Task) -> Outcome:
    """Probe function: 16 shards that are written compressed and consumed by one group, all in this process."""
    bare = memory_use()
    streams = [f"orders:v1:shard:{shard:04d}" for shard in range(SHARDS)]
    config = cometlog.Config.default().with_changes(compression={"threshold_bytes": 256})
    rounds = max(1, int(_BATCHES_PER_SECOND * task.seconds))
    pool = workloads.build_pool("json_order", _BATCH, task.seed)
    with cometlog.open(task.directory / "log", config) as client:
        with_pool = memory_use()
        writers = [client.writer(stream) for stream in streams]
        consumed = 0
        with client.consumer(GROUP) as consumer:
            for _ in range(rounds):
                for writer in writers:
                    writer.extend(pool)
                for batch in consumer.batches("orders:*", batch_size=_BATCH):
                    consumed += sum(a == b for a, b in zip(batch.payloads(), pool, strict=True))
                    consumer.ack(batch)
            used = memory_use()
            lag = sum(consumer.lag(stream) for stream in streams)
    expected = rounds * SHARDS * _BATCH
    sound = consumed == expected and lag == 0
    detail = "" if sound else f"{consumed} of {expected} entries consumed intact, {lag} not acknowledged"
    values = {
        "anonymous": float(used["RssAnon"]),
        "engine_anonymous": float(used["RssAnon"] - with_pool["RssAnon"]),
        "file_pages": float(used["RssFile"] + used["RssShmem"] - bare["RssFile"] - bare["RssShmem"]),
    }
    extra = {"interpreter_anonymous_bytes": float(bare["RssAnon"]), "entries": float(expected)}
    return Outcome(values, Finding("ok" if sound else "failed", expected, consumed, detail), extra)
