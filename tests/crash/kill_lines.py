"""Counting the lines of the engine that a process executes, and killing it at one of them."""

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import cometlog

TRACED = (
    "entrance", "shard", "rotation", "recovery", "durability", "slots", "control", "repair", "durable_mark", "locks",
    "write_paths/mmap_lockfree", "write_paths/file_lock", "write_paths/async_checkpoint", "write_paths/sync_checkpoint",
)  # fmt: skip
_ENGINE = Path(cometlog.__file__).parent


class LineTrace:
    """While entered, counts lines as ``file:line``. ``die_at``: the line at whose ``occurrence``-th execution to send SIGKILL.

    ``report``: the file that ``write`` stores the counts in, for the test that wants to know which lines there are.
    """

    def __init__(self, die_at: str = "", occurrence: int = 0, report: str = "") -> None:
        self._files = {str(_ENGINE / f"{name}.py"): name for name in TRACED}
        self._die_file, _, line = die_at.partition(":")
        self._die_line = int(line or 0)
        self._left = occurrence
        self._report = report
        self._counts: Counter[tuple[str, int]] = Counter()

    def _global(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        name = self._files.get(frame.f_code.co_filename)
        if name is None:
            return None
        if not self._report:
            return self._dying if name == self._die_file else None
        counts = self._counts

        def counting(frame: FrameType, event: str, _argument: Any) -> Any:
            if event == "line":
                counts[name, frame.f_lineno] += 1
            return counting

        return counting

    def _dying(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and frame.f_lineno == self._die_line:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._dying

    def __enter__(self) -> Self:
        sys.settrace(self._global)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.settrace(None)

    def write(self) -> None:
        """Store the counts where a report was asked for."""
        if self._report:
            counts = {f"{name}:{line}": times for (name, line), times in self._counts.items()}
            Path(self._report).write_text(json.dumps(counts))
