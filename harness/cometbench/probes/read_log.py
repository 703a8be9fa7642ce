"""A log that a probe reads: entries of one workload, not compressed, and what was found compared with what was written."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import cometlog
from cometbench import workloads
from cometbench._native import first_mismatch
from cometbench.benchmark import STREAM
from cometbench.probe import Task
from cometbench.verification import Finding

POOL_ENTRIES = 8192


def build_pool(task: Task) -> list[bytes]:
    """Return entries of the probe's workload, all different."""
    return workloads.build_pool(task.probe.workload, POOL_ENTRIES, task.seed)


def write_log(path: Path, pool: list[bytes], entries: int, per_frame: int) -> cometlog.Client:
    """Append the pool over and over, `per_frame` entries a frame, and return the open client."""
    config = cometlog.Config.default().with_changes(compression={"threshold_bytes": 1 << 30})
    client = cometlog.open(path, config)
    writer = client.writer(STREAM)
    source = cycle(pool)
    for _ in range(entries // per_frame):
        writer.extend(list(islice(source, per_frame)))
    return client


def compare(found: list[bytes], pool: list[bytes], entries: int) -> Finding:
    """Say whether the pool was found, over and over, `entries` in all."""
    at = first_mismatch(found, pool, 0)
    if at >= 0:
        return Finding("failed", entries, at, f"stream {STREAM}: entry {at} is not what was written")
    if len(found) != entries:
        return Finding(
            "failed", entries, len(found), f"stream {STREAM}: {len(found)} of {entries} entries read"
        )
    return Finding("ok", entries, entries)
