"""Heap allocations of one append and of one acknowledgement, counted in a process of its own whose malloc is replaced.

The counted process runs with PYTHONMALLOC=malloc, so that Python's objects count like anything else; what Python takes from its free
lists is no allocation. The median of the calls is the value: now and then one call also takes care of growth, which `extra` shows as
the most that a call asked for.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import sleep
from typing import Any

import cometlog
from cometbench import _malloc_count, workloads
from cometbench.benchmark import ENGINE_SUBJECT, STREAM, Benchmark, ConfigValue
from cometbench.errors import CannotMeasureError, SubjectError
from cometbench.measuring import subject_of, verify
from cometbench.probe import Outcome, Task
from cometbench.verification import Appended, Finding, in_all

BATCHES = (1, 10, 100, 1000, 10_000)
COMPRESSED_BATCHES = (1, 10, 100)
PATHS = ("buffered", "mmap")
ACKNOWLEDGEMENTS = ("position", "position_range", "batch")
_WORKLOADS = {1: "json_line", 10: "json_item"}
_CALLS = 30
_KEPT_CALLS = 1000
_LARGE_BATCH = 1000
_REST_S = 0.002
_WARM_UP = 10
# Python keeps the whole numbers up to 256 ready: an entry number costs its allocation only beyond them.
_NUMBERS_KEPT_READY = 257
_SECONDS_MAX = 100.0
_OFF, _ON = 1 << 30, 256

Counted = dict[str, list[tuple[int, int]]]


def append_rows() -> dict[str, Benchmark]:
    """Every row of sections Q and C that one process can append, by the name of its value."""
    rows: dict[str, Benchmark] = {}
    for path in PATHS:
        for batch in BATCHES:
            workload = _WORKLOADS.get(batch, "json_event")
            rows[f"q{batch}_{path}"] = _row(workload, batch, {"write_path": path})
    for name, threshold in (("off", _OFF), ("on", _ON)):
        for batch in COMPRESSED_BATCHES:
            rows[f"c{batch}_{name}"] = _row("json_order", batch, {"compression.threshold_bytes": threshold})
    return rows


def _row(workload: str, batch: int, config: dict[str, ConfigValue]) -> Benchmark:
    return Benchmark(
        name="M.allocations", experiment="M", subject="cometlog", implementation=ENGINE_SUBJECT,
        workload=workload, batch=batch, config=config,
    )  # fmt: skip


def value_units() -> dict[str, str]:
    """Names and units of the values: allocations and bytes of each row, allocations of each kind of acknowledgement, blocks kept."""
    rows = {f"{row}_{what}": what for row in append_rows() for what in ("allocations", "bytes")}
    acknowledgements = {f"ack_{kind}_allocations": "allocations" for kind in ACKNOWLEDGEMENTS}
    return rows | acknowledgements | {"kept_blocks": "blocks"}


def count_allocations(task: Task) -> Outcome:
    """Probe function: run the counted process and take the median of its calls."""
    library = Path(_malloc_count.__file__)
    environment = dict(os.environ, LD_PRELOAD=str(library), PYTHONMALLOC="malloc", PYTHONHASHSEED="0")
    command = [sys.executable, "-m", __name__, str(task.directory), str(task.seed)]
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False
    )
    if ran.returncode != 0:
        raise SubjectError(f"the counted process ended with {ran.returncode}: {ran.stderr.strip()[-300:]}")
    said = json.loads(ran.stdout)
    if not said["preloaded"]:
        raise CannotMeasureError(f"{library.name} was not preloaded: allocations need glibc and LD_PRELOAD")
    counted: Counted = said["counted"]
    values = {"kept_blocks": _kept_blocks(task.directory, task.seed)}
    extra: dict[str, float | str] = {"trials": float(_CALLS)}
    for row, calls in counted.items():
        values[f"{row}_allocations"] = float(median(number for number, _ in calls))
        extra[f"{row}_allocations_max"] = float(max(number for number, _ in calls))
        if not row.startswith("ack_"):
            values[f"{row}_bytes"] = float(median(size for _, size in calls))
    return Outcome(values, Finding(**said["finding"]), extra)


def _main() -> None:
    """Be the counted process: append every row, acknowledge, verify, and say what was counted as JSON."""
    directory, seed = Path(sys.argv[1]), int(sys.argv[2])
    counted: Counted = {}
    findings = []
    for name, row in append_rows().items():
        place = directory / name
        place.mkdir()
        calls, finding = _count_appends(row, place, seed)
        counted[name] = calls
        findings.append(finding)
    counted |= {f"ack_{kind}": calls for kind, calls in _count_acks(directory / "acknowledged", seed).items()}
    said = {
        "preloaded": _malloc_count.is_preloaded(),
        "counted": counted,
        "finding": dataclasses.asdict(in_all(findings)),
    }
    print(json.dumps(said))


def _count_appends(row: Benchmark, place: Path, seed: int) -> tuple[list[tuple[int, int]], Finding]:
    subject = subject_of(row, place, 0)
    pool = workloads.build_pool(row.workload, row.batch, seed)
    item: Any = pool[0] if row.batch == 1 else pool
    subject.open()
    append: Callable[[Any], object] = subject.append_call(row.batch)
    warm_up = _WARM_UP + _NUMBERS_KEPT_READY // row.batch
    for _ in range(warm_up):
        append(item)
    counted = []
    for _ in range(_CALLS):
        if row.batch >= _LARGE_BATCH:
            sleep(_REST_S)  # the helper thread gets the next pages ready, so that the append need not
        counted += _malloc_count.count_calls(append, [item])
    subject.close()
    appended = Appended(pool, (warm_up + _CALLS) * row.batch)
    return counted, verify(subject, [appended])


def _count_acks(place: Path, seed: int) -> Counted:
    """Acknowledge one by one through the hot handle, in ranges through it, and whole read batches through the consumer."""
    pool = workloads.build_pool("json_line", 4 * (_CALLS + _WARM_UP), seed)
    calls = _CALLS + _WARM_UP
    counted: Counted = {}
    with cometlog.open(place) as client:
        client.append(STREAM, pool)
        with client.consumer("single") as consumer:
            delivered = consumer.read(STREAM, len(pool))
            position = consumer.position(STREAM)
            counted["position"] = _malloc_count.count_calls(position.ack, list(range(calls)))[_WARM_UP:]
            stops = [(calls + 2 * number, calls + 2 * number + 2) for number in range(calls)]
            counted["position_range"] = _malloc_count.count_calls(position.ack_range, stops)[_WARM_UP:]
            _require_lag(consumer, sum(map(len, delivered)) - 3 * calls)
        with client.consumer("batches") as consumer:
            batches = [batch for _ in range(calls) for batch in consumer.read(STREAM, 2)]
            counted["batch"] = _malloc_count.count_calls(consumer.ack, batches)[_WARM_UP:]
            _require_lag(consumer, len(pool) - 2 * calls)
    return counted


def _require_lag(consumer: cometlog.Consumer, expected: int) -> None:
    if consumer.lag(STREAM) != expected:
        raise SubjectError(
            f"group {consumer.group}: lag {consumer.lag(STREAM)} after acknowledging, not {expected}"
        )


def _kept_blocks(directory: Path, seed: int) -> float:
    """Return the blocks of Python's allocator that an append of 100 entries leaves behind, over a thousand of them."""
    with cometlog.open(directory / "kept") as client:
        extend, batch = client.writer(STREAM).extend, workloads.build_pool("json_event", 100, seed)
        for _ in range(_WARM_UP):
            extend(batch)
        before = sys.getallocatedblocks()
        for _ in range(_KEPT_CALLS):
            extend(batch)
        return (sys.getallocatedblocks() - before) / _KEPT_CALLS


if __name__ == "__main__":
    _main()
