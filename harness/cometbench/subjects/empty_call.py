"""An empty C function call: what Python charges for a loop iteration and a call before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cometbench._native import empty_call
from cometbench.subjects.contract import Subject


class EmptyCall(Subject):
    """Takes the entry and does nothing with it."""

    reads_back = "nothing"

    def append_call(self, batch: int) -> Callable[[Any], object]:
        del batch
        return empty_call
