"""Tables of what things cost: section C as the guide prints it, and memory."""

from __future__ import annotations

from cometbench.findings import gain, value
from cometbench.model import Run
from cometbench.stats import Estimate
from cometbench.tables import Table
from cometbench.units import (
    DASH,
    format_interval,
    format_measured,
    format_ns,
    format_range,
    format_value,
    significant,
)

BATCHES = (1, 10, 100)
_ALLOCATION_ROWS = tuple(
    (f"{batch:,}", path, f"q{batch}_{path}")
    for path in ("buffered", "mmap")
    for batch in (1, 10, 100, 1000, 10_000)
) + tuple(
    (f"{batch}", f"mmap, orders, compression {name}", f"c{batch}_{name}")
    for name in ("off", "on")
    for batch in BATCHES
)
_RESIDENT = (
    ("typical deployment, anonymous", "M.deployment.anonymous", "50-100 MB"),
    ("of it the engine's", "M.deployment.engine_anonymous", DASH),
    ("its mapped file pages", "M.deployment.file_pages", DASH),
    ("one boundary in memory", "M.index.memory_per_boundary", "~200 bytes"),
    ("one boundary on disk", "M.index.disk_per_boundary", DASH),
    ("index of 16 shards, 10,000 boundaries each", "M.index.shards16", "~32 MB"),
    ("compression buffers, 4 workers", "M.buffers.workers4", "~10 MB"),
    ("compression buffers, 1 worker", "M.buffers.workers1", DASH),
)


def table_c(run: Run) -> Table:
    """Section C: the guide's row beside the measured one, per entry, and the same with a trained dictionary."""
    guide = {
        1: ("2.2 µs", "7.1 µs", "3.2x"),
        10: ("3.2 µs", "6.2 µs", "1.9x"),
        100: ("0.78 µs", "5.7 µs", "7.4x"),
    }
    rows = []
    for batch in BATCHES:
        off, on = (value(run, f"C.batch{batch}.{name}") for name in ("off", "on"))
        slower = gain(run, f"C.batch{batch}.on", f"C.batch{batch}.off")
        if off is None or on is None or slower is None:
            continue
        trained = gain(run, f"C.dictionary.dictionary_batch{batch}", f"C.dictionary.off_batch{batch}")
        saved, more = (
            value(run, f"C.dictionary.{name}_batch{batch}_saved") for name in ("zstd", "dictionary")
        )
        rows.append(
            [
                str(batch), " / ".join(guide[batch][:2]), format_ns(off.value / batch), format_ns(on.value / batch),
                guide[batch][2], f"{significant(slower.value)}x", _range(slower, "x"), "~37 %", _cell(saved, "%"),
                _cell(trained, "x"), _cell(more, "%"),
            ]
        )  # fmt: skip
    return Table(
        "c",
        "C. Compression: time of one entry, and bytes saved",
        ["batch", "guide off / on", "off", "on", "guide slowdown", "slowdown", "95 % interval", "guide saved", "saved",
         "dictionary: slowdown", "dictionary: saved"],
        rows,
        "About 800-byte JSON orders on the mmap path. Slowdowns are paired within rounds; the dictionary's is against no compression.",
    )  # fmt: skip


def table_allocations(run: Run) -> Table:
    """M1 and M6: what one append asks the heap for, for every row of Q and C."""
    rows = []
    for batch, what, name in _ALLOCATION_ROWS:
        number, size = (value(run, f"M.allocations.{name}_{unit}") for unit in ("allocations", "bytes"))
        if number is not None and size is not None:
            rows.append([batch, what, f"{number.value:g}", f"{size.value:,.0f}"])
    return Table(
        "allocations",
        "M. Allocations and bytes of one append",
        ["batch", "path", "allocs/op", "B/op"],
        rows,
        "Medians of 30 appends after a warm-up; the entry number or range that an append returns is counted.",
    )


def table_resident(run: Run) -> Table:
    """M3 to M5: what stays in memory."""
    rows = [
        [what, guide, format_value(found.value, "bytes"), _range(found, "bytes")]
        for what, name, guide in _RESIDENT
        if (found := value(run, name)) is not None
    ]
    return Table("resident", "M. Resident memory", ["what", "guide", "measured", "95 % interval"], rows)


def table_gains(run: Run) -> Table:
    """Sections F and T: what each advice gains where the guide states no size."""
    rows = [
        [result.id, result.title, format_measured(result), format_interval(result), result.verdict]
        for result in run.claims
        if result.kind == "direction" and result.measured is not None
    ]
    return Table(
        "gains",
        "F and T. What each advice gains",
        ["claim", "what", "gain", "95 % interval", "verdict"],
        rows,
        "Time before by time after, paired within rounds; 1x is nothing. Every reason stands with its claim.",
        4,
    )


def _cell(estimate: Estimate | None, unit: str) -> str:
    return DASH if estimate is None else format_value(estimate.value, unit)


def _range(estimate: Estimate, unit: str) -> str:
    return DASH if estimate.workers < 2 else format_range(estimate.low, estimate.high, unit)
