"""Run profiles: how many rounds, how long a value, how much may be written."""

from __future__ import annotations

import dataclasses
from typing import Literal

from cometbench.benchmark import Benchmark
from cometbench.errors import unknown

ProfileName = Literal["smoke", "quick", "full"]


@dataclasses.dataclass(frozen=True)
class Profile:
    """Every number that trades time for certainty.

    A worker runs one warm-up and `values` values of at least `value_seconds_min` each, fewer where
    `value_bytes_max` payload bytes or `value_entries_max` entries of one process would be exceeded: what is
    written is read back and compared. `rounds_main` holds for the guide's tables, `rounds_other` for floors
    and goals. Without `value_seconds_min` nothing is calibrated and a value is a few calls: a test of the
    machinery.
    """

    name: ProfileName
    rounds_main: int
    rounds_other: int
    values: int
    value_seconds_min: float | None
    value_bytes_max: int
    value_entries_max: int
    latency_seconds: float
    latency_samples_max: int
    syscall_appends_max: int
    worker_seconds_max: float

    def rounds(self, benchmark: Benchmark) -> int:
        """Return the rounds in which `benchmark` gets a worker."""
        return self.rounds_main if benchmark.rounds == "main" else self.rounds_other


_MIB = 1 << 20

PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        name="smoke",
        rounds_main=1,
        rounds_other=1,
        values=2,
        value_seconds_min=None,
        value_bytes_max=4 * _MIB,
        value_entries_max=50_000,
        latency_seconds=0.1,
        latency_samples_max=2_000,
        syscall_appends_max=2_000,
        worker_seconds_max=60.0,
    ),
    "quick": Profile(
        name="quick",
        rounds_main=5,
        rounds_other=5,
        values=3,
        value_seconds_min=0.010,
        value_bytes_max=32 * _MIB,
        value_entries_max=500_000,
        latency_seconds=5.0,
        latency_samples_max=100_000,
        syscall_appends_max=1_000_000,
        worker_seconds_max=120.0,
    ),
    "full": Profile(
        name="full",
        rounds_main=20,
        rounds_other=10,
        values=5,
        value_seconds_min=0.050,
        value_bytes_max=128 * _MIB,
        value_entries_max=1_000_000,
        latency_seconds=30.0,
        latency_samples_max=200_000,
        syscall_appends_max=1_000_000,
        worker_seconds_max=600.0,
    ),
}


def find_profile(name: str) -> Profile:
    """Return the profile of that name. Raises UsageError naming the value and what exists."""
    if name not in PROFILES:
        raise unknown("profile", name, list(PROFILES))
    return PROFILES[name]
