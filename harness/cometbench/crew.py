"""Several forked processes that work at once: each builds its own worker, then does what it is told, all from one barrier on.

Invariants: the workers are built after the fork, so no subject is open while a process forks; every wait is bounded, and a process
that dies, fails or hangs ends the work with its index named. The processes end when the crew finishes or its owner dies.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

from cometbench.errors import CannotMeasureError, WriterLostError

ANSWER_SECONDS_MAX = 120.0


@dataclass(frozen=True)
class _Failed:
    """What a process answers instead of a result: the text of its exception, or why it cannot measure here."""

    error: str = ""
    cannot: str = ""


class Crew:
    """Owner of one process per maker; `makers[i]` builds the worker of process `i` in that process."""

    def __init__(self, makers: Sequence[Callable[[], Any]]) -> None:
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(len(makers))
        self._connections: list[Connection] = []
        self._processes: list[Any] = []
        for make in makers:
            here, there = context.Pipe()
            arguments = (make, there, barrier, [*self._connections, here])
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            there.close()
            self._connections.append(here)
            self._processes.append(process)
        self.gather()

    @property
    def pids(self) -> list[int]:
        """Process ids, in the order of the makers."""
        return [process.pid for process in self._processes]

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every worker, all from one barrier on; return what each returned."""
        self.start(method, *arguments)
        return self.gather()

    def call_each(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Like `call`, with a method and arguments of its own for every worker."""
        for connection, call in zip(self._connections, calls, strict=True):
            connection.send(call)
        return self.gather()

    def start(self, method: str, *arguments: Any) -> None:
        """Like `call`, and return at once; `gather` is still to come."""
        for connection in self._connections:
            connection.send((method, arguments))

    def gather(self) -> list[Any]:
        """Wait for one answer of every process. Raises WriterLostError naming the first that gave none."""
        answers = []
        for index, connection in enumerate(self._connections):
            try:
                if not connection.poll(ANSWER_SECONDS_MAX):
                    raise WriterLostError(
                        f"writer process {index} did not answer within {ANSWER_SECONDS_MAX:.0f} s"
                    )
                answer = connection.recv()
            except EOFError:
                raise WriterLostError(f"writer process {index} ended without an answer") from None
            if isinstance(answer, _Failed) and answer.cannot:
                raise CannotMeasureError(answer.cannot)
            if isinstance(answer, _Failed):
                raise WriterLostError(f"writer process {index}: {answer.error}")
            answers.append(answer)
        return answers

    def finish(self) -> list[Any]:
        """Have every worker close, wait for the processes to end; return what each `close` returned."""
        for connection in self._connections:
            connection.send(None)
        answers = self.gather()
        for process in self._processes:
            process.join(ANSWER_SECONDS_MAX)
        return answers


def _serve(
    make: Callable[[], Any], connection: Connection, barrier: Barrier, inherited: list[Connection]
) -> None:
    """Be a process of the crew: answer once the worker is built, then one answer per call, then its `close`."""
    for other in inherited:
        other.close()
    try:
        worker = make()
        connection.send(None)
        while (call := connection.recv()) is not None:
            method, arguments = call
            barrier.wait(ANSWER_SECONDS_MAX)
            connection.send(getattr(worker, method)(*arguments))
        connection.send(worker.close())
    except EOFError:
        return
    except CannotMeasureError as reason:
        connection.send(_Failed(cannot=str(reason)))
    except Exception as error:  # the process boundary: the owner raises it again, with the process named
        connection.send(_Failed(f"{type(error).__name__}: {error}"))
