"""A tracer that takes another process from one distinct shared state of a shard to the next.

One thread of the process is single-stepped; its helper thread stands still meanwhile, at a place where it holds no mutex, so the
operation alone decides what comes next. Compiles stepper.c, which compares the shared memory after every instruction.
"""

import ctypes
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from shared_state import SharedState
from support import Worker

MARK = signal.SIGUSR1
"""What the worker sends itself right before and right after the operation; the tracer keeps it from arriving."""
STEPS_MAX = 50_000_000
_CHANGED, _CALLED, _MARKED, _ENDED, _TOO_LONG = 1, 2, 4, 8, 16
_FUTEX_NUMBERS = {"202", "98"}  # x86-64, arm64


def compile_stepper(directory: Path) -> ctypes.CDLL:
    """Compile stepper.c with the system's C compiler. Raises LookupError where there is none."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise LookupError("no C compiler (cc) is installed, which the single-stepper needs")
    library = directory / "stepper.so"
    source = Path(__file__).with_name("stepper.c")
    subprocess.run(
        [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source)], check=True
    )
    return ctypes.CDLL(str(library), use_errno=True)


class State(NamedTuple):
    """A distinct shared state: what changed on the way to it, and after how many system calls of the operation."""

    labels: tuple[str, ...]
    calls: int


class Tracee:
    """A worker under control. ``state`` is what it shares; ``steps`` counts the instructions it was taken through."""

    def __init__(self, stepper: ctypes.CDLL, worker: Worker, directory: Path) -> None:
        self._stepper = stepper
        self.worker = worker
        self.state = SharedState(directory)
        self._steps = ctypes.c_uint64(0)
        self._helpers: list[int] = []
        self._holds = False
        self.calls = 0
        self._check(stepper.seize(worker.pid), "seize the worker")
        self.hold_helper()

    @staticmethod
    def _check(result: int, what: str) -> None:
        if result < 0:
            raise OSError(-result, f"could not {what}")

    @property
    def steps(self) -> int:
        return self._steps.value

    def _threads(self) -> list[int]:
        return [int(path.name) for path in Path(f"/proc/{self.worker.pid}/task").iterdir()]

    def hold_helper(self) -> None:
        """Stop every other thread; the main thread waits for a word, so the helper holds its mutex for moments only."""
        for thread in self._threads():
            if thread == self.worker.pid or self._holds:
                continue
            if thread not in self._helpers:
                self._check(self._stepper.seize(thread), "seize the helper thread")
                self._helpers.append(thread)
            while True:
                self._check(self._stepper.stop(thread), "stop the helper thread")
                call = Path(f"/proc/{self.worker.pid}/task/{thread}/syscall").read_text().split()[0]
                if call in _FUTEX_NUMBERS:
                    break
                self._check(self._stepper.let_run(thread), "let the helper thread run")
                time.sleep(0.0002)
        self._holds = True

    def run_to_mark(self) -> None:
        """Let the main thread run to the beginning of its operation, and take the state there as seen."""
        assert self._stepper.wait_for_mark(self.worker.pid, MARK) == _MARKED, (
            "the worker ended before its mark"
        )
        self.state.rebase()
        self.calls = 0

    def next_state(self) -> State | None:
        """Step to the next distinct shared state; None at the end of the operation."""
        while True:
            calls_before = self.calls
            areas = self.state.c_areas()
            found = self._stepper.step_to_change(
                self.worker.pid,
                areas,
                len(areas),
                MARK,
                ctypes.c_uint64(STEPS_MAX),
                ctypes.byref(self._steps),
            )
            assert not found & (_ENDED | _TOO_LONG), f"stepping ended with {found} after {self.steps} steps"
            labels = self.state.changes() if found & _CHANGED else []
            if found & _CALLED:
                self.calls += 1
                labels += self.state.file_changes()
            if labels or found & _MARKED:
                return State(tuple(labels), calls_before) if labels else None

    def run_through_calls(self, calls: int) -> None:
        """Run over the first system calls of the operation without stepping, and take what they left as seen."""
        if calls:
            assert self._stepper.run_through_calls(self.worker.pid, calls) == _CALLED
            self.calls = calls
            self.state.changes()
            self.state.file_changes()

    def go_on(self, *, helper: bool) -> None:
        """Let the process run through the end of its operation, with its helper thread or without."""
        released = self._helpers if helper and self._holds else []
        self._holds = self._holds and not helper
        for thread in [*released, self.worker.pid]:
            self._check(self._stepper.let_run(thread), "let a thread run")
        assert self._stepper.wait_for_mark(self.worker.pid, MARK) == _MARKED, (
            "the worker ended in its operation"
        )
        self._check(self._stepper.let_run(self.worker.pid), "let the worker run")

    def finish(self) -> None:
        """Leave the operation behind without letting the helper run; the worker says its outcome."""
        self._check(self._stepper.let_run(self.worker.pid), "let the worker run")

    def kill(self) -> None:
        """Kill the process and reap its threads, which their tracer must do itself."""
        self.worker.process.kill()
        for thread in self._helpers:
            self._stepper.reap(thread)
        self.worker.process.wait(30)
        self.state.close()
