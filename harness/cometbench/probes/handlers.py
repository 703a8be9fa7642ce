"""A slow handler of a consumer group: inside the batch, behind a queue that is acknowledged at once, and in a pool that is waited for.

The handler waits for each entry, as for a database. A second reading kills a consumer in the middle of its work and counts what was
acknowledged and never handled.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_uint64
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import cometlog
from cometbench import workloads
from cometbench.benchmark import STREAM
from cometbench.probe import Outcome, Task
from cometbench.verification import Finding
from cometlog.read_batch import ReadBatch

WORKERS = 4
BATCH = 50
HANDLER_S = 0.0002
_ENTRIES_PER_SECOND = 1200
_WAIT_S_MAX = 60.0

Handle = Callable[[bytes], None]
Process = Callable[[Handle], tuple[Callable[[ReadBatch], None], Callable[[], None]]]


def _inside(handle: Handle) -> tuple[Callable[[ReadBatch], None], Callable[[], None]]:
    def handler(batch: ReadBatch) -> None:
        for entry in batch:
            handle(entry.data)

    return handler, lambda: None


def _queued(handle: Handle) -> tuple[Callable[[ReadBatch], None], Callable[[], None]]:
    """Hand everything to worker threads and return, so that it is acknowledged before it is handled."""
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def work() -> None:
        while (data := waiting.get()) is not None:
            handle(data)

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()

    def handler(batch: ReadBatch) -> None:
        for entry in batch:
            waiting.put(entry.data)

    def finish() -> None:
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()

    return handler, finish


def _pooled(handle: Handle) -> tuple[Callable[[ReadBatch], None], Callable[[], None]]:
    """Handle the entries of a batch side by side and wait for all of them, so that it is acknowledged afterwards."""
    pool = ThreadPoolExecutor(WORKERS)

    def handler(batch: ReadBatch) -> None:
        for _ in pool.map(handle, (entry.data for entry in batch)):
            pass

    return handler, pool.shutdown


WAYS: dict[str, Process] = {"inside": _inside, "queued": _queued, "pooled": _pooled}


def slow_handler(task: Task) -> Outcome:
    """Probe function: nanoseconds for an entry until it is acknowledged and until it is handled, and entries lost by a kill."""
    count = max(int(_ENTRIES_PER_SECOND * task.seconds), 2 * BATCH)
    pool = workloads.build_pool("json_line", count, task.seed)
    values: dict[str, float] = {}
    missing: list[str] = []
    log = task.directory / "log"
    with cometlog.open(log) as client:
        client.append(STREAM, pool)
        for name, way in WAYS.items():
            handled: list[bytes] = []
            acknowledged_s, handled_s = _process(client, name, way, handled, count)
            values[f"{name}_acknowledged"] = acknowledged_s / count * 1e9
            values[f"{name}_handled"] = handled_s / count * 1e9
            if sorted(handled) != sorted(pool):
                missing.append(f"{name}: {len(handled)} handled of {count}")
    for name, way in WAYS.items():
        values[f"{name}_lost"] = _lost_by_a_kill(log, f"killed-{name}", way, count)
    finding = Finding("failed" if missing else "ok", 3 * count, 3 * count - len(missing), "; ".join(missing))
    return Outcome(
        values, finding, {"trials": float(count), "handler_seconds": HANDLER_S, "workers": float(WORKERS)}
    )


def _process(
    client: cometlog.Client, group: str, way: Process, handled: list[bytes], count: int
) -> tuple[float, float]:
    """Process everything; return the seconds until the last acknowledgement and until the last entry was handled."""

    def handle(data: bytes) -> None:
        sleep(HANDLER_S)
        handled.append(data)

    handler, finish = way(handle)
    with client.consumer(group) as consumer:

        def on_batch(batch: ReadBatch, _seconds: float) -> None:
            if batch.next_entry >= count:
                consumer.stop()

        started = perf_counter()
        consumer.process(handler, STREAM, batch_size=BATCH, on_batch=on_batch)
        acknowledged_s = perf_counter() - started
        finish()
        return acknowledged_s, perf_counter() - started


def _lost_by_a_kill(log: Path, group: str, way: Process, count: int) -> float:
    """Kill a consumer once it has handled a few entries; return how many it acknowledged beyond those that it handled."""
    context = multiprocessing.get_context("fork")
    counter = context.Value(c_uint64, 0)
    handled = counter.get_obj()  # read without the counter's lock, which a killed consumer may hold for ever
    consumer = context.Process(target=_consume, args=(log, group, way, counter), daemon=True)
    consumer.start()
    enough, until = min(BATCH + BATCH // 2, count), perf_counter() + _WAIT_S_MAX
    while handled.value < enough and consumer.is_alive() and perf_counter() < until:
        sleep(HANDLER_S)
    consumer.kill()
    consumer.join()
    with cometlog.open(log) as client, client.consumer(group) as successor:
        acknowledged = count - successor.lag(STREAM)
    return float(max(0, acknowledged - handled.value))


def _consume(log: Path, group: str, way: Process, counter: Any) -> None:
    def handle(_data: bytes) -> None:
        sleep(HANDLER_S)
        with counter.get_lock():
            counter.value += 1

    handler, _ = way(handle)
    with cometlog.open(log) as client, client.consumer(group) as consumer:
        consumer.process(handler, STREAM, batch_size=BATCH)
