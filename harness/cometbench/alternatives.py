"""Section A of a run: its table by what survives, and which systems were not measured."""

from __future__ import annotations

from collections.abc import Sequence

from cometbench.model import Measurement, Run
from cometbench.stats import Estimate, estimate, paired_ratio
from cometbench.tables import DURABILITY_TEXT, Table
from cometbench.units import DASH, format_ns, format_range, format_value

SECTION = "A"
CLASSES = ("lost_on_kill", "survives_process_crash", "survives_power_loss")
# The engine's row of each class, to which the others of the class are compared: its default path, synced per append or not.
REFERENCE = {"survives_process_crash": "mmap", "survives_power_loss": "mmap_sync"}


def rows_of(run: Run, durability: str) -> dict[str, list[Measurement]]:
    """Return the measurements of a durability class by subject, each by batch size, in the order of the run."""
    found: dict[str, list[Measurement]] = {}
    for measurement in run.measurements:
        if measurement.experiment == SECTION and measurement.durability == durability:
            found.setdefault(measurement.subject, []).append(measurement)
    return {subject: sorted(rows, key=lambda row: row.batch) for subject, rows in found.items()}


def ratio_to_engine(run: Run, measurement: Measurement) -> Estimate | None:
    """Return the paired ratio to the engine's row of the same class and batch; None without one, and for that row itself."""
    subject = REFERENCE.get(measurement.durability)
    if subject is None or subject == measurement.subject or not measurement.samples:
        return None
    rows = rows_of(run, measurement.durability).get(subject, [])
    reference = next((row for row in rows if row.batch == measurement.batch and row.samples), None)
    return None if reference is None else paired_ratio(measurement.samples, reference.samples, run.seed)


def table_a(run: Run) -> Table:
    """Section A: a block of rows for each durability class, in it one for each batch size, in it a row for each system."""
    found = [m for durability in CLASSES for rows in rows_of(run, durability).values() for m in rows]
    found.sort(key=lambda m: (CLASSES.index(m.durability), m.batch))
    return Table(
        "a",
        "A. Against alternatives: time of one append call, by what an acknowledged entry survives",
        [
            "survives",
            "batch",
            "system",
            "measured",
            "95 % interval",
            "x engine",
            "ratio interval",
            "entries read back",
            "version, or why it was not measured",
        ],
        [_row(run, measurement) for measurement in found],
        "x engine: paired in rounds with the engine's row of the same class and batch, mmap, or mmap with a sync after each "
        "append (mmap_sync). Rows of different classes promise different things and are not compared.",
    )


def missing(run: Run, systems: Sequence[str]) -> list[str]:
    """Return a sentence for each system (the first word of a subject: kafka, nats) that has no row, or one without values."""
    sentences = []
    for system in systems:
        rows = [m for m in run.measurements if m.experiment == SECTION and m.subject.split("_")[0] == system]
        if not rows:
            known = sorted({m.subject.split("_")[0] for m in run.measurements if m.experiment == SECTION})
            sentences.append(
                f"{system} is required and is no system of this run; there are {', '.join(known)}"
            )
        sentences += [f"{m.name} is required: {m.failure}" for m in rows if m.failure is not None]
    return sentences


def _row(run: Run, measurement: Measurement) -> list[str]:
    checked = measurement.verification
    cells = [DURABILITY_TEXT[measurement.survives], f"{measurement.batch:,}", measurement.subject]
    if not measurement.samples or measurement.failure is not None:
        return [*cells, DASH, DASH, DASH, DASH, DASH, measurement.failure or DASH]
    time, ratio = estimate(measurement.samples, run.seed), ratio_to_engine(run, measurement)
    return [
        *cells,
        format_ns(time.value),
        format_range(time.low, time.high, "ns") if time.workers > 1 else DASH,
        format_value(ratio.value, "x") if ratio else DASH,
        format_range(ratio.low, ratio.high, "x") if ratio and ratio.workers > 1 else DASH,
        f"{checked.entries_found:,} of {checked.entries_expected:,}",
        str(measurement.extra.get("version", DASH)),
    ]
