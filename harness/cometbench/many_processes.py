"""A benchmark with several real writer processes on one shard, or on shards dealt out in turn.

Every measured value starts the processes through one barrier. The value is the time from the first start to the last end, so it
covers `calls` appends of every process.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from cometbench.benchmark import Benchmark
from cometbench.crew import Crew
from cometbench.measuring import Writing, verify_processes
from cometbench.verification import Appended, Finding


class ManyProcesses:
    """Owner of the writer processes; they end when this object finishes or its process dies."""

    def __init__(self, benchmark: Benchmark, directory: Path, seed: int) -> None:
        self._benchmark, self._directory = benchmark, directory
        self._crew = Crew(
            [partial(_Writer, benchmark, directory, seed, process) for process in range(benchmark.processes)]
        )

    def seconds(self, calls: int) -> float:
        """Let every process append `calls` times at once; seconds from the first start to the last end."""
        self._crew.call("take", calls)
        answers = self._crew.call("append")
        return float(max(ended for _, ended in answers) - min(started for started, _ in answers))

    def finish(self) -> Finding:
        """Let the processes close and end, then verify from this process, through a fresh handle."""
        return verify_processes(self._benchmark, self._directory, self._crew.finish())


class _Writer:
    """The worker of one process."""

    def __init__(self, benchmark: Benchmark, directory: Path, seed: int, process: int) -> None:
        self._writing = Writing(benchmark, directory, seed, process)
        self._items: list[Any] = []

    def take(self, calls: int) -> None:
        """Prepare so many calls, before the barrier of `append`."""
        self._items = self._writing.take(calls)

    def append(self) -> tuple[float, float]:
        """Append what was taken; clock readings around it."""
        started = perf_counter()
        self._writing.timed(self._items)
        return started, perf_counter()

    def close(self) -> Appended:
        """Leave the subject and say what was appended."""
        self._writing.subject.close()
        return self._writing.appended
