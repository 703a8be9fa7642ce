"""Volatile facts of a run: kernel, governor, mitigations, limits, load, the bench directory's mount."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from cometbench.machine import read_text
from cometbench.model import MEMORY_FILE_SYSTEMS, Fact

_PACKAGES = ("cometlog", "cometbench", "pyperf", "py-spy", "numpy", "zstandard")


class Mount(NamedTuple):
    """The mount a directory lies on: type and options, without device or mount point."""

    file_system: str
    options: str

    @property
    def is_memory(self) -> bool:
        """True where writes never reach a disk."""
        return self.file_system in MEMORY_FILE_SYSTEMS


class Commit(NamedTuple):
    """The checkout's commit and whether files differ from it."""

    hash: str
    dirty: bool


def mount_of(directory: Path, mountinfo: str | None = None) -> Mount:
    """File system type and options of the mount that holds `directory`, by the longest matching mount point.

    Options that name paths (overlay layers, subvolumes) are dropped.
    """
    text = mountinfo if mountinfo is not None else read_text(Path("/proc/self/mountinfo")) or ""
    resolved = os.path.realpath(directory)
    best, found = -1, Mount("unknown", "")
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match.group(1), 8)), fields[4])
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            options = [
                o
                for o in f"{fields[5]},{rest[2]}".split(",")
                if ("/" not in o and "=" not in o) or o.startswith("data=")
            ]
            best, found = len(point), Mount(rest[0], ",".join(dict.fromkeys(options)))
    return found


def volatile_facts(directory: Path) -> dict[str, Fact]:
    """Everything that may change between two runs on one machine; `directory` is the bench directory."""
    mount = mount_of(directory)
    cpu = Path("/sys/devices/system/cpu")
    facts: dict[str, Fact] = {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "governor": read_text(cpu / "cpu0/cpufreq/scaling_governor"),
        "turbo": read_text(cpu / "intel_pstate/no_turbo"),
        "clock_source": read_text(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        "huge_pages": read_text(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "mitigations": [f"{p.name}: {read_text(p)}" for p in sorted((cpu / "vulnerabilities").glob("*"))],
        "file_system": mount.file_system,
        "mount_options": mount.options,
        "cgroup_cpu_max": read_text(Path("/sys/fs/cgroup/cpu.max")),
        "cgroup_memory_max": read_text(Path("/sys/fs/cgroup/memory.max")),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "ptrace_scope": read_text(Path("/proc/sys/kernel/yama/ptrace_scope")),
        "load_average_1min": os.getloadavg()[0],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }
    facts.update(steal_ticks=_steal_ticks(), free_bytes=_free_bytes(directory))
    return {name: value for name, value in facts.items() if value is not None}


def versions() -> dict[str, str]:
    """Versions of what was measured and of what measured it; a package that is missing is left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit_of(checkout: Path) -> Commit:
    """HEAD of the checkout; "unknown" where git or the repository is missing."""
    head = _git(checkout, "rev-parse", "HEAD")
    if head is None:
        return Commit("unknown", True)
    return Commit(head, bool(_git(checkout, "status", "--porcelain", "--untracked-files=no")))


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=checkout, capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _steal_ticks() -> int | None:
    match = re.match(r"cpu +((?:\d+ ?)+)", read_text(Path("/proc/stat")) or "")
    fields = match.group(1).split() if match else []
    return int(fields[7]) if len(fields) > 7 else None


def _free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
