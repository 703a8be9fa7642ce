"""10 GB in one shard: filled through every rotation beside a C loop that copies the same bytes, closed cleanly, and opened again.

Config: `shard_bytes`, payload bytes, and the engine subject's keys. Opening lasts from `cometlog.open` to the first append's return.
Its pages are in the page cache as far as memory holds them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import cometlog
from cometbench._native import first_mismatch, sustained_copy
from cometbench.benchmark import STREAM
from cometbench.errors import CannotMeasureError
from cometbench.probe import Outcome, Task
from cometbench.subjects.engine import engine_config
from cometbench.verification import Finding, in_all
from cometbench.workloads import batches_of, build_pool, pool_size

SECONDS_MIN = 1.0
_OPENS = 3
# Before the shard is closed its helper thread gets ahead, as it does of a writer that is not always busy: opening looks at what it
# allocated.
_REST_S = 0.3
_FREE_FACTOR = 1.5
# Reading all of it would take longer than writing it: a batch is compared for each of so many equal parts.
_COMPARED = 400
_LAST = b"appended after a clean close"


def measure(task: Task) -> Outcome:
    """Return ns to open the shard and append, and ns per entry of filling it and of the C loop."""
    shard_bytes = int(task.probe.config["shard_bytes"])
    free, needed = shutil.disk_usage(task.directory).free, int(_FREE_FACTOR * shard_bytes)
    if free < needed:
        raise CannotMeasureError(
            f"needs {needed / 1e9:.1f} GB free in the bench directory, has {free / 1e9:.1f}"
        )
    if task.seconds < SECONDS_MIN:
        raise CannotMeasureError("filling 10 GB takes longer than this profile has; profile full does it")
    pool = build_pool(task.probe.workload, pool_size(task.probe.batch), task.seed)
    # Memory that was used before is handed out faster, so neither side is always the first.
    sides = (_log, _c_loop) if task.seed % 2 else (_c_loop, _log)
    values: dict[str, float] = {}
    findings: list[Finding] = []
    for side in sides:
        taken, finding = side(task, pool, -(-shard_bytes // sum(map(len, pool[: task.probe.batch]))))
        values |= taken
        findings.append(finding)
    return Outcome({name: seconds * 1e9 for name, seconds in values.items()}, in_all(findings))


def _log(task: Task, pool: list[bytes], calls: int) -> tuple[dict[str, float], Finding]:
    """Fill a log, open it again and again, and remove it."""
    seconds = _fill(task, pool, calls)
    opened = [_open(task) for _ in range(_OPENS)]
    entries = calls * task.probe.batch
    finding = _verify(task.directory / "log", pool, entries, task.probe.batch)
    shutil.rmtree(task.directory / "log")
    return {"opened": median(opened), "filled": seconds / entries}, finding


def _fill(task: Task, pool: list[bytes], calls: int) -> float:
    """Append so many batches and close the log; return the seconds until the last append returned."""
    batches: list[Any] = list(batches_of(pool, task.probe.batch))
    with cometlog.open(task.directory / "log", engine_config(task.probe.config)) as client:
        extend = client.writer(STREAM).extend
        started = perf_counter()
        for call in range(calls):
            extend(batches[call % len(batches)])
        seconds = perf_counter() - started
        sleep(_REST_S)
        return seconds


def _c_loop(task: Task, pool: list[bytes], calls: int) -> tuple[dict[str, float], Finding]:
    """Copy the same entries into files as long as segments, compare where each begins and ends, and remove them."""
    directory, entries = task.directory / "c_loop", calls * task.probe.batch
    directory.mkdir()
    file_bytes = cometlog.Config.default().storage.segment_size_bytes
    seconds = sustained_copy(str(directory), pool, entries, file_bytes)
    finding = _verify_files(directory, pool, entries, file_bytes // len(pool[0]))
    shutil.rmtree(directory)
    return {"c_loop": seconds / entries}, finding


def _verify_files(directory: Path, pool: list[bytes], entries: int, per_file: int) -> Finding:
    size = len(pool[0])
    for number, start in enumerate(range(0, entries, per_file)):
        stop = min(start + per_file, entries)
        with (directory / f"part-{number:06d}.bin").open("rb") as file:
            for at in (start, max(start, stop - _COMPARED)):
                file.seek((at - start) * size)
                expected = b"".join(pool[entry % len(pool)] for entry in range(at, min(at + _COMPARED, stop)))
                if file.read(len(expected)) != expected:
                    detail = f"C loop: {file.name} differs behind entry {at}"
                    return Finding("failed", entries, at, detail)
    return Finding("ok", entries, entries)


def _open(task: Task) -> float:
    """Return the seconds from opening to an append that returned; closes again, cleanly."""
    started = perf_counter()
    client = cometlog.open(task.directory / "log", engine_config(task.probe.config))
    client.writer(STREAM).append(_LAST)
    seconds = perf_counter() - started
    client.close()
    return seconds


def _verify(log: Path, pool: list[bytes], entries: int, batch: int) -> Finding:
    """Compare the count, batches from all over the shard, and what was appended after each opening."""
    with cometlog.open(log, read_only=True) as client:
        found = client.next_entry(STREAM)
        step = max(1, entries // batch // _COMPARED) * batch
        for start in (*range(0, entries, step), entries - batch):
            payloads = client.read(STREAM, start, batch).payloads()
            at = first_mismatch(payloads, pool, start)
            if at >= 0 or len(payloads) != batch:
                detail = f"stream {STREAM}: entry {start + max(at, 0)} is not what was written"
                return Finding("failed", entries + _OPENS, found, detail)
        last = client.read(STREAM, entries, _OPENS + 1).payloads()
    if found != entries + _OPENS or last != [_LAST] * _OPENS:
        detail = f"stream {STREAM}: {found} entries, {entries + _OPENS} were appended"
        return Finding("failed", entries + _OPENS, found, detail)
    return Finding("ok", entries + _OPENS, found)
