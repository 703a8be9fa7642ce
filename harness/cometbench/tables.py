"""The tables of a report as plain data; the console, Markdown and HTML renderers draw the same ones."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, get_args

from cometbench import stats
from cometbench.evaluate import noise_floors
from cometbench.floors import floor_of
from cometbench.goals import evaluate_goals
from cometbench.model import ClaimResult, Measurement, Run, Verdict
from cometbench.registry import load_sections
from cometbench.units import DASH, format_interval, format_measured, format_ns, format_range, format_value

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
BATCHES = (("Q1", 1), ("Q10", 10), ("Q100", 100), ("Q1000", 1000), ("Q10K", 10000))
SINGLE_READINGS = (("buffered", "buffered"), ("mmap", "mmap"))
MULTI_READINGS = (
    ("one_writer", "mmap, 1 writer"),
    ("processes2", "mmap, 2 writers"),
    ("processes4", "mmap, 4 writers"),
    ("processes8", "mmap, 8 writers"),
)
GENERATIONS = (("buffered", None), ("sync", "G1"), ("async", "G2"), ("mmap", "G3"))
DURABILITY_TEXT = {
    "lost_on_kill": "nothing",
    "survives_process_crash": "process crash",
    "survives_power_loss": "power loss",
    "none": DASH,
}


class Table(NamedTuple):
    """A titled table; `verdict_column` is the index of the column that holds verdicts, or None."""

    key: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""
    verdict_column: int | None = None


def verdict_counts(claims: list[ClaimResult]) -> list[tuple[Verdict, int]]:
    """How often each verdict was given, in the list's own order, zeros included."""
    counts = Counter(claim.verdict for claim in claims)
    return [(verdict, counts[verdict]) for verdict in VERDICTS]


def table_q(run: Run) -> Table:
    """Section Q: one row per batch size and reading, guide beside measured."""
    rows = []
    for claim_id, batch in BATCHES:
        for check, readings in (("single", SINGLE_READINGS), ("multi", MULTI_READINGS)):
            for reading, label in readings:
                time = run.claim(f"{claim_id}.{check}.{reading}")
                rate = run.claim(f"{claim_id}.{check}_rate.{reading}")
                if time is not None and rate is not None and _has(run, "Q"):
                    rows.append(
                        [
                            f"{batch:,}",
                            label,
                            time.guide,
                            format_measured(time),
                            format_interval(time),
                            rate.guide.removesuffix(" entries/s"),
                            format_measured(rate).removesuffix(" entries/s"),
                            _multiple(time),
                            time.verdict,
                        ]
                    )
    return Table(
        "q",
        "Q. Batch sizes: time of one append call",
        [
            "batch",
            "reading",
            "guide",
            "measured",
            "95 % interval",
            "guide entries/s",
            "entries/s",
            "x floor",
            "verdict",
        ],
        rows,
        "Buffered and mmap rows are the single-process column; writer rows are multi-process mode, N real "
        "processes on one shard. Times are per append call as one process sees it; entries/s are of all "
        "writers together. "
        "x floor: multiple of the least this machine charges for such a call (see the floors).",
        8,
    )


def table_q_gains(run: Run) -> Table:
    """Return the two batching gains of section Q."""
    rows = [
        [
            claim.title,
            claim.id.rpartition(".")[2],
            claim.guide,
            format_measured(claim),
            format_interval(claim),
            claim.verdict,
        ]
        for claim in run.claims
        if claim.id.startswith(("Q-r1.gain.", "Q-r2.gain."))
    ]
    return Table(
        "q_gains",
        "Q. What batching gains per entry",
        ["comparison", "path", "guide", "measured", "95 % interval", "verdict"],
        rows,
        "Ratios are paired within each round.",
        5,
    )


def table_g(run: Run) -> Table:
    """Section G: one row per write path with latency, ratio to buffered, percentiles and syscalls."""
    rows = []
    for path, claim_id in GENERATIONS if _has(run, "G") else ():
        measurement = run.find(f"G.{path}.batch1")
        latency = run.claim(f"{claim_id}.latency.{path}") if claim_id else None
        ratio = run.claim(f"{claim_id}.slowdown.buffered") if claim_id else None
        estimate = _estimate(measurement, run.seed)
        rows.append(
            [
                f"{claim_id} {path}" if claim_id else path,
                latency.guide if latency else "1.7 µs",
                format_ns(estimate.value) if estimate else DASH,
                _range(estimate, "ns"),
                ratio.guide.removesuffix(" slower") if ratio else "1x",
                format_measured(ratio) if ratio else "1x",
                format_interval(ratio) if ratio else DASH,
                *_percentiles(run, path),
                _syscalls(run, path),
                _path_multiple(run, measurement, estimate),
                DURABILITY_TEXT[measurement.survives] if measurement else DASH,
                ratio.verdict if ratio else DASH,
            ]
        )
    gain = run.claim("G-r.gain.sync_over_mmap")
    note = (
        "Ratios are to buffered, the single-process path, paired in rounds; the verdict is theirs. Syscalls "
        "are per append. Survives: what an acknowledged entry outlives."
    )
    if gain is not None:
        measured = f"{format_measured(gain)} ({gain.verdict})"
        note += f" First generation over third: guide {gain.guide}, measured {measured}."
    return Table(
        "g",
        "G. Write-path generations: one entry per append",
        [
            "path",
            "guide",
            "measured",
            "95 % interval",
            "guide ratio",
            "ratio",
            "ratio interval",
            "p50",
            "p99",
            "syscalls",
            "x floor",
            "survives",
            "verdict",
        ],
        rows,
        note,
        12,
    )


def table_goals(run: Run) -> Table:
    """Return the project's own goals with bound, measured and verdict."""
    rows = []
    for result in evaluate_goals(run):
        estimate = result.estimate
        if result.verdict == "not measured" and not _has(run, "goal"):
            continue
        rows.append(
            [
                result.goal.title,
                f"<= {format_value(result.goal.bound, result.unit)}",
                format_value(estimate.value, result.unit) if estimate else DASH,
                _range(estimate, result.unit),
                result.verdict,
                result.reason,
            ]
        )
    return Table(
        "goals",
        "Goals of this project",
        ["case", "goal", "measured", "95 % interval", "verdict", "why"],
        rows,
        "",
        4,
    )


def table_floors(run: Run) -> Table:
    """Return what the machine charges for one primitive."""
    rows = []
    for floor in run.floors:
        estimate = _estimate(floor, run.seed)
        rows.append(
            [
                floor.name.removeprefix("floor.").replace("_", " "),
                format_value(estimate.value, floor.unit) if estimate else DASH,
                _range(estimate, floor.unit) if estimate else floor.failure or DASH,
                floor.file_system or DASH,
                str(len(floor.samples)),
            ]
        )
    return Table(
        "floors", "Machine floors", ["primitive", "measured", "95 % interval", "file system", "n"], rows
    )


def table_noise(run: Run) -> Table:
    """Spread of every measurement between workers, and the A/A control."""
    rows = []
    for measurement in run.measurements:
        if not measurement.samples:
            rows.append([measurement.name, DASH, DASH, "0", measurement.failure or DASH])
            continue
        medians = stats.worker_medians(measurement.samples)
        middle = stats.median_of_worker_medians(measurement.samples)
        spread = (max(medians) - min(medians)) / middle if middle else 0.0
        verification = measurement.verification
        entries = f"{verification.entries_found:,} of {verification.entries_expected:,} entries"
        checked = DASH if verification.status == "not_applicable" else f"{verification.status}, {entries}"
        rows.append(
            [
                measurement.name,
                format_value(middle, measurement.unit),
                f"{spread:.0%}",
                str(len(medians)),
                checked,
            ]
        )
    note = "; ".join(
        f"no A/A control of {path} in this run"
        if noise is None
        else f"A/A control of {path}: intervals reach {noise:.1%} from equality"
        for path, noise in noise_floors(run).items()
    )
    return Table(
        "noise",
        "Every measurement, its spread between workers, and what reading back its log showed",
        ["measurement", "median", "spread", "n", "log read back"],
        rows,
        note + ".",
    )


def table_section(run: Run, section: str) -> Table:
    """Return a section's judged claims in short; what was not measured, and every reason, stands with all claims."""
    rows = [
        [claim.id, claim.guide, format_measured(claim), format_interval(claim), claim.verdict, claim.title]
        for claim in run.claims
        if claim.section == section and claim.kind != "arithmetic" and claim.verdict != "not measured"
    ]
    title = next((one.title for one in load_sections() if one.id == section), section)
    columns = ["claim", "guide", "measured", "95 % interval", "verdict", "what"]
    return Table(f"section-{section.lower()}", f"{section}. {title}", columns, rows, "", 4)


def table_measurements(run: Run, experiment: str) -> Table:
    """Return what an experiment measured, one row each, in the order measured."""
    rows = []
    for measurement in run.measurements:
        if measurement.experiment == experiment:
            estimate = _estimate(measurement, run.seed)
            value = (
                format_value(estimate.value, measurement.unit) if estimate else measurement.failure or DASH
            )
            rows.append(
                [measurement.name, value, _range(estimate, measurement.unit), str(len(measurement.samples))]
            )
    columns = ["measurement", "measured", "95 % interval", "n"]
    return Table(f"measurements-{experiment.lower()}", f"Measurements of section {experiment}", columns, rows)


def table_claims(claims: list[ClaimResult], key: str, title: str) -> Table:
    """Any list of claim results with the reason of each verdict."""
    rows = [
        [
            claim.id,
            claim.title,
            claim.guide,
            format_measured(claim),
            format_interval(claim),
            claim.verdict,
            claim.reason,
        ]
        for claim in claims
    ]
    return Table(
        key, title, ["claim", "what", "guide", "measured", "95 % interval", "verdict", "why"], rows, "", 5
    )


def _has(run: Run, experiment: str) -> bool:
    """Whether the run holds anything of an experiment; a table of dashes says nothing."""
    return any(measurement.experiment == experiment for measurement in run.measurements)


def _estimate(measurement: Measurement | None, seed: int) -> stats.Estimate | None:
    if measurement is None or not measurement.samples:
        return None
    return stats.estimate(measurement.samples, seed)


def _range(estimate: stats.Estimate | None, unit: str) -> str:
    """Return the interval; one worker has none."""
    return (
        DASH if estimate is None or estimate.workers < 2 else format_range(estimate.low, estimate.high, unit)
    )


def _percentiles(run: Run, path: str) -> list[str]:
    latency = None
    for name in (f"G.{path}.latency", f"G.{path}.batch1.latency", f"G.{path}.batch1"):
        measurement = run.find(name)
        latency = latency or (measurement.latency if measurement is not None else None)
    values = (latency.p50_ns, latency.p99_ns) if latency is not None else (None, None)
    return [DASH if value is None else format_ns(value) for value in values]


def _syscalls(run: Run, path: str) -> str:
    measurement = run.find(f"G.{path}.syscalls")
    if measurement is None or not measurement.samples:
        return DASH
    return f"{stats.median_of_worker_medians(measurement.samples):.3g}"


def _path_multiple(run: Run, measurement: Measurement | None, estimate: stats.Estimate | None) -> str:
    floor = floor_of(run, measurement) if measurement is not None else None
    return DASH if floor is None or estimate is None else f"{estimate.value / floor.cost_ns:.1f}x"


def _multiple(claim: ClaimResult | None) -> str:
    return DASH if claim is None or claim.floor_multiple is None else f"{claim.floor_multiple:.1f}x"
