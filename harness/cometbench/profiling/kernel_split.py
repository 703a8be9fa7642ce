"""How a thread's kernel time divides into system calls and page faults, which no counter of the kernel says.

Two ways. Counting: the faults of rusage times what one costs on this file system at least, measured in the same process; enough where
that is a small part. Sampling: `perf` on the clock of the CPU, kernel stacks alone; the outermost frame says by what the kernel was
entered. perf looks from inside the kernel and stops nobody for longer than a stack walk, so an operation of a microsecond is met where
it is. Samples outside the marked stretches do not count.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cometbench.errors import CannotMeasureError
from cometbench.profiling.time_budget import Accounts

SMALL_SHARE = 0.02
SAMPLES_MIN = 20
_RATE_HZ = 1000
_SECONDS_MAX = 60.0
_SAMPLE = re.compile(r"^\s*(\d+)\.(\d{9}):\s*$")
_FAULT_ENTRY = re.compile(r"page_fault|el[01]t?_(?:64_)?(?:da|ia)\b|do_translation_fault|do_mem_abort")
_SYSCALL_ENTRY = re.compile(r"entry_SYSCALL|do_syscall_64|el0_svc|entry_INT80")


class KernelSamples(NamedTuple):
    """Samples of a thread by where they met it; `other` are interrupts and the like."""

    user: int
    syscalls: int
    faults: int
    other: int

    @property
    def fault_share(self) -> float:
        """Share of page faults in the kernel time that has one of the two reasons, 0 to 1; 0 without such samples."""
        decided = self.syscalls + self.faults
        return self.faults / decided if decided else 0.0


class Split(NamedTuple):
    """Share of kernel time that page faults took, 0 to 1, how it was found, and how far it may be off (points of wall time)."""

    fault_share: float
    way: str
    uncertain_points: float


def counted_share(spent: Accounts, fault_ns: float) -> float:
    """Return the share of kernel time that the counted faults take at least, at most 1."""
    if spent.kernel_ns <= 0:
        return 0.0
    return min(spent.faults * fault_ns / spent.kernel_ns, 1.0)


def faults_matter(spent: Accounts, fault_ns: float) -> bool:
    """Whether the counted faults could be more than 2 % of the wall time."""
    return spent.faults * fault_ns > SMALL_SHARE * spent.wall_ns


def counted_split(spent: Accounts, fault_ns: float) -> Split:
    """Split by counting. A fault may cost several times the floor, so as much again is uncertain."""
    share = counted_share(spent, fault_ns)
    points = 100.0 * min(spent.faults * fault_ns, spent.kernel_ns) / spent.wall_ns
    return Split(share, "faults counted, times what one costs at least", points)


def sampled_split(samples: KernelSamples, spent: Accounts, fault_ns: float) -> Split:
    """Split by samples; what counting says instead is the uncertainty."""
    share = samples.fault_share
    kernel_points = 100.0 * max(spent.kernel_ns, 0) / spent.wall_ns
    apart = abs(share - counted_share(spent, fault_ns)) * kernel_points
    return Split(share, f"perf, {samples.syscalls + samples.faults} kernel samples", apart)


def record_kernel(thread: int, seconds: float, data: Path) -> None:
    """Sample a thread with perf into a file. Raises CannotMeasureError where perf is missing or may not."""
    events = ["-e", "cpu-clock", "-F", str(_RATE_HZ), "-k", "CLOCK_MONOTONIC", "-g", "--kernel-callchains"]
    said = _perf(
        [
            "record",
            "-q",
            "-B",
            "-N",
            *events,
            "-t",
            str(thread),
            "-o",
            str(data),
            "--",
            "sleep",
            f"{seconds:.3f}",
        ],
        seconds,
    )
    if said.returncode != 0 or not data.exists():
        reason = " ".join(said.stderr.split())[:200] or "no message"
        raise CannotMeasureError(f"perf may not sample kernel stacks: {reason}")


def read_samples(data: Path) -> str:
    """Return the text of the samples in a file of `record_kernel`. Raises CannotMeasureError where perf cannot read it."""
    said = _perf(["script", "-i", str(data), "-F", "time,ip,sym", "--ns"], 0)
    if said.returncode != 0:
        raise CannotMeasureError(f"perf cannot read what it recorded: {' '.join(said.stderr.split())[:200]}")
    return said.stdout


def _perf(arguments: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    perf = shutil.which("perf")
    if perf is None:
        raise CannotMeasureError("perf is not installed (Debian: apt-get install linux-perf)")
    try:
        return subprocess.run(
            [perf, *arguments], capture_output=True, text=True, timeout=seconds + _SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotMeasureError(
            f"perf {arguments[0]} did not end in {seconds + _SECONDS_MAX:.0f} s"
        ) from None


def count_kernel_samples(text: str, stretches: Sequence[tuple[int, int]]) -> KernelSamples:
    """Count the samples of `perf script -F time,ip,sym --ns` inside the stretches (CLOCK_MONOTONIC ns, in order)."""
    counts = {"user": 0, "syscalls": 0, "faults": 0, "other": 0}
    begins = [began for began, _ in stretches]
    at_ns, frames = 0, list[str]()
    for line in [*text.splitlines(), "0.000000000:"]:
        sample = _SAMPLE.match(line)
        if sample is None:
            if line.strip():
                frames.append(line)
            continue
        if at_ns and _inside(at_ns, begins, stretches):
            counts[_entered_by(frames)] += 1
        at_ns, frames = int(sample[1]) * 1_000_000_000 + int(sample[2]), []
    return KernelSamples(**counts)


def _inside(at_ns: int, begins: Sequence[int], stretches: Sequence[tuple[int, int]]) -> bool:
    place = bisect_right(begins, at_ns) - 1
    return place >= 0 and at_ns <= stretches[place][1]


def _entered_by(frames: Sequence[str]) -> str:
    """Tell by the outermost kernel frame that says it; a fault inside a system call belongs to the call."""
    for frame in reversed(frames):
        if _SYSCALL_ENTRY.search(frame):
            return "syscalls"
        if _FAULT_ENTRY.search(frame):
            return "faults"
    return "other" if frames else "user"
