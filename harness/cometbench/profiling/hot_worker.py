"""The profiled process: `python -m cometbench.profiling.hot_worker`. Takes commands as JSON lines, answers each with one line.

`open` starts a piece of work, `run` spends so many seconds in it, `hold` goes on until the next line comes, `close` verifies. The
hot thread is pinned to a CPU where one is named, and only it: helper threads keep the CPUs they had.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import sys
import threading
from pathlib import Path
from typing import IO, Any

from cometbench._native import memcpy_fresh_map, memcpy_hot
from cometbench.errors import CannotMeasureError, CometbenchError
from cometbench.profiling.hot_loop import HotLoop, Spent
from cometbench.profiling.work import Work, make_work
from cometbench.syscall_probe import BEGIN_MARK, END_MARK, mark

_FLOOR_REPEATS = 8
_HOT_COPIES_A_MIB = 16


class _Worker:
    """At most one piece of work at a time, all on one file system."""

    def __init__(self, stdin: IO[bytes]) -> None:
        self._stdin = stdin
        self._fault_ns: float | None = None
        self._work: Work | None = None
        self._loop: HotLoop | None = None

    def open(self, command: dict[str, Any]) -> dict[str, Any]:
        """Start the work and warm it up."""
        directory = Path(command["directory"])
        self._work = make_work(directory, command["config"], command["seed"], command["process"])
        self._loop = HotLoop(self._work)
        if command["cpu"] is not None:
            pin_hot_thread(command["cpu"])
        if self._fault_ns is None:
            self._fault_ns = fault_floor_ns(directory)
        return {"thread": threading.get_native_id(), "fault_ns": self._fault_ns}

    def run(self, command: dict[str, Any]) -> dict[str, Any]:
        """Spend so many seconds in the hot loop."""
        seconds = float(command["seconds"])
        return _answer(self._opened().run(lambda spent_s: spent_s >= seconds))

    def hold(self, _: dict[str, Any]) -> dict[str, Any]:
        """Stay in the hot loop until the next line comes, which says no more than that."""
        spent = self._opened().run(lambda _: bool(select.select([self._stdin], [], [], 0)[0]))
        self._stdin.readline()
        return _answer(spent)

    def count(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do so many calls between the marks that a trace is cut by."""
        self._opened().between_marks(int(command["calls"]), lambda: mark(BEGIN_MARK), lambda: mark(END_MARK))
        return {}

    def close(self, _: dict[str, Any]) -> dict[str, Any]:
        """End the work and say what it verified."""
        self._opened().close()
        assert self._work is not None, "opened together with the loop"
        finding = self._work.finish()
        self._work = self._loop = None
        return dataclasses.asdict(finding)

    def _opened(self) -> HotLoop:
        if self._loop is None:
            raise CometbenchError("no work is open")
        return self._loop


def pin_hot_thread(cpu: int) -> None:
    """Pin the calling thread to a CPU, and give every other thread of the process all CPUs it may use."""
    everywhere, hot = os.sched_getaffinity(0) | {cpu}, threading.get_native_id()
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), {cpu} if int(task.name) == hot else everywhere)


def fault_floor_ns(directory: Path) -> float:
    """Return what one page fault on a new file of this file system takes at least, ns: first touch less the copy itself."""
    path = str(directory / f"fault-floor.{os.getpid()}.bin")
    fresh_s = min(memcpy_fresh_map(1, path) for _ in range(_FLOOR_REPEATS))
    hot_s = min(memcpy_hot(_HOT_COPIES_A_MIB, path) for _ in range(_FLOOR_REPEATS))
    pages = (1 << 20) // os.sysconf("SC_PAGESIZE")
    return max(fresh_s - hot_s, 0.0) / pages * 1e9


def _answer(spent: Spent) -> dict[str, Any]:
    return {**spent._asdict(), "accounts": spent.accounts._asdict()}


def main() -> None:
    """Answer commands until standard input ends."""
    stdin = os.fdopen(
        0, "rb", buffering=0, closefd=False
    )  # unbuffered, or `hold` would not see what is read ahead
    worker = _Worker(stdin)
    commands = {name: getattr(worker, name) for name in ("open", "run", "hold", "count", "close")}
    while line := stdin.readline():
        command = json.loads(line)
        try:
            answer = commands[command["do"]](command)
        except CannotMeasureError as reason:
            answer = {"cannot": str(reason)}
        except Exception as error:  # the process boundary: the owner raises it again
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
