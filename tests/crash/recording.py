"""What the fault suites counted: printed at the end of every run, and written to a file that is committed where asked for.

A record is one JSON object: when, of which commit, on which kernel, and for each test its seed, outcome, seconds and counts.
"""

import json
import os
import platform
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
Count = Callable[..., None]


def commit() -> str:
    """Return the commit that is checked out, with ``+`` where the work tree differs from it."""
    short = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(short, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


class Recorder:
    """A pytest plugin that keeps seeds, outcomes and counts of one run."""

    def __init__(self, tier: str, file: Path | None) -> None:
        self._tier = tier
        self._file = file
        self._started = time.time()
        self._seeds: dict[str, int] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._tests: dict[str, dict[str, Any]] = {}

    def seed_for(self, test: str, given: int | None) -> int:
        """Return the seed of a test: the one given, or a new one."""
        self._seeds[test] = random.SystemRandom().randrange(1 << 32) if given is None else given
        return self._seeds[test]

    def counter_for(self, test: str) -> Count:
        """Return a function that adds to the counts of a test."""
        counts = self._counts.setdefault(test, Counter())

        def count(**amounts: int) -> None:
            counts.update(amounts)

        return count

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep outcome and duration of each test."""
        test = self._tests.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0})
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
