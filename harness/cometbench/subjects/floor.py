"""A machine floor as a subject: the loop itself runs in C.

So the worker asks it for the time of many calls at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cometbench import _native
from cometbench.errors import SubjectError
from cometbench.subjects.contract import Subject, Timed


class Floor(Subject):
    """Config `function` names a function of cometbench._native: (loops, path) to seconds."""

    reads_back = "nothing"

    def append_call(self, batch: int) -> Callable[[Any], object]:
        raise SubjectError(
            f"floor {self.config['function']} times itself and has no single call (batch {batch})"
        )

    def time_calls(self, items: list[Any], batch: int) -> Timed:
        del batch
        function = getattr(_native, str(self.config["function"]))
        return Timed(function(len(items), str(self.directory / "floor.bin")), None)
