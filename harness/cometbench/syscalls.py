"""System calls per append, counted by strace; never timed under it.

Two readings: the appending thread's calls between two marks of a trace (the measured value), and all threads'
calls by `strace -c -f`, as the difference of two runs that append different numbers of entries (start-up
cancels out).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cometbench.benchmark import Benchmark
from cometbench.environment import mount_of
from cometbench.errors import CometbenchError
from cometbench.model import Measurement, Sample
from cometbench.processes import run_module
from cometbench.profiles import Profile
from cometbench.run_root import RunRoot
from cometbench.syscall_probe import BEGIN_MARK, END_MARK

_APPENDS_SMALL = 100
_APPENDS_WITH_CALLS = 1_000
# A path with fewer calls per append than this in the small trace is traced again over many appends.
_FREE_BELOW = 0.5
_TRACE_LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(\(| resumed)")
_SUMMARY_LINE = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$")


class StraceMissingError(CometbenchError):
    """strace cannot count here; the message says why."""


def count_syscalls(
    benchmark: Benchmark, profile: Profile, root: RunRoot, seed: int, search_path: Sequence[Path] = ()
) -> Measurement:
    """Count calls per append, as one sample.

    Raises StraceMissingError where nothing can be traced, CometbenchError on failure.
    """
    require_strace()
    probe = _Probe(benchmark, profile, root, seed, search_path)
    appends_max = min(benchmark.appends_max or profile.syscall_appends_max, profile.syscall_appends_max)
    appends = min(_APPENDS_WITH_CALLS, appends_max // 10)
    calls = probe.appending_thread(appends)
    if calls.total() < _FREE_BELOW * appends:
        appends = appends_max
        calls = probe.appending_thread(appends)
    all_threads = probe.all_threads(appends)
    all_threads.subtract(probe.all_threads(_APPENDS_SMALL))
    difference = appends - _APPENDS_SMALL
    extra: dict[str, float | str] = {
        "appends": float(appends),
        "appending_thread_calls": float(calls.total()),
        "appending_thread_names": ", ".join(f"{name} {count}" for name, count in calls.most_common()),
        "all_threads_per_append": max(all_threads.total(), 0) / difference,
    }
    return Measurement(
        name=benchmark.name,
        experiment=benchmark.experiment,
        subject=benchmark.subject,
        workload=benchmark.workload,
        batch=benchmark.batch,
        metric="count_per_append",
        unit="syscalls",
        durability=benchmark.durability,  # type: ignore[arg-type]
        file_system=mount_of(root.path).file_system,
        config=dict(benchmark.config),
        samples=[Sample(round=0, order=0, values=[calls.total() / appends])],
        extra=extra,
    )


def require_strace() -> None:
    """Raise StraceMissingError with the reason where strace is missing or may not trace."""
    if shutil.which("strace") is None:
        raise StraceMissingError("strace is not installed (Debian: apt-get install strace)")
    tried = subprocess.run(
        ["strace", "-c", "-o", "/dev/null", "true"], capture_output=True, text=True, timeout=30, check=False
    )
    if tried.returncode != 0:
        message = tried.stderr.strip().splitlines()[-1:] or ["no message"]
        raise StraceMissingError(f"strace may not trace a process here: {message[0]}")


def parse_trace(text: str) -> Counter[str]:
    """Count the calls by name that the marking thread made between the marks, resumed lines once.

    Raises CometbenchError when a mark is missing.
    """
    calls: Counter[str] = Counter()
    thread: str | None = None
    for line in text.splitlines():
        match = _TRACE_LINE.match(line)
        if match is None:
            continue
        if BEGIN_MARK in line:
            thread = match.group(1)
        elif END_MARK in line:
            return calls
        elif match.group(1) == thread and match.group(3) == "(":
            calls[match.group(2)] += 1
    raise CometbenchError("the trace holds no stretch between two marks")


def parse_summary(text: str) -> Counter[str]:
    """Read calls by name from the table of `strace -c`."""
    matches = (_SUMMARY_LINE.match(line) for line in text.splitlines())
    return Counter({m.group(2): int(m.group(1)) for m in matches if m is not None and m.group(2) != "total"})


class _Probe:
    """Runs the probe process under strace, each time on a new log."""

    def __init__(
        self, benchmark: Benchmark, profile: Profile, root: RunRoot, seed: int, search_path: Sequence[Path]
    ) -> None:
        self._benchmark, self._profile, self._root, self._seed = benchmark, profile, root, seed
        self._search_path = search_path

    def appending_thread(self, appends: int) -> Counter[str]:
        """Count calls of the appending thread over `appends` appends."""
        return parse_trace(self._run(appends, ["-f", "-qq", "-e", "signal=none"]))

    def all_threads(self, appends: int) -> Counter[str]:
        """Count calls of the whole process, start and end included."""
        return parse_summary(self._run(appends, ["-f", "-c"]))

    def _run(self, appends: int, options: list[str]) -> str:
        directory = self._root.fresh(self._benchmark.name)
        output, bench_directory = directory / "strace.txt", directory / "bench"
        bench_directory.mkdir()
        arguments = ["--spec", self._benchmark.to_json(), "--directory", str(bench_directory),
                     "--seed", str(self._seed), "--appends", str(appends)]  # fmt: skip
        prefix = ["strace", *options, "-o", str(output), "--"]
        try:
            run_module(
                "cometbench.syscall_probe",
                arguments,
                self._profile.worker_seconds_max,
                prefix,
                self._search_path,
            )
            return output.read_text(errors="replace")
        finally:
            self._root.drop(directory)
