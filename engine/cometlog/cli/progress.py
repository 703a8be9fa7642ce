"""How far a command is, on standard error while a person looks at it."""

import sys
import time

from cometlog.cli.output import complain

EVERY_S = 0.2


class Progress:
    """``report(done)`` rewrites one line, a few times a second; ``end`` removes it. Silent where standard error is no terminal."""

    def __init__(self, total: int, what: str) -> None:
        self._total = total
        self._what = what
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()
        self._due_s = 0.0

    def report(self, done: int) -> None:
        """Say that ``done`` of the total are done."""
        if self._is_shown and time.monotonic() >= self._due_s:
            share = 100 * done // max(self._total, 1)
            complain(f"\r{done:,} of {self._total:,} {self._what}, {share} %\x1b[K", end="")
            self._due_s = time.monotonic() + EVERY_S

    def end(self) -> None:
        """Leave the line empty."""
        if self._is_shown:
            complain("\r\x1b[K", end="")
