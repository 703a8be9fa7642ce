"""One writer and one consumer group over few and over many shards: what each further shard costs.

On tmpfs, because making a shard syncs its directory and its first segment: 256 shards would take seconds of a disk's time. What a new
shard costs on the file system under test is a value of its own.
"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import cometlog
from cometbench import workloads
from cometbench.probe import Outcome, Task
from cometbench.probes.memory_use import anonymous_bytes
from cometbench.probes.places import memory_directory
from cometbench.probes.stored import disk_bytes
from cometbench.subjects.engine import chunks_of
from cometbench.verification import Appended, Finding, in_all, verify_entries

FEW, MANY = 16, 256
_MANY_AT_ONCE = 64
_SECONDS_FOR_MANY = 0.1
BATCH = 10
_NEW_SHARDS = 4
_ROUNDS_PER_SECOND = 12


class _Used(NamedTuple):
    values: dict[str, float]
    finding: Finding


def few_and_many(task: Task) -> Outcome:
    """Probe function: the same batches dealt out in turn to 16 and to 256 shards (64 where there is no time), then consumed."""
    with memory_directory() as memory:
        many = MANY if task.seconds >= _SECONDS_FOR_MANY else _MANY_AT_ONCE
        used = {name: _use(task, memory, shards) for name, shards in (("few", FEW), ("many", many))}
    values = {f"{value}_{name}": number for name, one in used.items() for value, number in one.values.items()}
    values["new_on_disk"] = _seconds_per_new_shard(task.directory / "new") * 1e9
    return Outcome(values, in_all(one.finding for one in used.values()), {"shards_many": float(many)})


def _seconds_per_new_shard(log: Path) -> float:
    with cometlog.open(log) as client:
        client.writer("events:v1:shard:9999")
        started = perf_counter()
        for shard in range(_NEW_SHARDS):
            client.writer(f"events:v1:shard:{shard:04d}")
        return (perf_counter() - started) / _NEW_SHARDS


def _use(task: Task, memory: Path, shards: int) -> _Used:
    batches = MANY * max(1, int(_ROUNDS_PER_SECOND * task.seconds))
    pool = workloads.build_pool("json_item", batches * BATCH, task.seed)
    streams = [f"events:v1:shard:{shard:04d}" for shard in range(shards)]
    log, before = memory / f"shards{shards}", anonymous_bytes()
    values: dict[str, float] = {}
    with cometlog.open(log) as client:
        writers = [client.writer(stream) for stream in streams]
        items = workloads.batches_of(pool, BATCH)
        started = perf_counter()
        for item, writer in zip(items, cycle(writers), strict=False):
            writer.extend(item)  # type: ignore[arg-type]
        values["append"] = (perf_counter() - started) / len(pool) * 1e9
        started = perf_counter()
        consumed = _consume(client)
        values["consume"] = (perf_counter() - started) / len(pool) * 1e9
        values["anonymous"] = float(anonymous_bytes() - before)
    values["disk"] = float(disk_bytes(log))
    with cometlog.open(log, read_only=True) as client:
        findings = [_verify(client, stream, pool, shard, shards) for shard, stream in enumerate(streams)]
    if consumed != len(pool):
        findings.append(
            Finding("failed", 0, 0, f"{consumed} entries consumed of {len(pool)} on {shards} shards")
        )
    return _Used(values, in_all(findings))


def _consume(client: cometlog.Client) -> int:
    consumed = 0
    with client.consumer("all") as consumer:
        for batch in consumer.batches("events:*", batch_size=1000):
            consumed += len(batch.payloads())
            consumer.ack(batch)
    return consumed


def _verify(client: cometlog.Client, stream: str, pool: list[bytes], shard: int, shards: int) -> Finding:
    own = [
        entry
        for start in range(shard * BATCH, len(pool), shards * BATCH)
        for entry in pool[start : start + BATCH]
    ]
    return verify_entries(stream, [Appended(own, len(own))], chunks_of(client, stream))
