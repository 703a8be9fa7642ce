"""What a hot loop does, by name: appending, reading, waiting for entries, the calibrator's loop, stores into a cold file map.

A piece of work makes itself ready untimed (`prepare`), is called in the marked loop (`run`), and verifies at last what it wrote or
read (`finish`). Standard library and the engine only.
"""

from __future__ import annotations

import asyncio
import functools
import mmap
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cometlog
from cometbench import workloads
from cometbench._native import first_mismatch, spin_and_write
from cometbench.benchmark import STREAM, ConfigValue
from cometbench.errors import unknown
from cometbench.subjects.engine import EngineSubject
from cometbench.verification import Finding

_MIB = 1 << 20
KEPT_BYTES = 128 * _MIB
# Batches that divide it take their entries from one pool, which is built once a process.
_SHARED_BATCH = 1000
_build_pool = functools.cache(workloads.build_pool)


class Work(ABC):
    """One kind of work in an empty directory; `calls_max` limits what one stretch can be prepared for."""

    calls_max = 1 << 20

    def __init__(self, directory: Path, config: Mapping[str, ConfigValue], seed: int, process: int) -> None:
        self.directory, self.config, self.seed, self.process = directory, config, seed, process

    @abstractmethod
    def prepare(self, calls: int) -> Any:
        """Return what `run` takes for so many calls; untimed."""

    @abstractmethod
    def run(self, prepared: Any) -> None:
        """Do the calls."""

    def finish(self) -> Finding:
        """Release everything and say what verifying has shown."""
        return Finding("not_applicable")


class _BoundedLog(EngineSubject):
    """The engine with two things more: compression by config, and old segments that go, so that a long loop fills no disk."""

    def _engine_config(self) -> cometlog.Config:
        compression = {key: self.config[key] for key in ("threshold_bytes", "level") if key in self.config}
        retention = {"max_shard_bytes": KEPT_BYTES, "min_segments": 1, "interval_s": 0.0}
        return super()._engine_config().with_changes(compression=compression, retention=retention)

    def trim(self) -> None:
        self._client.retain()


class Append(Work):
    """Appends a pool over and over. Config: `workload`, `batch`, `sync_every` (calls between two syncs, 0: none), and the engine's."""

    def __init__(self, directory: Path, config: Mapping[str, ConfigValue], seed: int, process: int) -> None:
        super().__init__(directory, config, seed, process)
        self._batch = int(config.get("batch", 1))
        shared = _SHARED_BATCH if _SHARED_BATCH % self._batch == 0 else self._batch
        self._pool = _build_pool(str(config["workload"]), workloads.pool_size(shared), seed, process)
        self._items: Any = cycle(workloads.batches_of(self._pool, self._batch))
        self._call_bytes = self._batch * sum(map(len, self._pool)) // len(self._pool)
        self._log = _BoundedLog(directory, STREAM, config)
        self._appended = self._untrimmed_bytes = 0
        self._sync_every = int(config.get("sync_every", 0))
        self._log.open()

    def prepare(self, calls: int) -> list[Any]:
        """Take the next items; remove old segments where many bytes were appended."""
        self._untrimmed_bytes += calls * self._call_bytes
        if self._untrimmed_bytes > KEPT_BYTES // 2:
            self._untrimmed_bytes = 0
            self._log.trim()
        return list(islice(self._items, calls))

    def run(self, prepared: list[Any]) -> None:
        """Append each item by one call."""
        if self._sync_every:
            self._run_synced(prepared)
        else:
            self._log.time_calls(prepared, self._batch)
        self._appended += len(prepared) * self._batch

    def _run_synced(self, prepared: list[Any]) -> None:
        append, sync = self._log.append_call(self._batch), self._log.settle
        for number, item in enumerate(prepared, 1):
            append(item)
            if number % self._sync_every == 0:
                sync()

    def finish(self) -> Finding:
        """Compare every entry that is kept with what was appended under its number (one writer only)."""
        self._log.close()
        if int(self.config.get("processes", 1)) > 1:
            return Finding("not_applicable", self._appended, self._appended)
        return verify_kept(self._log, self._pool, self._appended)


def verify_kept(log: EngineSubject, pool: list[bytes], appended: int) -> Finding:
    """Verify a log of one writer whose oldest segments may be gone: entry n is pool[n % len(pool)], up to the last appended."""
    first: int | None = None
    found = 0
    for chunk in log.read_back():
        numbers = chunk.numbers or range(0)
        first = numbers.start if first is None else first
        wrong = first_mismatch(chunk.entries, pool, numbers.start)
        if wrong >= 0 or numbers.start != first + found:
            at = numbers.start + max(wrong, 0)
            return Finding("failed", appended, first + found, f"entry {at} is not what was appended")
        found += len(chunk.entries)
    kept = appended - (first or 0)
    if found != kept:
        return Finding("failed", kept, found, f"{found} entries read back, {kept} are kept of {appended}")
    return Finding("ok", kept, found)


class Read(Work):
    """Reads a log of 32 MiB again and again, 1000 entries a call. Config: `form` "bytes" or "views" (nothing copied)."""

    _ENTRIES_A_CALL = 1000
    _BYTES = 32 * _MIB

    def __init__(self, directory: Path, config: Mapping[str, ConfigValue], seed: int, process: int) -> None:
        super().__init__(directory, config, seed, process)
        self._pool = _build_pool("json_event", workloads.pool_size(self._ENTRIES_A_CALL), seed, process)
        batches: Any = workloads.batches_of(self._pool, self._ENTRIES_A_CALL)
        self._calls = self._BYTES // sum(map(len, batches[0]))
        with cometlog.open(directory / "log") as client:
            writer = client.writer(STREAM)
            for batch in islice(cycle(batches), self._calls):
                writer.extend(batch)
        self._client = cometlog.open(directory / "log", read_only=True)
        self._starts = cycle(range(0, self._calls * self._ENTRIES_A_CALL, self._ENTRIES_A_CALL))
        self._read = 0

    def prepare(self, calls: int) -> list[int]:
        """Return the entry numbers to read from."""
        return list(islice(self._starts, calls))

    def run(self, prepared: list[int]) -> None:
        """Read a batch at each number, and have its entries in the form asked for."""
        read, views = self._client.read, self.config.get("form") == "views"
        for start in prepared:
            batch = read(STREAM, start, self._ENTRIES_A_CALL)
            if views:
                batch.arrow_batches()
            else:
                batch.payloads()

    def finish(self) -> Finding:
        """Compare the whole log once."""
        entries = self._calls * self._ENTRIES_A_CALL
        found = self._client.read(STREAM, 0, entries).payloads()
        self._client.close()
        wrong = first_mismatch(found, self._pool, 0)
        if wrong >= 0 or len(found) != entries:
            return Finding("failed", entries, len(found), f"entry {wrong} is not what was appended")
        return Finding("ok", entries, len(found))


class Wait(Work):
    """Follows a log that nobody appends to: a call is 50 ms of waiting for the next batch."""

    _WAIT_S = 0.05

    def __init__(self, directory: Path, config: Mapping[str, ConfigValue], seed: int, process: int) -> None:
        super().__init__(directory, config, seed, process)
        self._client = cometlog.open(directory / "log")
        self._client.writer(STREAM).append(b"one entry")
        self._loop = asyncio.new_event_loop()
        self._tail: AsyncIterator[Any] = self._client.tail(STREAM)
        self._came = 0

    def prepare(self, calls: int) -> range:
        """Return a range of that many calls."""
        return range(calls)

    def run(self, prepared: range) -> None:
        """Wait, and be told each time that nothing came."""
        self._loop.run_until_complete(self._wait(self._WAIT_S * len(prepared)))

    async def _wait(self, seconds: float) -> None:
        waiting = asyncio.ensure_future(anext(self._tail))
        done, _ = await asyncio.wait([waiting], timeout=seconds)
        self._came += len(done)
        if not done:
            waiting.cancel()
            await asyncio.wait([waiting])
            self._tail = self._client.tail(STREAM)

    def finish(self) -> Finding:
        """Nothing was appended, so nothing may have come."""
        self._loop.close()
        self._client.close()
        if self._came:
            return Finding("failed", 0, self._came, f"{self._came} batches came of a log nobody appends to")
        return Finding("ok")


class SpinAndWrite(Work):
    """The calibrator: config `kernel_percent` is the share of the loop's time in `pwrite`, set from both parts timed alone."""

    _CALLS_TIMED = 4000
    _REPEATS = 9
    _SPINS_TIMED = 500

    def __init__(self, directory: Path, config: Mapping[str, ConfigValue], seed: int, process: int) -> None:
        super().__init__(directory, config, seed, process)
        self._fd = os.open(directory / "calibrator.bin", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        spin_and_write(self._CALLS_TIMED, 0, self._fd)
        self._write_s, self._spin_s = self._parts()
        share = float(config["kernel_percent"]) / 100
        self._spins = round(self._write_s * (1 - share) / share / self._spin_s)

    def _parts(self) -> tuple[float, float]:
        """CPU seconds of one write and of one round of arithmetic, each timed alone, medians: neighbours do not count."""
        calls, middle = self._CALLS_TIMED, self._REPEATS // 2
        writes = sorted(_cpu_seconds(calls, 0, self._fd) / calls for _ in range(self._REPEATS))
        spins = sorted(
            _cpu_seconds(calls, self._SPINS_TIMED, -1) / calls / self._SPINS_TIMED
            for _ in range(self._REPEATS)
        )
        return writes[middle], spins[middle]

    def prepare(self, calls: int) -> int:
        """Nothing to make ready."""
        return calls

    def run(self, prepared: int) -> None:
        """Spin and write."""
        spin_and_write(prepared, self._spins, self._fd)

    def finish(self) -> Finding:
        """Nothing was logged."""
        os.close(self._fd)
        return Finding("not_applicable")


def _cpu_seconds(calls: int, spins: int, fd: int) -> float:
    started = time.thread_time()
    spin_and_write(calls, spins, fd)
    return time.thread_time() - started


class ColdMap(Work):
    """Stores into a mapped file whose pages are allocated and not there yet.

    A call is 64 KiB, up to 16 page faults and no system call.
    """

    calls_max = 512
    _BLOCK = b"x" * 65_536

    def __init__(self, directory: Path, config: Mapping[str, ConfigValue], seed: int, process: int) -> None:
        super().__init__(directory, config, seed, process)
        self._map: mmap.mmap | None = None

    def prepare(self, calls: int) -> int:
        """Map a new file."""
        self._drop()
        with tempfile.TemporaryFile(dir=self.directory) as file:
            size = calls * len(self._BLOCK)
            os.posix_fallocate(file.fileno(), 0, size)
            self._map = mmap.mmap(file.fileno(), size)
        return calls

    def run(self, prepared: int) -> None:
        """Fill it from begin to end."""
        assert self._map is not None, "prepare makes the map"
        store, block, size = self._map.write, self._BLOCK, prepared
        for _ in range(size):
            store(block)

    def finish(self) -> Finding:
        """Nothing was logged."""
        self._drop()
        return Finding("not_applicable")

    def _drop(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None


KINDS: dict[str, type[Work]] = {
    "append": Append,
    "read": Read,
    "wait": Wait,
    "spin_and_write": SpinAndWrite,
    "cold_map": ColdMap,
}


def make_work(directory: Path, config: Mapping[str, ConfigValue], seed: int, process: int) -> Work:
    """Return the work that `config["kind"]` names ("append" by default). Raises UsageError naming the kind and what exists."""
    kind = str(config.get("kind", "append"))
    if kind not in KINDS:
        raise unknown("kind of work", kind, sorted(KINDS))
    return KINDS[kind](directory, config, seed, process)
