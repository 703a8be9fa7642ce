"""A benchmark with several writer threads in one process, each on its shard: what `processes` means where the config says threads."""

from __future__ import annotations

import threading
from pathlib import Path
from time import perf_counter
from typing import Any

from cometbench.benchmark import Benchmark
from cometbench.measuring import Writing, verify_processes
from cometbench.verification import Finding


class ManyThreads:
    """Owner of one writer per thread; the threads share what a process of their own would open once, the log's client."""

    def __init__(self, benchmark: Benchmark, directory: Path, seed: int) -> None:
        self._benchmark, self._directory = benchmark, directory
        first = Writing(benchmark, directory, seed)
        others = range(1, benchmark.processes)
        self._writers = [first] + [
            Writing(benchmark, directory, seed, thread, beside=first.subject) for thread in others
        ]

    def seconds(self, calls: int) -> float:
        """Let every thread append `calls` times at once; seconds from the first start to the last end."""
        barrier = threading.Barrier(len(self._writers))
        clock: list[tuple[float, float]] = []

        def write(writing: Writing, items: list[Any]) -> None:
            barrier.wait()
            started = perf_counter()
            writing.timed(items)
            clock.append((started, perf_counter()))

        threads = [
            threading.Thread(target=write, args=(writing, writing.take(calls))) for writing in self._writers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return max(ended for _, ended in clock) - min(started for started, _ in clock)

    def finish(self) -> Finding:
        """Close every writer and verify what each appended."""
        for writing in reversed(self._writers):
            writing.subject.close()
        return verify_processes(
            self._benchmark, self._directory, [writing.appended for writing in self._writers]
        )
