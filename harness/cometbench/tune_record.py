"""What a walk through the checklist leaves in the results tree: `<UTC>-<commit7>-tune-<goal>/tune.json` and the file it wrote.

Samples of every variant are stored, and gains and decisions beside them; a record whose gains or decisions do not follow from its
samples does not validate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from cometbench import stats
from cometbench.model import Fact, Machine, Profile, Record, Sample
from cometbench.store import TUNE_FILE, ResultsError, keep_machine, read_record, write_atomically
from cometbench.units import DASH
from cometbench.verdicts import effect_threshold

Goal = Literal["latency", "throughput", "storage"]
GOALS: tuple[Goal, ...] = get_args(Goal)
Setting = str | int | float | bool

TUNED_FILE = "cometlog.toml"
# A threshold beyond any batch: nothing is compressed.
OFF = 1 << 30


class Gain(Record):
    """How many times less one variant takes than another: the median of its rounds, with its 95 % interval."""

    value: float
    low: float
    high: float
    rounds: int = Field(ge=1)

    @classmethod
    def over(cls, before: list[Sample], after: list[Sample]) -> Gain:
        """Return what `after` gains over `before`, paired in rounds."""
        ratio = stats.paired_ratio(before, after)
        return cls(value=ratio.value, low=ratio.low, high=ratio.high, rounds=ratio.workers)

    @property
    def strays(self) -> float:
        """How far it is from 1 with its interval: of a control against itself, the noise."""
        return max(abs(edge - 1.0) for edge in (self.value, self.low, self.high))

    def pays(self, noise: float) -> bool:
        """Whether it counts: its whole interval is above 1, and it is 5 % and twice the noise at least."""
        return self.low > 1.0 and self.value >= 1.0 + effect_threshold(noise)


class Candidate(Record):
    """One value of a setting: its samples, and its gains over the settings kept until then and over the defaults."""

    value: Setting
    samples: list[Sample] = Field(min_length=1)
    over_kept: Gain
    over_default: Gain

    @property
    def measured(self) -> float:
        """The median over its rounds."""
        return stats.median_of_worker_medians(self.samples)


class Step(Record):
    """One line of the checklist, measured; `chosen` is the candidate that paid best, None where none did.

    `default_samples`, `kept_samples` and `control_samples` are of the same rounds: of the defaults, of what was kept until then,
    and of that once more, which is the A/A control.
    """

    setting: str
    about: str
    default: Setting
    unit: str
    default_samples: list[Sample] = Field(min_length=1)
    kept_samples: list[Sample] = Field(min_length=1)
    control_samples: list[Sample] = Field(min_length=1)
    candidates: list[Candidate] = Field(min_length=1)
    chosen: Setting | None
    entries_read_back: int = Field(ge=0)

    @property
    def noise(self) -> float:
        """How far the control strays from what it repeats (0.03 is 3 %)."""
        return Gain.over(self.kept_samples, self.control_samples).strays

    @model_validator(mode="after")
    def _follows_from_samples(self) -> Step:
        for one in self.candidates:
            over_kept = Gain.over(self.kept_samples, one.samples)
            over_default = Gain.over(self.default_samples, one.samples)
            if not (same(one.over_kept, over_kept) and same(one.over_default, over_default)):
                raise ValueError(f"gains of {self.setting} = {one.value} are not those of its samples")
        paid = best(self.candidates, self.noise)
        if self.chosen != (paid.value if paid else None):
            raise ValueError(f"{self.setting}: {self.chosen} was chosen, its gains say otherwise")
        return self


class Entries(Record):
    """The entries that were appended, without what they say: results are public."""

    workload: str
    count: int = Field(ge=1)
    different: int = Field(ge=1)
    bytes_mean: float = Field(gt=0)


class Tune(Record):
    """One walk. `settings` is what was kept of all steps, `gain` that of all together over the defaults, measured once more.

    `finished_utc` is None while it runs and after an interruption.
    """

    schema_version: Literal[1] = 1
    run_id: str = Field(pattern=r"^[A-Za-z0-9-]+$")
    machine_id: str
    profile: Profile
    goal: Goal
    started_utc: str
    finished_utc: str | None = None
    commit: str
    dirty: bool
    seed: int
    processes: int = Field(ge=1)
    entries: Entries
    versions: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, Fact] = Field(default_factory=dict)
    defaults: dict[str, Setting]
    settings: dict[str, Setting]
    left_out: list[str] = Field(default_factory=list)
    steps: list[Step] = Field(default_factory=list)
    final_default_samples: list[Sample] = Field(default_factory=list)
    final_kept_samples: list[Sample] = Field(default_factory=list)
    gain: Gain | None = None

    @model_validator(mode="after")
    def _is_what_its_steps_chose(self) -> Tune:
        chosen = {step.setting: step.chosen for step in self.steps if step.chosen is not None}
        if self.settings != {**self.defaults, **chosen}:
            raise ValueError("the settings are not the defaults with what the steps chose")
        if self.gain is not None and not same(
            self.gain, Gain.over(self.final_default_samples, self.final_kept_samples)
        ):
            raise ValueError("the gain is not that of the samples")
        if self.finished_utc is not None and self.changed and self.gain is None:
            raise ValueError("settings were kept, and what they gain together is missing")
        return self

    @property
    def busy(self) -> str | None:
        """Say that the machine was busy before the walk, with a load of more than 1 a CPU; None where it was not, or nobody knows."""
        load, cpus = (self.environment.get(name) for name in ("load_average_1min", "cpus_usable"))
        if not isinstance(load, float) or not isinstance(cpus, int) or load <= cpus:
            return None
        return f"on a busy machine, with a load of {load:.1f} on {cpus} CPU{'' if cpus == 1 else 's'} before the start"

    @property
    def changed(self) -> dict[str, Setting]:
        """Settings that differ from the defaults."""
        return {name: value for name, value in self.settings.items() if value != self.defaults[name]}


def best(candidates: list[Candidate], noise: float) -> Candidate | None:
    """Return the candidate that gains most over what was kept, among those that pay."""
    paying = (one for one in candidates if one.over_kept.pays(noise))
    return max(paying, key=lambda one: one.over_kept.value, default=None)


def same(first: Gain, second: Gain) -> bool:
    """Whether two gains are one, but for the last digits that another version of a library may compute."""
    pairs = ((first.value, second.value), (first.low, second.low), (first.high, second.high))
    return first.rounds == second.rounds and all(abs(a - b) <= 1e-9 * abs(b) for a, b in pairs)


def store_tune(results: Path, machine: Machine, tune: Tune, toml: str | None = None) -> Path:
    """Write a walk as far as it has come, and the file once it is done; returns its folder.

    Raises ResultsError where the tree cannot be written, or its machine.json tells of another machine.
    """
    folder = results / machine.machine_id / tune.run_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        keep_machine(folder.parent, machine)
        write_atomically(folder / TUNE_FILE, (tune.model_dump_json(indent=1) + "\n").encode())
        if toml is not None:
            write_atomically(folder / TUNED_FILE, toml.encode())
    except OSError as error:
        raise ResultsError(f"results tree {results} cannot be written: {error.strerror}") from error
    return folder


def load_tune(path: Path) -> Tune:
    """Read tune.json (or the folder that holds it). Raises ResultsError naming the file and the field."""
    return read_record(path / TUNE_FILE if path.is_dir() else path, Tune)


def show_setting(setting: str, value: Setting | None) -> str:
    """Return a setting's value as people read it."""
    if value is None:
        return DASH
    if setting == "compression.threshold_bytes" and value == OFF:
        return "off"
    return f"{value:,}" if isinstance(value, int) else str(value)


def to_toml(tune: Tune, machine_label: str) -> str:
    """Return a file that `cometlog.Config.load` takes: what paid, and as comments what a program has to choose itself."""
    facts = {
        "machine": machine_label,
        "file system": tune.environment.get("file_system"),
        "entries": f"{tune.entries.workload}, {tune.entries.bytes_mean:.0f} bytes in the mean",
        "writer processes": tune.processes,
        "seed": tune.seed,
    }
    lines = [
        f"# Written by cometbench tune --goal {tune.goal}: what paid for the entries and the machine below.",
        *(f"# {name}: {value}" for name, value in facts.items()),
    ]
    if tune.gain is not None:
        gain = tune.gain
        lines.append(
            f"# gain over the defaults: {gain.value:.2f}x [{gain.low:.2f}, {gain.high:.2f}], n = {gain.rounds}"
        )
    else:
        lines.append("# nothing paid: the defaults stand")
    lines += [
        f"# yours to choose: {name} = {value}" for name, value in tune.changed.items() if "." not in name
    ]
    groups: dict[str, list[str]] = {}
    for name, value in tune.changed.items():
        group, _, field = name.partition(".")
        if field:
            groups.setdefault(group, []).append(f"{field} = {value}")
    for group, fields in groups.items():
        lines += ["", f"[{group}]", *fields]
    return "\n".join(lines) + "\n"
