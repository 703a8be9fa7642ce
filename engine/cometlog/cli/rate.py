"""How a command that goes on gets on: one line that is rewritten on a terminal, and a line now and then where there is none."""

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from cometlog.cli.output import complain
from cometlog.errors import CometlogError

TERMINAL_EVERY_S = 0.5
LINE_EVERY_S = 10.0

Statistics = TypeVar("Statistics")


class RateLine(Generic[Statistics]):
    """Context manager: says on standard error how a command gets on, from a thread of its own, and at the end what it did.

    ``count`` takes what is counted from the statistics; ``progress(statistics, rate)`` and ``summary(statistics, rate)`` put them into
    words, with what was counted a second, lately and from the beginning.
    """

    def __init__(
        self, name: str, stats: Callable[[], Statistics], count: Callable[[Statistics], int],
        progress: Callable[[Statistics, float], str], summary: Callable[[Statistics, float], str],
    ) -> None:  # fmt: skip
        self._name = name
        self._stats = stats
        self._count = count
        self._progress = progress
        self._summary = summary
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cometlog-rate", daemon=True)
        self._began_s = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        if self._is_terminal:
            complain("\r\x1b[K", end="")
        if kind is None:
            done, seconds = self._stats(), max(time.monotonic() - self._began_s, 1e-9)
            complain(f"{self._name}: {self._summary(done, self._count(done) / seconds)}")

    def _run(self) -> None:
        before, at_s = 0, self._began_s
        while not self._ending.wait(TERMINAL_EVERY_S if self._is_terminal else LINE_EVERY_S):
            try:
                now = self._stats()
            except (CometlogError, OSError):  # what is wrong with the log, the command itself runs into
                continue
            count, moment_s = self._count(now), time.monotonic()
            line = self._progress(now, (count - before) / (moment_s - at_s))
            before, at_s = count, moment_s
            if self._is_terminal:
                complain(f"\r{line}\x1b[K", end="")
            else:
                complain(f"{self._name}: {line}")
