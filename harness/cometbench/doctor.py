"""What this machine lets the harness measure: one finding per tool or limit, with what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from cometbench.environment import mount_of
from cometbench.errors import CometbenchError
from cometbench.machine import read_text
from cometbench.run_root import RunRoot
from cometbench.syscalls import require_strace

_FREE_BYTES_WANTED = 2 << 30


class Finding(NamedTuple):
    """`state` is "ok", "limited" (a part of a run is missing or noisy) or "missing"."""

    state: Literal["ok", "limited", "missing"]
    what: str
    detail: str
    required: bool = False


def examine(directory: Path) -> list[Finding]:
    """All findings; `directory` is the bench directory, which is made where it is missing."""
    return [_engine(), *_bench_directory(directory), _strace(), _py_spy(), _cpus(), _governor()]


def _engine() -> Finding:
    if importlib.util.find_spec("cometlog") is None:
        return Finding(
            "missing", "cometlog", "not installed; only floors and raw files can be measured", required=True
        )
    return Finding("ok", "cometlog", "installed")


def _bench_directory(directory: Path) -> list[Finding]:
    try:
        with RunRoot(directory):
            mount, status = mount_of(directory), os.statvfs(directory)
    except CometbenchError as error:
        return [Finding("missing", "bench directory", str(error), required=True)]
    free = status.f_bavail * status.f_frsize
    kind = "memory: durable appends will look free" if mount.is_memory else "disk"
    return [
        Finding("limited" if mount.is_memory else "ok", "bench directory", f"{mount.file_system}, {kind}"),
        Finding(
            "ok" if free >= _FREE_BYTES_WANTED else "limited",
            "free space",
            f"{free / (1 << 30):.1f} GiB, 2 GiB wanted",
        ),
    ]


def _strace() -> Finding:
    try:
        require_strace()
    except CometbenchError as error:
        return Finding("limited", "strace", f"{error}; system calls per append are not measured")
    return Finding("ok", "strace", "may count system calls")


def _py_spy() -> Finding:
    scope = read_text(Path("/proc/sys/kernel/yama/ptrace_scope"))
    beside_python = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if shutil.which("py-spy", path=beside_python) is None:
        return Finding("limited", "py-spy", "not found; profiles degrade to rusage")
    if scope not in (None, "0") and os.geteuid() != 0:
        return Finding("limited", "py-spy", f"ptrace_scope is {scope}; profiles degrade to rusage")
    return Finding("ok", "py-spy", "may attach")


def _cpus() -> Finding:
    usable = len(os.sched_getaffinity(0))
    state: Literal["ok", "limited"] = "ok" if usable >= 2 else "limited"
    return Finding(
        state, "CPUs", f"{usable} usable; with more writers than CPUs times include waiting for one"
    )


def _governor() -> Finding:
    governor = read_text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    if governor is None:
        return Finding("ok", "frequency", "the kernel shows no governor (virtual machine)")
    return Finding("ok" if governor == "performance" else "limited", "frequency", f"governor {governor}")
