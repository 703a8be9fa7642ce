"""Two stored runs side by side: what became faster or slower, each measured against what its own machine charged at the time.

Rounds of two runs have nothing to do with one another, so nothing can be paired between them. What can be paired is a measurement
and a machine floor of the same round. Both runs are therefore expressed in such multiples first, and the multiples compared: that
removes what drifted between the runs, and most of what differs between two machines.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from cometbench import stats
from cometbench.evaluate import Noises, noise_floors, noise_of
from cometbench.model import Measurement, Run
from cometbench.stats import Estimate
from cometbench.tables import Table
from cometbench.units import DASH, format_range, format_value
from cometbench.verdicts import FACTOR, MINIMUM_WORKERS, effect_threshold

Change = Literal["faster", "slower", "no difference", "inconclusive", "not comparable"]

_TIMER, _SYSCALL, _SYNC, _MEMORY = (
    "floor.clock_read",
    "floor.write_128",
    "floor.fdatasync_128",
    "floor.memcpy_hot",
)
_WRITING_SUBJECTS = frozenset({"buffered", "os_write", "raw_file"})
_COPIED_BYTES_MIN = 4096
_SAME_WITHIN = 0.10


class Compared(NamedTuple):
    """One measurement of both runs: `raw` and `scaled` are B over A, so below 1 B takes less; `anchor` is the floor that scales."""

    name: str
    first: Estimate | None
    second: Estimate | None
    unit: str
    anchor: str
    raw: Estimate | None
    scaled: Estimate | None
    change: Change
    reason: str


def anchor_of(measurement: Measurement) -> str:
    """Return the floor that costs what this measurement waits for: the disk, the kernel, memory, or else the CPU alone."""
    if measurement.durability == "survives_power_loss":
        return _SYNC
    if measurement.subject in _WRITING_SUBJECTS:
        return _SYSCALL
    entry_bytes = measurement.extra.get("entry_bytes_mean")
    if entry_bytes is not None and float(entry_bytes) * measurement.batch >= _COPIED_BYTES_MIN:
        return _MEMORY
    return _TIMER


def compare_runs(first: Run, second: Run, pattern: str = "*") -> list[Compared]:
    """Compare the measurements of `pattern` that either run holds; the order is the first run's."""
    names = [m.name for run in (first, second) for m in run.measurements if fnmatchcase(m.name, pattern)]
    noises = [noise_floors(first), noise_floors(second)]
    return [_compare(first, second, name, noises) for name in dict.fromkeys(names)]


def _compare(first: Run, second: Run, name: str, noises: list[Noises]) -> Compared:
    left, right = first.find(name), second.find(name)
    ours, theirs = (
        stats.estimate(one.samples, first.seed) if one is not None and one.samples else None
        for one in (left, right)
    )
    shown = left or right
    assert shown is not None, "the name comes from one of the runs"
    anchor = anchor_of(shown)
    bare = Compared(name, ours, theirs, shown.unit, anchor, None, None, "not comparable", "")
    if left is None or right is None or not left.samples or not right.samples:
        where = "the first" if ours is None else "the second"
        return bare._replace(reason=f"{where} run has no value")
    if left.unit != right.unit:
        return bare._replace(reason=f"unit differs: {left.unit} and {right.unit}")
    if not _is_rate(shown) and shown.unit != "ns":
        return bare._replace(reason=f"{shown.unit} are neither a time nor a rate; see both values")
    raw = stats.independent_ratio(
        stats.worker_medians(right.samples), stats.worker_medians(left.samples), first.seed
    )
    bare = bare._replace(raw=raw)
    for fact in ("workload", "batch", "processes", "durability", "survives", "config"):
        one, other = getattr(left, fact), getattr(right, fact)
        if one != other:
            return bare._replace(reason=f"{fact} differs: {one} and {other}")
    try:
        scaled = _scaled(first, second, left, right, anchor)
    except ValueError as error:
        return bare._replace(change="inconclusive", reason=str(error))
    known = [noise for one in noises if (noise := noise_of(one, [shown])) is not None]
    noise = max(known) if len(known) == len(noises) else None
    change, reason = _judge(scaled, noise, higher_is_better=_is_rate(shown))
    if left.code_hash != right.code_hash:
        reason += "; the benchmark's own code differs between the runs"
    return bare._replace(scaled=scaled, change=change, reason=reason)


def _scaled(first: Run, second: Run, left: Measurement, right: Measurement, anchor: str) -> Estimate:
    multiples = [_multiples(one, _floor(run, anchor)) for run, one in ((second, right), (first, left))]
    return stats.independent_ratio(multiples[0], multiples[1], first.seed)


def _floor(run: Run, anchor: str) -> Measurement:
    floor = run.find(anchor)
    if floor is None or not floor.samples:
        raise ValueError(f"run {run.run_id} holds no {anchor} to scale by")
    return floor


def _multiples(one: Measurement, floor: Measurement) -> list[float]:
    """Return the measurement over the floor, round by round; a floor that is a rate costs its inverse."""
    ours, floors = stats.round_medians(one.samples), stats.round_medians(floor.samples)
    common = sorted(ours.keys() & floors.keys())
    if not common:
        raise ValueError(f"no round of {one.name} holds {floor.name} too")
    if _is_rate(one) == _is_rate(floor):
        return [ours[number] / floors[number] for number in common]
    return [ours[number] * floors[number] for number in common]


def _is_rate(measurement: Measurement) -> bool:
    return measurement.unit.endswith(("/s", "per_second"))


def _judge(scaled: Estimate, noise: float | None, *, higher_is_better: bool) -> tuple[Change, str]:
    if scaled.workers < MINIMUM_WORKERS:
        return "inconclusive", f"{scaled.workers} rounds, {MINIMUM_WORKERS} are needed"
    if noise is None:
        return "inconclusive", "a run held no A/A control, so its noise is unknown"
    if noise >= FACTOR - 1.0:
        return "inconclusive", f"an A/A control strays by {noise:.0%}"
    threshold = effect_threshold(noise)
    off = max(abs(scaled.low - 1.0), abs(scaled.high - 1.0))
    if off <= _SAME_WITHIN:
        return "no difference", f"the whole interval is within {_SAME_WITHIN:.0%} of 1"
    if scaled.low <= 1.0 <= scaled.high:
        return "inconclusive", "the interval includes 1 and reaches far from it"
    if abs(scaled.value - 1.0) < threshold:
        return "inconclusive", f"below {threshold:.0%} an effect is within the noise of these runs"
    better = (scaled.value > 1.0) == higher_is_better
    return ("faster" if better else "slower"), "the interval excludes 1"


def table_compared(first: Run, second: Run, compared: list[Compared]) -> Table:
    """Return the comparison as a table, A the first run, B the second."""
    rows = [
        [
            one.name,
            format_value(one.first.value, one.unit) if one.first else DASH,
            format_value(one.second.value, one.unit) if one.second else DASH,
            format_value(one.raw.value, "x") if one.raw else DASH,
            format_value(one.scaled.value, "x") if one.scaled else DASH,
            format_range(one.scaled.low, one.scaled.high, "x") if one.scaled else DASH,
            one.anchor.removeprefix("floor.").replace("_", " "),
            one.change,
            one.reason,
        ]
        for one in compared
    ]
    return Table(
        "compared",
        f"A {first.run_id} on {first.machine_id}, B {second.run_id} on {second.machine_id}",
        ["measurement", "A", "B", "B / A", "scaled", "95 % interval", "scaled by", "verdict", "why"],
        rows,
        "Scaled: each side over the machine floor of its own rounds, then B over A; the verdict is its.",
        7,
    )
