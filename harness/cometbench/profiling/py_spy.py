"""py-spy as METHOD asks for it: pinned to the worker's CPU, native stacks, idle threads included, attached to a hot loop.

Unpinned, py-spy stops a thread from another CPU; by the time the stop arrives, an operation of a microsecond has entered its next
system call, and everything looks like system calls. On the same CPU the thread stands where its time slice ended.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from typing import NamedTuple

from cometbench.errors import CannotMeasureError
from cometbench.profiling.hot_loop import MARKER

RATE_HZ = 100
SECONDS_MIN = 1
ERRORS_SHARE_MAX = 0.02
SAMPLES_MIN = 30
_ATTACH_SECONDS_MAX = 60.0
_HELPER = "Helper_"
_SAMPLES = re.compile(r"Samples: (\d+) Errors: (\d+)")
_LINE_NUMBER = re.compile(r":\d+\)$")
_ADDRESS = re.compile(r"^0x[0-9a-f]+ \(([^()]+)\)$")
_NAME = re.compile(
    r"^(?:__GI_)?(?:__libc_)?_*(\w+?)(?:64|_2|_nocancel)?(?:@@?[\w.]+)? \(lib(?:c|pthread)[-.]"
)
_SYSTEM_CALLS = frozenset(
    {
        "write", "pwrite", "writev", "pwritev", "read", "pread", "readv", "open", "openat", "close", "stat", "fstat",
        "fstatat", "newfstatat", "lstat", "statx", "access", "fsync", "fdatasync", "msync", "sync_file_range",
        "fallocate", "posix_fallocate", "ftruncate", "rename", "renameat", "unlink", "unlinkat", "fcntl", "flock",
        "lockf", "madvise", "mmap", "munmap", "mprotect", "mremap", "syscall", "poll", "ppoll", "select",
        "epoll_wait", "epoll_pwait", "clock_nanosleep", "nanosleep", "usleep", "sched_yield",
        "futex_abstimed_wait_common", "futex_abstimed_wait_cancelable", "lll_lock_wait", "pthread_cond_timedwait",
        "pthread_cond_wait", "getdents",
    }
)  # fmt: skip
_ALLOCATOR = re.compile(
    r"^_*(?:(?:GI|libc|int)_+)?(?:malloc\w*|calloc|realloc|free|cfree|tcache\w*|sysmalloc|systrim|unlink_chunk\w*|memalign"
    r"|Py(?:Object|Mem|Mem_Raw)_(?:Malloc|Calloc|Realloc|Free)|PyObject_(?:Malloc|Free)\w*|pymalloc\w*|new_arena|arena_\w+) \("
)
_COLLECTOR = re.compile(
    r"^(?:gc_\w+|PyGC_Collect|_PyGC_\w*|_PyObject_GC_\w+|PyObject_GC_Del|collect_\w+|visit_\w+) \("
)

Stack = tuple[tuple[str, ...], int]


class Recording(NamedTuple):
    """Collapsed stacks as py-spy wrote them, and its own count of samples and errors."""

    collapsed: str
    samples: int
    errors: int


class Shares(NamedTuple):
    """Percent of the hot loop's samples: in system calls, in the allocator, in the garbage collector."""

    samples: int
    in_syscalls: float
    allocator: float
    collector: float

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of `in_syscalls`, points (Wilson)."""
        low, high = wilson(self.in_syscalls / 100, self.samples)
        return 50 * (high - low)


def find_py_spy() -> str:
    """Return the program's path: on PATH, or beside the interpreter. Raises CannotMeasureError."""
    found = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if found is None:
        raise CannotMeasureError("py-spy is not installed (pip install py-spy)")
    return found


def check_can_record(seconds: float) -> tuple[str, str]:
    """Return the paths of py-spy and taskset. Raises CannotMeasureError where one is missing or less than a second is asked for."""
    if seconds < SECONDS_MIN:
        raise CannotMeasureError(
            f"py-spy samples for {SECONDS_MIN} s at least, and {seconds:g} s were asked for"
        )
    program, taskset = find_py_spy(), shutil.which("taskset")
    if taskset is None:
        raise CannotMeasureError("taskset is not installed (Debian: apt-get install util-linux)")
    return program, taskset


def record(process: int, cpu: int, seconds: float) -> Recording:
    """Sample a process for so many whole seconds from the CPU that its hot thread is pinned to.

    Raises CannotMeasureError as `check_can_record` does, and where ptrace is refused or over 2 % of the samples failed.
    """
    program, taskset = check_can_record(seconds)
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "collapsed.txt"
        pinned = [taskset, "-c", str(cpu), program, "record", "--native", "--idle", "-r", str(RATE_HZ)]
        asked = [*pinned, "-d", str(int(seconds)), "-f", "raw", "-o", str(output), "--pid", str(process)]
        limit_s = seconds + _ATTACH_SECONDS_MAX
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            raise CannotMeasureError(f"py-spy did not end within {limit_s:.0f} s") from None
        said = done.stdout + done.stderr
        if not output.exists():
            raise CannotMeasureError(f"py-spy cannot attach: {refusal(said)}")
        samples, errors = parse_counts(said)
        return Recording(output.read_text(), samples, errors)


def refusal(said: str) -> str:
    """Return the line in which py-spy says what stands in its way."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reasons = [line for line in lines if re.search(r"error|permi|denied|reason|fail", line, re.IGNORECASE)]
    return " ".join((reasons or lines or ["no message"])[:3])


def parse_counts(said: str) -> tuple[int, int]:
    """Read samples and errors from py-spy's last line. Raises CannotMeasureError where they are missing or over 2 % failed."""
    counts = _SAMPLES.search(said)
    if counts is None:
        raise CannotMeasureError(f"py-spy did not say how many samples it took: {refusal(said)}")
    samples, errors = int(counts[1]), int(counts[2])
    if errors > ERRORS_SHARE_MAX * (samples + errors):
        raise CannotMeasureError(
            f"py-spy lost {errors} of {samples + errors} samples; over {ERRORS_SHARE_MAX:.0%} fails the profile"
        )
    return samples, errors


def parse_collapsed(text: str) -> list[Stack]:
    """Read collapsed stacks, outermost frame first, frames normalised, equal stacks added up."""
    stacks: dict[tuple[str, ...], int] = {}
    for line in text.splitlines():
        joined, _, count = line.rpartition(" ")
        if joined and count.isdecimal():
            frames = tuple(normalise(frame) for frame in joined.split(";"))
            stacks[frames] = stacks.get(frames, 0) + int(count)
    return sorted(stacks.items())


def normalise(frame: str) -> str:
    """Drop the line number, and name an address for its library: memcpy and memset of libc are addresses that differ each run."""
    named = _ADDRESS.sub(r"[\1]", frame)
    return _LINE_NUMBER.sub(")", named)


def hot_stacks(stacks: Sequence[Stack]) -> list[Stack]:
    """Keep the stacks of the hot loop, cut to what is inside its marker."""
    found = []
    for frames, count in stacks:
        at = next((i for i, frame in enumerate(frames) if frame.partition(" ")[0] == MARKER), None)
        if at is not None:
            found.append((frames[at:], count))
    return found


def helper_stacks(stacks: Sequence[Stack]) -> list[Stack]:
    """Keep the stacks of the log's helper thread, cut to what is inside its round."""
    found = []
    for frames, count in stacks:
        at = next((i for i, frame in enumerate(frames) if frame.startswith(_HELPER)), None)
        if at is not None:
            found.append((frames[at:], count))
    return found


def innermost(stacks: Sequence[Stack]) -> Counter[str]:
    """Count samples by the function they met."""
    counts = Counter[str]()
    for frames, count in stacks:
        counts[frames[-1].partition(" ")[0]] += count
    return counts


def shares(stacks: Sequence[Stack]) -> Shares:
    """Return the shares of the hot loop's stacks. Raises CannotMeasureError with too few samples to say anything."""
    samples = sum(count for _, count in stacks)
    if samples < SAMPLES_MIN:
        raise CannotMeasureError(f"{samples} samples of the hot loop, {SAMPLES_MIN} are the least")

    def percent(holds: Callable[[tuple[str, ...]], bool]) -> float:
        return 100.0 * sum(count for frames, count in stacks if holds(frames)) / samples

    return Shares(samples, percent(is_system_call), percent(is_allocator), percent(is_collector))


def is_system_call(frames: tuple[str, ...]) -> bool:
    """Whether the innermost frame is a C library function that does nothing but call the kernel."""
    name = _NAME.match(frames[-1])
    return name is not None and name[1] in _SYSTEM_CALLS


def is_allocator(frames: tuple[str, ...]) -> bool:
    """Whether one of the two innermost frames allocates or frees."""
    return any(_ALLOCATOR.match(frame) for frame in frames[-2:])


def is_collector(frames: tuple[str, ...]) -> bool:
    """Whether the garbage collector is on the stack."""
    return any(_COLLECTOR.match(frame) for frame in frames)


def wilson(share: float, samples: int) -> tuple[float, float]:
    """Return the 95 % interval of a share seen in so many independent samples (Wilson 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z * sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples)) / (1 + z * z / samples)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def why_not() -> str:
    """Return why py-spy cannot attach to a child of this process, or nothing: it is tried on a sleeping one."""
    try:
        program = find_py_spy()
    except CannotMeasureError as reason:
        return str(reason)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as sleeper:
        try:
            time.sleep(0.1)
            done = subprocess.run(
                [program, "dump", "--pid", str(sleeper.pid)],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "it did not answer within 30 s"
        finally:
            sleeper.kill()
    return "" if done.returncode == 0 else refusal(done.stdout + done.stderr)
