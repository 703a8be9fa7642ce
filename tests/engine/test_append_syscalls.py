"""A million appends make no system call on the appending thread but those of rotation, which are listed here."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from support import MIB, Worker, segment_files

APPENDS = 1_000_000
SEGMENT_BYTES = 32 * MIB
PACE_NS = 3000
ATTEMPTS = 5
CALL = re.compile(r"([a-z_0-9]+)\(")

# One rotation: look whether directory, lock, control and the sealed segment are in their place, the uuid, publish, ask who keeps the
# shard, close the index of the segment before the last. The futexes are the mutex shared with the helper and its wake-up.
ROTATION = re.compile(
    r"(?:futex )*(?:(?:newfstatat|fstat) (?:futex )*){4}getrandom (?:futex )*linkat (?:futex )*unlinkat (?:futex )*"
    r"fcntl (?:futex )*(?:close (?:futex )*)?"
)
HELPER_WAS_LATE = {"futex", "fallocate", "madvise"}


def strace_problem() -> str | None:
    """Say why system calls cannot be watched here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return f"strace does not work here: {done.stderr.decode().strip()}" if done.returncode else None


def calls_between_marks(trace: Path) -> list[str]:
    """Names of the system calls between the two marks, in order."""
    names = [match[1] for match in map(CALL.match, trace.read_text().splitlines()) if match]
    first, last = [position for position, name in enumerate(names) if name == "getppid"]
    return names[first + 1 : last]


def run_traced(root: Path, start_worker: type[Worker]) -> list[str]:
    trace = root.with_suffix(".trace")
    worker = start_worker(
        "append_between_marks",
        root=str(root),
        count=APPENDS,
        segment_size_bytes=SEGMENT_BYTES,
        pace_ns=PACE_NS,
    )
    thread = worker.hear()
    tracer = subprocess.Popen(
        ["strace", "-p", str(thread), "-o", str(trace)], stderr=subprocess.PIPE, text=True
    )
    assert tracer.stderr is not None
    try:
        assert "attached" in tracer.stderr.readline()
        worker.tell()
        assert worker.hear() == "done"
        assert worker.end() == 0
    finally:
        worker.kill()
        tracer.wait(30)
        tracer.stderr.close()
    return calls_between_marks(trace)


def test_no_system_call_but_those_of_rotation(root: Path, start_worker: type[Worker]) -> None:
    """The helper thread needs a CPU to stay ahead; where it got none the writer grows the file itself, and the run is repeated."""
    if (problem := strace_problem()) is not None:
        pytest.skip(problem)
    outside: list[str] = []
    for attempt in range(ATTEMPTS):
        calls = " ".join([*run_traced(root / str(attempt), start_worker), ""])
        rotations = len(ROTATION.findall(calls))
        outside = ROTATION.sub("", calls).split()
        print(f"{rotations} rotations, outside them {Counter(outside)}")
        assert rotations == len(segment_files(root / str(attempt))) - 1 >= 3
        assert set(outside) <= HELPER_WAS_LATE, outside
        if not outside:
            return
    pytest.fail(f"system calls outside rotations in each of {ATTEMPTS} runs: {Counter(outside)}")
