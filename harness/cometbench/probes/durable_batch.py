"""A durable batch: `writer.extend` and `client.sync`, beside pwrite into space allocated and never written, and fdatasync.

Both write the same entries, and what returned survives a power loss. They take turns, a few batches each; a value is the median of
single batches.
"""

from __future__ import annotations

import os
import random
from array import array
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter_ns
from typing import Any

import cometlog
from cometbench.benchmark import STREAM
from cometbench.probe import Outcome, Task
from cometbench.subjects.contract import Chunk
from cometbench.subjects.engine import chunks_of, engine_config
from cometbench.verification import Appended, Finding, in_all, verify_bytes, verify_entries
from cometbench.workloads import batches_of, build_pool, pool_size

_TURN_BATCHES = 8
_ALLOCATED_BYTES = 64 << 20


def measure(task: Task) -> Outcome:
    """Return ns per durable batch of both, with all samples as arrays."""
    pool = build_pool(task.probe.workload, pool_size(task.probe.batch), task.seed)
    batches: list[Any] = list(batches_of(pool, task.probe.batch))
    joined = [b"".join(batch) for batch in batches]
    taken = {"log": array("Q"), "pwrite": array("Q")}
    source = random.Random(task.seed)
    raw = _RawFile(task.directory / "raw.bin")
    with cometlog.open(task.directory / "log", engine_config(task.probe.config)) as client:
        writer = client.writer(STREAM)

        def extend(at: int) -> None:
            writer.extend(batches[at])
            client.sync(STREAM)

        def pwrite(at: int) -> None:
            raw.append(joined[at])

        sides: dict[str, Callable[[int], None]] = {"log": extend, "pwrite": pwrite}
        until = monotonic() + task.seconds
        while monotonic() < until or not taken["log"]:
            raw.make_room(_TURN_BATCHES * max(map(len, joined)))
            for name in sorted(sides, key=lambda _: source.random()):
                _take_turn(sides[name], len(batches), taken[name])
    raw.close()
    finding = _verify(
        task.directory, pool, {name: len(times) * task.probe.batch for name, times in taken.items()}
    )
    return Outcome(
        {name: median(times) for name, times in taken.items()},
        finding,
        {"batches": float(len(taken["log"]))},
        taken,
    )


def _take_turn(append: Callable[[int], None], batches: int, times: array[int]) -> None:
    for _ in range(_TURN_BATCHES):
        at = len(times) % batches
        started = perf_counter_ns()
        append(at)
        times.append(perf_counter_ns() - started)


class _RawFile:
    """A file that is written once, from its first byte to its last, in space allocated before."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._end = self._allocated = 0

    def make_room(self, size: int) -> None:
        """Allocate where fewer bytes than `size` are left, and have that on disk: untimed."""
        if self._allocated - self._end < size:
            grown = max(size, _ALLOCATED_BYTES)
            os.posix_fallocate(self._descriptor, self._allocated, grown)
            os.fsync(self._descriptor)
            self._allocated += grown

    def append(self, data: bytes) -> None:
        if os.pwrite(self._descriptor, data, self._end) != len(data):
            raise OSError("short pwrite")
        os.fdatasync(self._descriptor)
        self._end += len(data)

    def close(self) -> None:
        os.ftruncate(self._descriptor, self._end)
        os.close(self._descriptor)


def _verify(directory: Path, pool: list[bytes], counts: dict[str, int]) -> Finding:
    with cometlog.open(directory / "log", read_only=True) as client:
        log = verify_entries(STREAM, [Appended(pool, counts["log"])], chunks_of(client, STREAM))
    data = [Chunk(None, [(directory / "raw.bin").read_bytes()])]
    return in_all([log, verify_bytes("raw.bin", Appended(pool, counts["pwrite"]), data)])
