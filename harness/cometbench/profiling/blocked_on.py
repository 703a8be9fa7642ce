"""What a blocked thread waits for, seen from outside in /proc without stopping it: storage, another writer, or something else."""

from __future__ import annotations

import platform
from pathlib import Path

RUNNING, STORAGE, OTHERS, ELSEWHERE, UNSEEN = "running", "storage", "others", "elsewhere", "unseen"

# System call numbers by what a thread blocked in them waits for: the disk, or somebody who lets go of a lock or wakes it.
_STORAGE: dict[str, dict[str, int]] = {
    "x86_64": {
        "write": 1, "pwrite64": 18, "writev": 20, "msync": 26, "fsync": 74, "fdatasync": 75, "ftruncate": 77,
        "sync_file_range": 277, "fallocate": 285, "pwritev": 296, "madvise": 28, "io_uring_enter": 426,
    },
    "aarch64": {
        "write": 64, "pwrite64": 68, "writev": 66, "msync": 227, "fsync": 82, "fdatasync": 83, "ftruncate": 46,
        "sync_file_range": 84, "fallocate": 47, "pwritev": 70, "madvise": 233, "io_uring_enter": 426,
    },
}  # fmt: skip
_OTHERS: dict[str, dict[str, int]] = {
    "x86_64": {"futex": 202, "fcntl": 72, "flock": 73, "nanosleep": 35, "clock_nanosleep": 230, "sched_yield": 24},
    "aarch64": {"futex": 98, "fcntl": 25, "flock": 32, "nanosleep": 101, "clock_nanosleep": 115, "sched_yield": 124},
}  # fmt: skip


def read_wait(process: int, thread: int) -> str:
    """Return RUNNING, or what the thread is blocked on; UNSEEN where the kernel does not show it."""
    try:
        text = Path(f"/proc/{process}/task/{thread}/syscall").read_text()
    except OSError:
        return UNSEEN
    return classify_wait(text, platform.machine())


def classify_wait(text: str, machine: str) -> str:
    """Classify a line of /proc/PID/syscall on a machine ("x86_64", "aarch64"); others are UNSEEN, their numbers being unknown."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    if first == RUNNING:
        return RUNNING
    if machine not in _STORAGE or not first.isdecimal():
        return UNSEEN
    number = int(first)
    if number in _STORAGE[machine].values():
        return STORAGE
    return OTHERS if number in _OTHERS[machine].values() else ELSEWHERE
