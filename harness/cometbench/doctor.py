"""What this machine lets the harness measure: one finding per tool or limit, with what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

from cometbench.environment import mount_of
from cometbench.errors import CometbenchError
from cometbench.machine import read_text
from cometbench.profiles import LONG_RUN_FREE_BYTES
from cometbench.profiling import kernel_split, py_spy
from cometbench.profiling.catalogue import MEMORY_DIRECTORY
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
    return [
        _engine(),
        *_bench_directory(directory),
        _strace(),
        _py_spy(),
        _perf(),
        _valgrind(),
        _memory_file_system(),
        _cpus(),
        _governor(),
    ]


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
        _free_space(free),
    ]


def _free_space(free_bytes: int) -> Finding:
    wanted = f"{_FREE_BYTES_WANTED >> 30} GiB wanted, {LONG_RUN_FREE_BYTES >> 30} GiB for profile full and section K"
    return Finding(
        "ok" if free_bytes >= LONG_RUN_FREE_BYTES else "limited",
        "free space",
        f"{free_bytes / (1 << 30):.1f} GiB; {wanted}",
    )


def _strace() -> Finding:
    try:
        require_strace()
    except CometbenchError as error:
        return Finding("limited", "strace", f"{error}; system calls per append are not measured")
    return Finding("ok", "strace", "may count system calls")


def _py_spy() -> Finding:
    """Try it on a child: whether ptrace is allowed has more reasons (Yama, capabilities, seccomp) than one could read."""
    reason = py_spy.why_not()
    if not reason and shutil.which("taskset") is None:
        reason = "taskset, which pins it, is not installed (Debian: apt-get install util-linux)"
    if reason:
        scope = read_text(Path("/proc/sys/kernel/yama/ptrace_scope"))
        yama = f"; kernel.yama.ptrace_scope is {scope}, 0 allows it" if scope not in {None, "0"} else ""
        return Finding(
            "limited", "py-spy", f"{reason}{yama}; profiles degrade to rusage, which the report says"
        )
    return Finding("ok", "py-spy", "may attach (ptrace is allowed)")


def _perf() -> Finding:
    try:
        with tempfile.TemporaryDirectory() as scratch:
            kernel_split.record_kernel(os.getpid(), 0.05, Path(scratch) / "perf.data")
    except CometbenchError as error:
        paranoid = read_text(Path("/proc/sys/kernel/perf_event_paranoid"))
        return Finding(
            "limited", "perf",
            f"{error}; kernel.perf_event_paranoid is {paranoid}; kernel time is divided by counting page faults",
        )  # fmt: skip
    return Finding(
        "ok", "perf", "may sample kernel stacks, which divides kernel time into calls and page faults"
    )


def _valgrind() -> Finding:
    if shutil.which("valgrind") is None:
        return Finding(
            "limited",
            "valgrind",
            "not installed (Debian: apt-get install valgrind); no instructions are counted",
        )
    return Finding("ok", "valgrind", "may count instructions and allocations")


def _memory_file_system() -> Finding:
    mount = mount_of(MEMORY_DIRECTORY)
    if not mount.is_memory:
        return Finding(
            "limited",
            "tmpfs",
            f"{MEMORY_DIRECTORY} is {mount.file_system}; nothing is compared with a log in memory",
        )
    return Finding("ok", "tmpfs", f"{MEMORY_DIRECTORY}, to compare storage with memory")


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
