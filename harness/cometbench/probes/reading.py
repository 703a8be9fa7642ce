"""Reading a log from its first entry to its last: as bytes, as entries, without a copy, and one checksum pass over the same bytes.

Config: `per_frame`, entries in a frame; `per_read`, entries that one call of `client.read` asks for. Every read verifies checksums.
Nothing is kept from pass to pass but the pages and the index.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter_ns

import cometlog
from cometbench.benchmark import STREAM
from cometbench.probe import Outcome, Task
from cometbench.probes.read_log import build_pool, compare, write_log
from cometbench.verification import Finding
from cometlog.kernel.checksum import crc32c

ENTRIES = 160_000


def read_log(task: Task) -> Outcome:
    """Return ns per entry of each way to read, medians over passes that take turns."""
    per_read = int(task.probe.config["per_read"])
    pool = build_pool(task)
    with write_log(task.directory / "log", pool, ENTRIES, int(task.probe.config["per_frame"])) as client:
        finding = _verify(client, pool, per_read)
        mapped = [part.data for batch in _batches(client, per_read) for part in batch.spans()]

        def checksum() -> None:
            for data in mapped:
                crc32c(data)

        def each(take: Callable[[cometlog.ReadBatch], object]) -> Callable[[], None]:
            def read() -> None:
                for start in range(0, ENTRIES, per_read):
                    take(client.read(STREAM, start, per_read))

            return read

        passes = {
            "checksum": checksum,
            "zero_copy": each(cometlog.ReadBatch.spans),
            "bytes": each(cometlog.ReadBatch.payloads),
            "entries": each(list),
        }
        return Outcome(_take_turns(passes, task.seconds), finding)


def _take_turns(passes: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for run in passes.values():
        run()
    until = perf_counter_ns() + seconds * 1e9
    while perf_counter_ns() < until or not taken["entries"]:
        for name, run in passes.items():
            started = perf_counter_ns()
            run()
            taken[name].append((perf_counter_ns() - started) / ENTRIES)
    return {name: median(values) for name, values in taken.items()}


def _batches(client: cometlog.Client, per_read: int) -> list[cometlog.ReadBatch]:
    return [client.read(STREAM, start, per_read) for start in range(0, ENTRIES, per_read)]


def _verify(client: cometlog.Client, pool: list[bytes], per_read: int) -> Finding:
    """Compare what each way gives with what was written."""
    batches = _batches(client, per_read)
    ways = (
        [payload for batch in batches for payload in batch.payloads()],
        [entry.data for batch in batches for entry in batch],
        [
            bytes(data[start:stop])
            for batch in batches
            for data, starts, stops in batch.spans()
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ],
    )
    findings = [compare(found, pool, ENTRIES) for found in ways]
    numbers = [number for batch in batches for number in batch.numbers]
    if numbers != list(range(ENTRIES)):
        return Finding(
            "failed", ENTRIES, len(numbers), f"stream {STREAM}: numbers are not 0 to {ENTRIES - 1}"
        )
    return next((finding for finding in findings if finding.status != "ok"), findings[0])
