"""Other systems beside the engine: one panel for each class of durability, because different promises have different prices."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from cometbench.alternatives import CLASSES, REFERENCE, rows_of, table_a
from cometbench.chapter import Chapter, Drawing, of_run, table_of_run
from cometbench.figure import INK, SERIES, Figure, Row, axes, canvas, finish, n_text, short_ns, where_text
from cometbench.model import Measurement, Run
from cometbench.stats import Estimate, estimate
from cometbench.tables import DURABILITY_TEXT
from cometbench.units import format_ns
from cometbench.views import samples_per

_ENGINE = frozenset({"mmap", "mmap_sync", "buffered", "sync", "async"})
_ROW_IN = 0.21


def by_durability(run: Run) -> Figure | None:
    """Time of a single append of every system, a panel for each class of durability; None without a value."""
    found = {durability: values for durability in CLASSES if (values := _single(run, durability))}
    if not found:
        return None
    figure = canvas(5.4, sum(0.75 + _ROW_IN * len(values) for values in found.values()))
    grid = figure.add_gridspec(len(found), 1, height_ratios=[len(values) + 1.5 for values in found.values()])
    times = [time for values in found.values() for _, time in values]
    left, right = min(time.low for time in times) / 1.6, max(time.high for time in times) * 9
    rows: list[Row] = []
    for index, (durability, values) in enumerate(found.items()):
        panel = axes(figure, len(found), 1, index + 1)
        panel.set_subplotspec(grid[index])
        for position, (measurement, time) in enumerate(values):
            _draw(panel, position, measurement, time)
            rows.append([durability, measurement.subject, *time, measurement.file_system])
        panel.set_yticks(
            range(len(values)), [measurement.subject.replace("_", " ") for measurement, _ in values]
        )
        panel.set_ylim(len(values) - 0.4, -0.6)
        panel.grid(False, axis="y")
        panel.set_xscale("log")
        panel.set_xlim(left, right)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_ns(value)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_title(
            f"an entry survives: {DURABILITY_TEXT[durability]}", loc="left", fontsize=9.5, fontweight="bold"
        )
        if index == len(found) - 1:
            panel.set_xlabel("time of one append")
    return finish(
        figure,
        "alternatives",
        "Alternatives by what an entry survives",
        description="Time of a single append of each system on a log scale, one panel for each class of durability",
        caption=(
            f"Compare within a panel only. Bars are 95 % intervals over worker processes ({n_text([t.workers for t in times])}); "
            f"filled: this engine, hollow: another system; the fastest is on top. One entry a call. {where_text(run, 'A')}"
        ),
        columns=["durability", "system", "ns_per_append", "low", "high", "workers", "file_system"],
        rows=rows,
    )


def _single(run: Run, durability: str) -> list[tuple[Measurement, Estimate]]:
    found = [
        (row, estimate(samples_per(row, "append"), run.seed))
        for rows in rows_of(run, durability).values()
        for row in rows
        if row.batch == 1 and row.samples and row.failure is None
    ]
    return sorted(found, key=lambda pair: pair[1].value)


def _draw(panel: Axes, position: int, measurement: Measurement, time: Estimate) -> None:
    own = measurement.subject in _ENGINE
    color = SERIES[0] if own else SERIES[1]
    panel.errorbar(
        [time.value],
        [position],
        xerr=[[max(0.0, time.value - time.low)], [max(0.0, time.high - time.value)]],
        fmt="o",
        color=color,
        markerfacecolor=color if own else "none",
        capsize=3,
        markersize=5.5,
    )
    reference = REFERENCE.get(measurement.durability) == measurement.subject
    panel.annotate(
        format_ns(time.value),
        (max(time.high, time.value), position),
        (7, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=INK,
        fontweight="bold" if reference else "normal",
    )


CHAPTER = Chapter(
    order=70,
    title="Against alternatives",
    experiments=("A",),
    drawings=(
        Drawing(
            "Alternatives by what an entry survives",
            of_run(by_durability),
            "single appends of other systems (section A)",
        ),
    ),
    tables=(table_of_run(table_a),),
)
