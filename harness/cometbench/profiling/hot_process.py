"""The owner's side of a profiled process: commands and answers over pipes, and which system calls it is seen blocked in."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cometbench.benchmark import ConfigValue
from cometbench.errors import CannotMeasureError, WriterLostError
from cometbench.profiling.blocked_on import read_wait
from cometbench.profiling.hot_loop import Spent
from cometbench.profiling.time_budget import Accounts
from cometbench.verification import Finding

_ANSWER_SECONDS_MAX = 120.0
_LOOK_S = 0.002


class HotProcess:
    """One hot worker; a context manager that ends it. Calls that wait for an answer raise WriterLostError where none comes."""

    def __init__(self, *, cpu: int | None, seed: int, process: int = 0) -> None:
        self._cpu, self._seed, self._number = cpu, seed, process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cometbench.profiling.hot_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.thread = self._process.pid
        self.fault_ns = 0.0
        self.waits: Counter[str] = Counter()
        self.finding = Finding("not_applicable")

    @property
    def pid(self) -> int:
        """Process id; its first thread runs the hot loop."""
        return self._process.pid

    @property
    def cpu(self) -> int | None:
        """The CPU that the hot thread is pinned to."""
        return self._cpu

    def open(self, directory: Path, config: Mapping[str, ConfigValue]) -> None:
        """Start a piece of work in an existing directory and warm it up. Raises CannotMeasureError where the machine refuses it."""
        self.ask_open(directory, config)
        self.opened()

    def ask_open(self, directory: Path, config: Mapping[str, ConfigValue]) -> None:
        """Ask for it without waiting: several processes start at once."""
        asked = {"directory": str(directory), "config": dict(config), "seed": self._seed}
        self._ask("open", **asked, process=self._number, cpu=self._cpu)

    def opened(self) -> None:
        """Wait until the work is warm."""
        answer = self._answer()
        self.thread, self.fault_ns = int(answer["thread"]), float(answer["fault_ns"])
        self.waits.clear()

    def run(self, seconds: float) -> Spent:
        """Spend so many seconds in the hot loop, unprofiled."""
        self.ask_run(seconds)
        return self.spent()

    def ask_run(self, seconds: float) -> None:
        """Begin to spend so many seconds."""
        self._ask("run", seconds=seconds)

    def hold(self) -> None:
        """Stay in the hot loop from now on."""
        self._ask("hold")

    def release(self) -> Spent:
        """End what `hold` began."""
        self._ask("release")
        return self.spent()

    def look(self) -> None:
        """Note what the hot thread is doing at this moment, without stopping it."""
        self.waits[read_wait(self.pid, self.thread)] += 1

    def spent(self) -> Spent:
        """Wait for what was spent, looking at the thread meanwhile."""
        while not self._ready(_LOOK_S):
            self.look()
        answer = self._answer()
        accounts = Accounts(**answer["accounts"])
        stretches = [(began, ended) for began, ended in answer["stretches"]]
        return Spent(accounts, answer["calls"], answer["collections"], answer["collecting_ns"], stretches)

    def count(self, calls: int) -> None:
        """Do so many calls between two marks for a tracer."""
        self._ask("count", calls=calls)
        self._answer()

    def close_work(self) -> None:
        """End the work; `finding` says what it verified."""
        self._ask("close")
        self.finding = Finding(**self._answer())

    def _ask(self, what: str, **arguments: Any) -> None:
        assert self._process.stdin is not None, "opened as a pipe"
        try:
            self._process.stdin.write(json.dumps({"do": what, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WriterLostError(f"the profiled process ended before {what!r}") from None

    def _answer(self) -> dict[str, Any]:
        until = time.monotonic() + _ANSWER_SECONDS_MAX
        while not self._ready(1.0):
            if time.monotonic() > until:
                raise WriterLostError(f"no answer of the profiled process in {_ANSWER_SECONDS_MAX:.0f} s")
        assert self._process.stdout is not None, "opened as a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise WriterLostError("the profiled process ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        if "cannot" in answer:
            raise CannotMeasureError(answer["cannot"])
        if "error" in answer:
            raise WriterLostError(f"the profiled process: {answer['error']}")
        return answer

    def _ready(self, seconds: float) -> bool:
        assert self._process.stdout is not None, "opened as a pipe"
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.__exit__(kind, error, trace)
