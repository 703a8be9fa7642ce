"""The result data model: what a run is, down to one worker process's values.

Every model is frozen and refuses unknown fields, so that a file that validates is a file the report
understands. Times are nanoseconds, sizes bytes, instants UTC as `2025-01-31T12:00:00Z`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1
# What is written there never reaches a disk.
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")
# The fact of a run's environment that says how many rounds its sections got, and why.
ROUNDS_TAKEN = "rounds_taken"

Profile = Literal["smoke", "quick", "full", "guide"]
Durability = Literal["lost_on_kill", "survives_process_crash", "survives_power_loss", "none"]
ClaimKind = Literal["ratio", "direction", "absolute", "semantic", "future", "arithmetic"]
Verdict = Literal[
    "reproduced",
    "exceeded",
    "direction only",
    "not reproduced",
    "inconclusive",
    "not measured",
    "arithmetic error",
]
Fact = str | int | float | bool | None | list[str]


class Record(BaseModel):
    """Base of every stored model: immutable, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Machine(Record):
    """Stable facts of one machine; `machine_id` names its folder and is derived from `hardware`."""

    schema_version: Literal[1] = 1
    machine_id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{2,62}$")
    label: str
    hardware: dict[str, Fact]


class Sample(Record):
    """Values of ONE worker process in one round: the unit of statistics.

    `order` is its place within the round.
    """

    round: int = Field(ge=0)
    order: int = Field(ge=0)
    values: list[float] = Field(min_length=1)


class Verification(Record):
    """What reading back the log a benchmark wrote has shown.

    `detail` names the first bad entry when `failed`.
    """

    status: Literal["ok", "failed", "not_applicable"]
    entries_expected: int = Field(default=0, ge=0)
    entries_found: int = Field(default=0, ge=0)
    detail: str = ""


class LatencySummary(Record):
    """Percentiles of per-operation samples; a percentile with fewer than 100 samples beyond it is None.

    Raw samples are in latency.npz under `key`, or `histograms` holds one log-bucketed histogram a round (see
    `cometbench.histogram`), and the percentiles are those of all rounds together.
    """

    count: int = Field(ge=0)
    p50_ns: float | None = None
    p90_ns: float | None = None
    p99_ns: float | None = None
    p99_9_ns: float | None = None
    timer_overhead_ns: float = Field(ge=0)
    key: str = ""
    histograms: list[str] = Field(default_factory=list)


class Measurement(Record):
    """One benchmark of one run, with all its workers' values, or the reason why there are none."""

    name: str = Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+$")
    experiment: str
    subject: str
    workload: str = ""
    batch: int = Field(default=1, ge=1)
    processes: int = Field(default=1, ge=1)
    metric: str
    unit: str
    durability: Durability = "none"
    file_system: str = ""
    config: dict[str, Fact] = Field(default_factory=dict)
    code_hash: str = ""
    samples: list[Sample] = Field(default_factory=list)
    verification: Verification = Verification(status="not_applicable")
    failure: str | None = None
    latency: LatencySummary | None = None
    extra: dict[str, float | str] = Field(default_factory=dict)

    @property
    def survives(self) -> Durability:
        """What an acknowledged entry outlives where this was measured: in memory, a sync reaches no disk."""
        if self.durability == "survives_power_loss" and self.file_system in MEMORY_FILE_SYSTEMS:
            return "survives_process_crash"
        return self.durability

    @model_validator(mode="after")
    def _values_or_reason(self) -> Measurement:
        if self.failure is None and not self.samples and self.latency is None:
            raise ValueError(f"measurement {self.name} has neither samples nor a failure reason")
        if self.failure is not None and not self.failure.strip():
            raise ValueError(f"measurement {self.name} failed without saying why")
        if self.verification.status == "failed" and self.failure is None:
            raise ValueError(f"measurement {self.name} failed its verification but names no failure")
        return self


class ClaimResult(Record):
    """One checked number of the guide: the guide's value, the measured one, the verdict and its reason."""

    id: str
    section: str
    title: str
    kind: ClaimKind
    guide: str
    guide_value: float | None = None
    unit: str = ""
    measured: float | None = None
    interval: tuple[float, float] | None = None
    workers: int = Field(default=0, ge=0)
    verdict: Verdict
    reason: str
    floor: str | None = None
    floor_multiple: float | None = None
    measurements: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _says_why(self) -> ClaimResult:
        if not self.reason.strip():
            raise ValueError(f"claim {self.id}: a verdict needs a reason")
        if self.interval is not None and self.interval[0] > self.interval[1]:
            raise ValueError(f"claim {self.id}: interval {self.interval} is upside down")
        return self


class Run(Record):
    """One immutable run on one machine. `finished_utc` is None while it runs and after an interruption."""

    schema_version: Literal[1] = 1
    run_id: str = Field(pattern=r"^[A-Za-z0-9-]+$")
    machine_id: str
    profile: Profile
    started_utc: str
    finished_utc: str | None = None
    commit: str
    dirty: bool
    versions: dict[str, str] = Field(default_factory=dict)
    seed: int
    environment: dict[str, Fact] = Field(default_factory=dict)
    floors: list[Measurement] = Field(default_factory=list)
    measurements: list[Measurement] = Field(default_factory=list)
    claims: list[ClaimResult] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Run:
        seen: set[str] = set()
        for measurement in self.all_measurements():
            if measurement.name in seen:
                raise ValueError(f"measurement {measurement.name} appears twice in run {self.run_id}")
            seen.add(measurement.name)
        ids = [claim.id for claim in self.claims]
        if len(ids) != len(set(ids)):
            raise ValueError(f"a claim id appears twice in run {self.run_id}")
        return self

    def all_measurements(self) -> list[Measurement]:
        """Floors first, then measurements, in the order they finished."""
        return [*self.floors, *self.measurements]

    def find(self, name: str) -> Measurement | None:
        """Return the measurement or floor of that name, or None."""
        return next((m for m in self.all_measurements() if m.name == name), None)

    def claim(self, claim_id: str) -> ClaimResult | None:
        """Return the claim result of that id, or None."""
        return next((c for c in self.claims if c.id == claim_id), None)
