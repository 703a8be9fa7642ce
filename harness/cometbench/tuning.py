"""Walk the guide's tuning checklist by measured steps on a user's own entries, and keep only what pays.

Each step measures the settings kept so far, those once more as a control, the defaults, and the candidates of one setting in the
same rounds. A candidate is kept when it beats what was kept by a whole 95 % interval, and by at least 5 % and twice what the control
strays; the best of those is.
What is no field of the engine's configuration (write path, batch size, shards) is the program's to choose: it is
measured and told, as comments in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from cometbench.benchmark import ConfigValue
from cometbench.errors import CometbenchError
from cometbench.model import Measurement
from cometbench.probe import Probe
from cometbench.probes.variants import variants_probe
from cometbench.store import utc_now
from cometbench.tables import Table
from cometbench.tune_record import GOALS, OFF, Candidate, Gain, Goal, Step, Tune, best, show_setting
from cometbench.units import DASH, format_range, format_value

Settings = dict[str, ConfigValue]
Measure = Callable[[Probe], dict[str, Measurement]]

DEFAULTS: Mapping[str, ConfigValue] = {
    "write_path": "mmap",
    "batch": 1,
    "shards": 1,
    "compression.threshold_bytes": 4096,
    "compression.level": 1,
    "indexing.boundary_interval_entries": 1000,
    "storage.segment_size_bytes": 64 << 20,
    "storage.checkpoint_interval_ms": 100,
}
SECONDS_PER_VARIANT = 0.6
_DEFAULT, _KEPT, _CONTROL = "default", "kept", "control"


class Line(NamedTuple):
    """One line of the checklist: a setting and what it may be; `goals` that it serves."""

    setting: str
    candidates: tuple[ConfigValue, ...]
    goals: tuple[Goal, ...]
    about: str


CHECKLIST = (
    Line("batch", (10, 100, 1000, 10_000), ("throughput", "storage"), "entries handed over in one append"),
    Line("write_path", ("buffered",), ("latency", "throughput"), "how an append reaches the file"),
    Line("compression.threshold_bytes", (OFF, 10_240, 2048, 512, 256, 64), GOALS, "mean entry from which batches are compressed"),
    Line("compression.level", (3, 6), ("storage",), "effort of the compression"),
    Line("indexing.boundary_interval_entries", (100, 10_000), ("latency", "throughput"), "entries between two boundaries"),
    Line("storage.segment_size_bytes", (16 << 20, 256 << 20), ("latency", "throughput"), "length of a segment"),
    Line("storage.checkpoint_interval_ms", (10, 1000, 10_000), ("latency", "throughput"), "how often the index is stored"),
    Line("shards", (), ("latency", "throughput"), "shards that the writer processes are dealt out to"),
)  # fmt: skip


class Tuning:
    """One walk. `measure` runs a probe in rounds and returns its measurements by the name of the value.

    `tune` is the record as far as the walk has come.
    """

    def __init__(self, begun: Tune, measure: Measure) -> None:
        """`begun` says goal, entries and processes; its settings are the defaults."""
        self.tune, self._measure = begun, measure
        self._batch_max = begun.entries.different // begun.processes
        asked = [size for line in self._lines() if line.setting == "batch" for size in line.candidates]
        if any(int(size) > self._batch_max for size in asked):
            self.tune = _grown(begun, left_out=[self._why_left_out()])

    def lines(self) -> list[Line]:
        """Return the lines of this goal; several processes on one shard are also offered shards of their own.

        A batch that would hold an entry twice is not offered: what repeats compresses for nothing.
        """
        fitted = [
            line._replace(candidates=tuple(size for size in line.candidates if int(size) <= self._batch_max))
            if line.setting == "batch"
            else line
            for line in self._lines()
        ]
        return [line for line in fitted if line.candidates]

    def walk(self) -> Iterator[tuple[Line, Step]]:
        """Yield what each step has shown; the settings kept grow as it goes."""
        for line in self.lines():
            step = self._take(line)
            settings = {**self.tune.settings, **({} if step.chosen is None else {line.setting: step.chosen})}
            self.tune = _grown(self.tune, steps=[*self.tune.steps, step], settings=settings)
            yield line, step

    def finish(self) -> Tune:
        """Measure what was kept against the defaults once more, by itself, and return the whole record."""
        if self.tune.changed:
            found = self._compare({_DEFAULT: self.tune.defaults, _KEPT: self.tune.settings})
            before, after = found[_DEFAULT].samples, found[_KEPT].samples
            self.tune = _grown(
                self.tune, final_default_samples=before, final_kept_samples=after, gain=Gain.over(before, after),
                finished_utc=utc_now(),
            )  # fmt: skip
        else:
            self.tune = _grown(self.tune, finished_utc=utc_now())
        return self.tune

    def _lines(self) -> list[Line]:
        processes = self.tune.processes
        return [
            line._replace(candidates=(processes,)) if line.setting == "shards" else line
            for line in CHECKLIST
            if self.tune.goal in line.goals
            if line.setting != "shards" or processes > 1
            if not (line.setting == "write_path" and processes > 1)
        ]

    def _why_left_out(self) -> str:
        entries, processes = self.tune.entries, self.tune.processes
        each = f"{processes} processes" if processes > 1 else "one process"
        return (
            f"batches of more than {self._batch_max:,} entries: the payload has {entries.different:,} different ones for {each}, "
            "and what repeats within a batch compresses for nothing"
        )

    def _take(self, line: Line) -> Step:
        kept = self.tune.settings
        names = {f"candidate{number}": value for number, value in enumerate(line.candidates)}
        variants = {_DEFAULT: self.tune.defaults, _KEPT: kept, _CONTROL: kept}
        variants |= {name: {**kept, line.setting: value} for name, value in names.items()}
        found = self._compare(variants)
        before, until_now, control = (found[name].samples for name in (_DEFAULT, _KEPT, _CONTROL))
        candidates = [
            Candidate(
                value=value,
                samples=found[name].samples,
                over_kept=Gain.over(until_now, found[name].samples),
                over_default=Gain.over(before, found[name].samples),
            )
            for name, value in names.items()
        ]
        paid = best(candidates, Gain.over(until_now, control).strays)
        return Step(
            setting=line.setting, about=line.about, default=self.tune.defaults[line.setting], unit=found[_KEPT].unit,
            default_samples=before, kept_samples=until_now, control_samples=control, candidates=candidates,
            chosen=paid.value if paid else None, entries_read_back=found[_KEPT].verification.entries_found,
        )  # fmt: skip

    def _compare(self, variants: Mapping[str, Mapping[str, ConfigValue]]) -> dict[str, Measurement]:
        """Return one measurement a variant, lower being better: time of an entry, or bytes stored for one given."""
        tune = self.tune
        sizes = tuple(f"{name}_stored" for name in variants) if tune.goal == "storage" else ()
        probe = variants_probe(
            f"tune.{tune.goal}.step{len(tune.steps) + 1}",
            variants,
            {"workload": tune.entries.workload, "processes": tune.processes},
            sizes=sizes,
            seconds=SECONDS_PER_VARIANT * len(variants),
        )
        found = self._measure(probe)
        suffix = "_stored" if tune.goal == "storage" else ""
        chosen = {name: found[f"{name}{suffix}"] for name in variants}
        for measurement in chosen.values():
            if measurement.failure is not None:
                raise CometbenchError(f"{measurement.name}: {measurement.failure}")
        return chosen


def _grown(tune: Tune, **changes: Any) -> Tune:
    """Return the record with what came since, validated as a whole."""
    return Tune(**{**{name: getattr(tune, name) for name in Tune.model_fields}, **changes})


def table_tried(tune: Tune) -> Table:
    """Return what was tried, step by step."""
    rows = [
        [
            step.setting,
            show_setting(step.setting, step.default),
            show_setting(step.setting, one.value),
            format_value(one.measured, step.unit),
            format_value(one.over_kept.value, "x"),
            format_range(one.over_kept.low, one.over_kept.high, "x"),
            format_value(one.over_default.value, "x"),
            format_range(one.over_default.low, one.over_default.high, "x"),
            f"{step.noise:.0%}",
            "kept" if one.value == step.chosen else DASH,
        ]
        for step in tune.steps
        for one in step.candidates
    ]
    columns = ["setting", "default", "tried", "measured", "gain", "95 %", "over default", "95 %", "noise", ""]
    note = "Gain: how many times better than with the settings kept so far. Over default: than with nothing changed. "
    note += "Noise: how far the same settings, measured twice, stray from one another; a gain counts from twice that on."
    return Table("tuned", f"Tried for {tune.goal}", columns, rows, note)
