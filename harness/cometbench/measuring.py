"""What runs inside a measuring process: append a pool over and over, time it, close, and verify the log.

Standard library, pyperf's caller and the subject only: neither pandas nor matplotlib is imported here.
"""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path
from typing import Any

from cometbench import workloads
from cometbench.benchmark import STREAM, Benchmark, load_subject
from cometbench.subjects.contract import Subject, Timed
from cometbench.verification import Appended, Finding, in_all, verify_bytes, verify_entries


class Writing:
    """One writer process's end of a benchmark: an open subject, its pool, a count of what it appended."""

    def __init__(
        self,
        benchmark: Benchmark,
        directory: Path,
        seed: int,
        process: int = 0,
        pool: list[bytes] | None = None,
        beside: Subject | None = None,
    ) -> None:
        """`pool`: entries that were built before; without it, the writer's own are. `beside`: another thread's subject, open."""
        self._benchmark = benchmark
        self.subject = subject_of(benchmark, directory, process)
        size = workloads.pool_size(benchmark.batch)
        self.appended = Appended(
            pool or workloads.build_pool(benchmark.workload, size, seed, process, benchmark.processes)
        )
        items: Any = workloads.batches_of(self.appended.pool, benchmark.batch)
        self._items = cycle(items)
        self._durable = benchmark.durability == "survives_power_loss"
        if beside is None:
            self.subject.open()
        else:
            self.subject.open_beside(beside)

    def take(self, calls: int) -> list[Any]:
        """Return the next `calls` items to append; make room for them and settle earlier dirty pages."""
        items = list(islice(self._items, calls))
        if self._durable:
            self.subject.settle()
        self.subject.prepare(
            sum(map(len, items)) if self._benchmark.batch == 1 else sum(len(e) for i in items for e in i)
        )
        return items

    def timed(self, items: list[Any]) -> Timed:
        """Append `items`, one call each, and count them."""
        timed = self.subject.time_calls(items, self._benchmark.batch)
        self.count(len(items), timed.last_result)
        return timed

    def count(self, calls: int, last_result: Any) -> None:
        """Note that `calls` calls were acknowledged, the last one with `last_result`."""
        self.appended.count += calls * self._benchmark.batch
        number = self.subject.last_number(last_result)
        if number is not None:
            self.appended.acknowledged[number] = self.appended.count - 1


def subject_of(benchmark: Benchmark, directory: Path, process: int) -> Subject:
    """Return the subject of one writer process on its own shard: the config's `shards` are dealt out in turn."""
    shards = int(benchmark.config.get("shards", 1))
    stream = f"{STREAM.rpartition(':')[0]}:{process % shards:04d}"
    subject: Subject = load_subject(benchmark.implementation)(directory, stream, benchmark.config)
    return subject


class OneProcess:
    """A benchmark with one writer: this process."""

    def __init__(
        self, benchmark: Benchmark, directory: Path, seed: int, pool: list[bytes] | None = None
    ) -> None:
        self._writing = Writing(benchmark, directory, seed, pool=pool)

    def seconds(self, calls: int) -> float:
        """Append `calls` times and return the seconds it took: pyperf's time function."""
        return self._writing.timed(self._writing.take(calls)).seconds

    def finish(self) -> Finding:
        """Close the subject and verify everything it was given."""
        self._writing.subject.close()
        return verify(self._writing.subject, [self._writing.appended])


def verify_processes(benchmark: Benchmark, directory: Path, writers: list[Appended]) -> Finding:
    """Verify every shard that the processes of a benchmark wrote, in the order of the processes."""
    shards = min(int(benchmark.config.get("shards", 1)), len(writers))
    return in_all(
        verify(subject_of(benchmark, directory, shard), writers[shard::shards]) for shard in range(shards)
    )


def verify(subject: Subject, writers: list[Appended]) -> Finding:
    """Read back through `subject`, closed before, and compare with what the writers appended."""
    if subject.reads_back == "nothing":
        return Finding("not_applicable")
    if subject.reads_back == "bytes":
        return verify_bytes(subject.stream, writers[0], subject.read_back())
    return verify_entries(subject.stream, writers, subject.read_back())
