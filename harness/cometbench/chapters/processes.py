"""Throughput against processes: what all writers of one shard do together."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cometbench.chapter import Chapter, Drawing, Shown
from cometbench.figure import (
    INK,
    MUTED,
    SERIES,
    Figure,
    Row,
    axes,
    canvas,
    direct_labels,
    finish,
    n_text,
    where_text,
)
from cometbench.guide import guide_run
from cometbench.model import Fact, Run
from cometbench.plots import BATCHES
from cometbench.stats import Estimate
from cometbench.units import format_count
from cometbench.views import estimate_per

_SUFFIXES = {1: "one_writer", 2: "processes2", 4: "processes4", 8: "processes8"}
_LABEL_UP = {1000: 5, 10000: -5}  # points; the guide's two largest batches lie close together
_MARKERS = ("o", "s", "^", "D", "v")


class Line(NamedTuple):
    """One batch size: entries a second by number of processes, and the guide's, which names no number of them."""

    batch: int
    rates: list[tuple[int, Estimate]]
    published: float | None
    color: str
    marker: str


def throughput(shown: Shown) -> Figure | None:
    """Entries a second of all writers together against their number, a line for each batch size; None without a point."""
    lines = _lines(shown.run)
    if not lines:
        return None
    figure = canvas(5.4, 4.4)
    panel = axes(figure, 1, 1, 1)
    for line in lines:
        _draw(panel, line)
    _scales(panel, shown.run.environment.get("cpus_usable"))
    direct_labels(panel, [(line.rates[-1][1].value, f"batch {line.batch:,}", line.color) for line in lines])
    workers = n_text([rate.workers for line in lines for _, rate in line.rates])
    rows: list[Row] = [[line.batch, processes, *rate] for line in lines for processes, rate in line.rates]
    rows += [
        [line.batch, None, line.published, None, None, None] for line in lines if line.published is not None
    ]
    return finish(
        figure,
        "processes",
        "Entries a second by number of writers",
        description="Entries a second of all writers together against the number of processes, one line for each batch size",
        caption=(
            f"Higher is better. Bars are 95 % intervals over worker processes ({workers}); hollow rings: the guide's multi-process "
            f"numbers, which name no count of processes, at 1. Dashed: the CPUs of this machine. {where_text(shown.run, 'Q')}"
        ),
        columns=["batch", "processes", "entries_per_second", "low", "high", "workers"],
        rows=rows,
    )


def _lines(run: Run) -> list[Line]:
    guide = guide_run()
    found = []
    for place, batch in enumerate(BATCHES):
        measured = ((count, run.find(f"Q.batch{batch}.mmap.{suffix}")) for count, suffix in _SUFFIXES.items())
        rates = [
            (count, estimate_per(one, "second", run.seed))
            for count, one in measured
            if one is not None and one.samples
        ]
        published = guide.find(f"Q.batch{batch}.mmap.one_writer")
        rate = estimate_per(published, "second", 0).value if published is not None else None
        if rates:
            found.append(Line(batch, rates, rate, SERIES[place], _MARKERS[place]))
    return found


def _draw(panel: Axes, line: Line) -> None:
    rates = [rate for _, rate in line.rates]
    panel.errorbar(
        [processes for processes, _ in line.rates],
        [rate.value for rate in rates],
        yerr=[
            [max(0.0, rate.value - rate.low) for rate in rates],
            [max(0.0, rate.high - rate.value) for rate in rates],
        ],
        color=line.color,
        marker=line.marker,
        markersize=5,
        linewidth=1.6,
        capsize=3,
    )
    if line.published is not None:
        panel.plot([1], [line.published], "o", markerfacecolor="none", markeredgecolor=INK, markersize=8)
        place = (7, _LABEL_UP.get(line.batch, 0))
        text = f"guide, {line.batch:,}"
        panel.annotate(
            text, (1, line.published), place, textcoords="offset points", va="center", fontsize=8.5
        )


def _scales(panel: Axes, cpus: Fact) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(0.88, 9)
    if isinstance(cpus, int) and cpus <= max(_SUFFIXES):
        panel.axvline(cpus, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    panel.xaxis.set_major_locator(FixedLocator(list(_SUFFIXES)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: format_count(value).replace(".00", "").replace(".0", ""))
    )
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("writer processes on one shard")
    panel.set_ylabel("entries a second, all writers together")


CHAPTER = Chapter(
    order=80,
    title="Throughput against processes",
    drawings=(
        Drawing(
            "Entries a second by number of writers", throughput, "appends of several processes (section Q)"
        ),
    ),
)
