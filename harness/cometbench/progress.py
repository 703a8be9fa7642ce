"""Progress: a live bar on a terminal, plain lines without one.

Estimates come from what workers took so far.
"""

from __future__ import annotations

from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_PLAIN_INTERVAL_SECONDS = 10.0


class RunProgress:
    """Shows phases and the seconds left; used as a context manager by one run.

    Failures are printed at once.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._plain_last = monotonic()
        self._started = monotonic()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} workers"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=self.console,
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def phase(self, title: str, workers: int, seconds_left: float | None) -> None:
        """Begin a phase with so many workers to come."""
        left = _left(seconds_left)
        if self._bar is None:
            self.console.print(f"{self._clock()} {title}: {workers} workers{left and ', ' + left}")
        elif self._task is None:
            self._task = self._bar.add_task(title, total=workers, left=left)
        else:
            self._bar.reset(self._task, total=workers, description=title, left=left)
        self._plain_last = monotonic()

    def advance(self, done: int, workers: int, name: str, seconds_left: float | None) -> None:
        """One worker of the phase has ended."""
        left = _left(seconds_left)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, left=left)
        elif monotonic() - self._plain_last >= _PLAIN_INTERVAL_SECONDS:
            self._plain_last = monotonic()
            self.console.print(
                f"{self._clock()} {done}/{workers} workers{left and ', ' + left} (last: {name})"
            )

    def say(self, message: str) -> None:
        """Print a line that stays."""
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _clock(self) -> str:
        seconds = int(monotonic() - self._started)
        return f"\\[{seconds // 60:02d}:{seconds % 60:02d}]"


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    whole = round(seconds)
    return f"about {whole // 60} min {whole % 60} s left" if whole >= 60 else f"about {whole} s left"
