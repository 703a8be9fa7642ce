"""System calls of a hot thread, counted by strace between two marks; never timed under it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from cometbench.errors import CannotMeasureError
from cometbench.profiling.hot_process import HotProcess
from cometbench.syscalls import StraceMissingError, parse_trace, require_strace

_ATTACH_SECONDS_MAX = 20.0
_STAT = frozenset({"stat", "fstat", "lstat", "newfstatat", "fstatat", "statx"})


def check_can_count() -> None:
    """Raise CannotMeasureError where strace is missing or may not trace."""
    try:
        require_strace()
    except StraceMissingError as reason:
        raise CannotMeasureError(str(reason)) from reason


def count_calls(process: HotProcess, calls: int) -> Counter[str]:
    """Count the calls by name while the hot thread does `calls` calls of its work. Raises CannotMeasureError without strace."""
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "strace.txt"
        command = ["strace", "-f", "-e", "signal=none", "-o", str(output), "-p", str(process.pid)]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as tracer:
            try:
                _wait_attached(process.pid, tracer)
                process.count(calls)
            finally:
                tracer.send_signal(signal.SIGINT)
        return parse_trace(output.read_text(errors="replace"))


def not_stat(counted: Counter[str]) -> int:
    """Return how many of the calls are no stat in any of its forms."""
    return sum(count for name, count in counted.items() if name not in _STAT)


def _wait_attached(pid: int, tracer: subprocess.Popen[str]) -> None:
    """Wait until every thread of the process has a tracer, as /proc says."""
    until = time.monotonic() + _ATTACH_SECONDS_MAX
    while time.monotonic() < until and tracer.poll() is None:
        tasks = [Path(f"/proc/{pid}/task/{task}/status") for task in os.listdir(f"/proc/{pid}/task")]
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread ended meanwhile
            if all("\nTracerPid:\t0\n" not in task.read_text() for task in tasks):
                return
        time.sleep(0.005)
    tracer.kill()
    raise CannotMeasureError(
        "strace cannot attach to the profiled process: " + (tracer.communicate()[1] or "").strip()[-200:]
    )
