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
    and goals.
    """

    name: ProfileName
    rounds_main: int
    rounds_other: int
    values: int
    value_seconds_min: float
    value_bytes_max: int
    value_entries_max: int
    latency_seconds: float
    latency_samples_max: int
    syscall_appends_max: int
    worker_seconds_max: float

    def rounds(self, benchmark: Benchmark) -> int:
        """Rounds in which `benchmark` gets a worker."""
        return self.rounds_main if benchmark.rounds == "main" else self.rounds_other


_MIB = 1 << 20

PROFILES: dict[str, Profile] = {
    "smoke": Profile("smoke", 1, 1, 2, 0.002, 4 * _MIB, 50_000, 0.1, 2_000, 2_000, 60.0),
    "quick": Profile("quick", 5, 5, 3, 0.010, 32 * _MIB, 250_000, 5.0, 20_000, 200_000, 120.0),
    "full": Profile("full", 20, 10, 5, 0.050, 128 * _MIB, 1_000_000, 30.0, 200_000, 1_000_000, 600.0),
}


def find_profile(name: str) -> Profile:
    """The profile of that name. Raises UsageError naming the value and what exists."""
    if name not in PROFILES:
        raise unknown("profile", name, list(PROFILES))
    return PROFILES[name]
