"""A benchmark with several real writer processes on one shard.

The processes are forked before any subject is open, each opens its own, and every measured value starts them
through one barrier. The value is the time from the first start to the last end, so it covers `calls` appends
of every process. Every wait is bounded: a process that dies or hangs fails the benchmark with its index
named.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter
from typing import Any

from cometbench.benchmark import STREAM, Benchmark, load_subject
from cometbench.errors import WriterLostError
from cometbench.measuring import Writing, verify
from cometbench.verification import Appended, Finding

ANSWER_SECONDS_MAX = 120.0


@dataclass(frozen=True)
class _Answer:
    """What a writer sends back: clock readings around its calls, or the text of its exception."""

    started: float = 0.0
    ended: float = 0.0
    error: str = ""


class ManyProcesses:
    """Owner of the writer processes; they end when this object finishes or its process dies."""

    def __init__(self, benchmark: Benchmark, directory: Path, seed: int) -> None:
        self._benchmark, self._directory = benchmark, directory
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(benchmark.processes)
        self._connections: list[Connection] = []
        self._processes: list[Any] = []
        for process in range(benchmark.processes):
            here, there = context.Pipe()
            arguments = {
                "benchmark": benchmark,
                "directory": directory,
                "seed": seed,
                "process": process,
                "connection": there,
                "barrier": barrier,
                "inherited": [*self._connections, here],
            }
            worker = context.Process(target=_write, kwargs=arguments, daemon=True)
            worker.start()
            there.close()
            self._connections.append(here)
            self._processes.append(worker)
        self._gather()

    def seconds(self, calls: int) -> float:
        """Let every process append `calls` times at once; seconds from the first start to the last end."""
        for connection in self._connections:
            connection.send(calls)
        answers = self._gather()
        return float(max(a.ended for a in answers) - min(a.started for a in answers))

    def finish(self) -> Finding:
        """Let the processes close and end, then verify from this process, through a fresh handle."""
        for connection in self._connections:
            connection.send(None)
        writers: list[Appended] = self._gather()
        for worker in self._processes:
            worker.join(ANSWER_SECONDS_MAX)
        subject = load_subject(self._benchmark.implementation)(
            self._directory, STREAM, self._benchmark.config
        )
        return verify(subject, writers)

    def _gather(self) -> list[Any]:
        answers = []
        for process, connection in enumerate(self._connections):
            try:
                if not connection.poll(ANSWER_SECONDS_MAX):
                    raise WriterLostError(
                        f"writer process {process} did not answer within {ANSWER_SECONDS_MAX:.0f} s"
                    )
                answer = connection.recv()
            except EOFError:
                raise WriterLostError(f"writer process {process} ended without an answer") from None
            if isinstance(answer, _Answer) and answer.error:
                raise WriterLostError(f"writer process {process}: {answer.error}")
            answers.append(answer)
        return answers


def _write(
    *,
    benchmark: Benchmark,
    directory: Path,
    seed: int,
    process: int,
    connection: Connection,
    barrier: Barrier,
    inherited: list[Connection],
) -> None:
    """Be a writer process: answer ready, then one `_Answer` per number of calls, then what was appended."""
    for other in inherited:
        other.close()
    try:
        writing = Writing(benchmark, directory, seed, process)
        connection.send(_Answer())
        while (calls := connection.recv()) is not None:
            items = writing.take(calls)
            barrier.wait(ANSWER_SECONDS_MAX)
            started = perf_counter()
            writing.timed(items)
            connection.send(_Answer(started, perf_counter()))
        writing.subject.close()
        connection.send(writing.appended)
    except EOFError:
        return
    except Exception as error:  # the process boundary: the owner raises it again, with the process named
        connection.send(_Answer(error=f"{type(error).__name__}: {error}"))
