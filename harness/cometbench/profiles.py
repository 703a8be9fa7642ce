"""Run profiles: how many rounds, how long a value, how much may be written."""

from __future__ import annotations

import dataclasses
from typing import Literal

from cometbench.benchmark import Benchmark
from cometbench.errors import unknown
from cometbench.probe import Probe

# What the minute of K1, which profile full and section K hold, needs in the bench directory.
LONG_RUN_FREE_BYTES = 8 << 30

ProfileName = Literal["smoke", "quick", "full"]


@dataclasses.dataclass(frozen=True)
class Profile:
    """Every number that trades time for certainty.

    A worker runs one warm-up and `values` values of at least `value_seconds_min` each, fewer where
    `value_bytes_max` payload bytes or `value_entries_max` entries of one process would be exceeded: what is
    written is read back and compared. `rounds_main` holds for the guide's tables, floors and goals, `rounds_other` for other systems
    and what is dear, `rounds_probe` for probes, each of which lasts about `probe_seconds`. Where rounds and passes would take longer
    than `seconds_max` together, fewer rounds are run (`budget`), but never fewer than `least_main`, `least_other` and `least_probe`.
    Without `value_seconds_min` nothing is calibrated and a value is a few calls: a test of the machinery.
    `sections` are run where none is named; empty means all.
    """

    name: ProfileName
    rounds_main: int
    rounds_other: int
    rounds_probe: int
    least_main: int
    least_other: int
    least_probe: int
    seconds_max: float
    probe_seconds: float
    values: int
    value_seconds_min: float | None
    value_bytes_max: int
    value_entries_max: int
    latency_seconds: float
    latency_samples_max: int
    syscall_appends_max: int
    worker_seconds_max: float
    sections: tuple[str, ...] = ()

    def least(self, item: Benchmark | Probe) -> int:
        """Return the rounds that a benchmark or a probe gets however long they take."""
        named = {"main": self.least_main, "other": self.least_other, "probe": self.least_probe, "once": 1}
        return min(named[item.rounds], self.rounds(item))

    def rounds(self, item: Benchmark | Probe) -> int:
        """Return the rounds in which a benchmark or a probe gets a worker, where there is time for all."""
        named = {"main": self.rounds_main, "other": self.rounds_other, "probe": self.rounds_probe, "once": 1}
        return named[item.rounds]


_MIB = 1 << 20

PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        name="smoke",
        rounds_main=1,
        rounds_other=1,
        rounds_probe=1,
        least_main=1,
        least_other=1,
        least_probe=1,
        seconds_max=600.0,
        probe_seconds=0.1,
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
        rounds_probe=3,
        least_main=5,
        least_other=1,
        least_probe=1,
        seconds_max=165.0,
        probe_seconds=0.2,
        values=3,
        value_seconds_min=0.005,
        value_bytes_max=8 * _MIB,
        value_entries_max=100_000,
        latency_seconds=4.0,
        latency_samples_max=100_000,
        syscall_appends_max=1_000_000,
        worker_seconds_max=120.0,
        sections=("G", "Q", "goals"),
    ),
    "full": Profile(
        name="full",
        rounds_main=20,
        rounds_other=10,
        rounds_probe=10,
        least_main=5,
        least_other=5,
        least_probe=5,
        seconds_max=1500.0,
        probe_seconds=2.0,
        values=5,
        value_seconds_min=0.020,
        value_bytes_max=32 * _MIB,
        value_entries_max=400_000,
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
