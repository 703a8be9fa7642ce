"""What the fault suites counted: printed at the end of every run, and written to a file that is committed where asked for.

A record is one JSON object: when, of which commit, on which kernel, and for each test its seed, outcome, seconds and counts.
"""

import json
import os
import platform
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
Count = Callable[..., None]
# The group of the tests that mount file systems: a process that copies the mounts of another test keeps a file system busy that the
# other wants to cut off.
ONE_AT_A_TIME = "mounts"


def commit() -> str:
    """Return the commit that is checked out, with ``+`` where the work tree differs from it."""
    short = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(short, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def seed_for(test: pytest.Item, given: int | None) -> int:
    """Return the seed of a test: the one given, or a new one."""
    seed = random.SystemRandom().randrange(1 << 32) if given is None else given
    test.user_properties.append(("seed", seed))
    return seed


def counter_for(test: pytest.Item) -> Count:
    """Return a function that adds to the counts of a test."""
    counts: dict[str, int] = {}
    test.user_properties.append(("counts", counts))

    def count(**amounts: int) -> None:
        for what, amount in amounts.items():
            counts[what] = counts.get(what, 0) + amount

    return count


class Recorder:
    """A pytest plugin that keeps seeds, outcomes and counts of one run."""

    def __init__(self, tier: str, file: Path | None) -> None:
        self._tier = tier
        self._file = file
        self._started = time.time()
        self._seeds: dict[str, int] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep outcome, duration, seed and counts of each test; they come with the report, from whatever process ran it."""
        name = report.nodeid.removesuffix(f"@{ONE_AT_A_TIME}")
        test = self._tests.setdefault(name, {"outcome": "passed", "seconds": 0.0})
        for kind, value in report.user_properties:
            if kind == "seed":
                self._seeds[name] = int(str(value))
            elif kind == "counts" and isinstance(value, dict):
                self._counts[name] = value
        test["seconds"] = round(test["seconds"] + report.duration, 2)
        if report.outcome != "passed":
            test["outcome"] = report.outcome
            if report.skipped and isinstance(report.longrepr, tuple):
                test["reason"] = report.longrepr[2].removeprefix("Skipped: ")

    def _record(self) -> dict[str, Any]:
        tests = {}
        for name, found in sorted(self._tests.items()):
            seed = {"seed": self._seeds[name]} if name in self._seeds else {}
            tests[name] = found | seed | {"counts": dict(self._counts.get(name, {}))}
        return {
            "tier": self._tier,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            "commit": commit(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
            "tests": tests,
        }

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the counts, and write them where asked for."""
        counted = {name: counts for name, counts in self._counts.items() if counts}
        if counted:
            terminalreporter.section("counted")
        for name, counts in sorted(counted.items()):
            figures = ", ".join(f"{amount:,} {what.replace('_', ' ')}" for what, amount in counts.items())
            terminalreporter.write_line(f"{name.partition('::')[2]}: {figures}")
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self._record(), indent=1) + "\n")
            terminalreporter.write_line(f"recorded in {self._file}")
