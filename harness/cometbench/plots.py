"""The figures of a run, those of sections Q and G here: measured values with intervals, the guide's as hollow markers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cometbench import stats
from cometbench.figure import (
    INK,
    MUTED,
    SERIES,
    Figure,
    axes,
    canvas,
    direct_labels,
    log_time_axis,
    n_text,
    short_ns,
    to_csv,
    to_svg,
    where_text,
)
from cometbench.guide import guide_run
from cometbench.model import Run
from cometbench.stats import Estimate
from cometbench.tables import DURABILITY_TEXT
from cometbench.units import format_ns, significant
from cometbench.views import ViewError, samples_per

BATCHES = (1, 10, 100, 1000, 10000)
SIDE_STEP_DECADES = 0.05
Point = tuple[int, Estimate]


class Curve(NamedTuple):
    """One labelled line over batch sizes; `suffix` completes `Q.batch<N>.` to a measurement name."""

    label: str
    suffix: str
    color: str
    marker: str


class Generation(NamedTuple):
    """One write path's latency, ratio to the single-process path (None for itself) and the guide's time."""

    path: str
    estimate: Estimate
    ratio: Estimate | None
    guide_ns: float
    survives: str


SINGLE = (
    Curve("buffered", "buffered.processes1", SERIES[0], "o"),
    Curve("mmap", "mmap.processes1", SERIES[1], "s"),
)
MULTI = (
    Curve("1 writer", "mmap.one_writer", SERIES[1], "s"),
    Curve("2 processes", "mmap.processes2", SERIES[2], "^"),
    Curve("4 processes", "mmap.processes4", SERIES[3], "D"),
    Curve("8 processes", "mmap.processes8", SERIES[4], "v"),
)
GENERATION_LABELS = {
    "buffered": "buffered, 1 process",
    "sync": "G1 sync checkpoint",
    "async": "G2 async checkpoint",
    "mmap": "G3 mmap lock-free",
}


def batch_curve(run: Run) -> Figure | None:
    """Time per entry against batch size, one panel per column of the guide's table; None without points."""
    figure = canvas(5.4, 6.6)
    rows: list[list[str | float | int | None]] = []
    workers: list[int] = []
    for index, (title, curves, guide_suffix) in enumerate(
        (
            ("one process", SINGLE, "buffered.processes1"),
            ("many processes on one shard", MULTI, "mmap.one_writer"),
        ),
        1,
    ):
        panel = axes(figure, 2, 1, index)
        labels: list[tuple[float, str, str]] = []
        for place, curve in enumerate(curves):
            points = _per_entry(run, curve.suffix)
            _draw(panel, points, curve, place - (len(curves) - 1) / 2)
            if points:
                labels.append((points[-1][1].value, curve.label, curve.color))
            workers += [estimate.workers for _, estimate in points]
            rows += _csv_rows(title, curve.label, points)
        published = _published_per_entry(guide_suffix)
        _draw_hollow(panel, [batch for batch, _ in published], [value for _, value in published])
        labels.append((published[-1][1], "guide", INK))
        rows += [[title, "guide", batch, value, None, None, None] for batch, value in published]
        _batch_axis(panel, "entries per append call" if index == 2 else "")
        log_time_axis(panel, "time per entry")
        panel.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
        direct_labels(panel, labels)
    if not workers:
        return None
    description = "Time per entry against batch size on log scales, one process above, many processes below"
    caption = (
        "Lower is better. Bars are 95 % intervals over worker processes"
        f" ({n_text(workers)}); hollow rings are the guide's numbers (Apple M2). {where_text(run, 'Q')}"
        " With several processes the time is what one of them sees."
    )
    columns = ["panel", "series", "batch", "ns_per_entry", "low", "high", "workers"]
    return Figure(
        "batch-curve",
        "Time per entry against batch size",
        to_svg(figure, description),
        to_csv(columns, rows),
        caption,
        description,
    )


def multi_single_ratio(run: Run) -> Figure | None:
    """Time of a call in multi-process use over the same call in one process, by batch size."""
    figure = canvas(5.4, 3.7)
    panel = axes(figure, 1, 1, 1)
    rows: list[list[str | float | int | None]] = []
    labels: list[tuple[float, str, str]] = []
    rounds: list[int] = []
    for place, curve in enumerate(MULTI):
        points = _paired(run, curve.suffix, "buffered.processes1")
        _draw(panel, points, curve, place - (len(MULTI) - 1) / 2)
        rounds += [estimate.workers for _, estimate in points]
        rows += _csv_rows("multi over single", curve.label, points)
        if points:
            labels.append((points[-1][1].value, curve.label, curve.color))
    if not rounds:
        return None
    single, multi = (dict(_published_per_entry(s)) for s in ("buffered.processes1", "mmap.one_writer"))
    published = [(batch, multi[batch] / single[batch]) for batch in BATCHES]
    _draw_hollow(panel, list(BATCHES), [ratio for _, ratio in published])
    labels.append((published[-1][1], "guide", INK))
    rows += [["multi over single", "guide", batch, ratio, None, None, None] for batch, ratio in published]
    panel.axhline(1.0, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_ylabel("mmap in multi-process use / buffered in one")
    _batch_axis(panel, "entries per append call")
    direct_labels(panel, labels)
    description = "Ratio of multi-process to single-process append time by batch size, log scales"
    caption = (
        "Below the dashed line the shared log is faster than the single-process one. Ratios are paired within"
        f" rounds ({n_text(rounds)}), bars are 95 % intervals; hollow rings are the guide's. {where_text(run, 'Q')}"
    )
    columns = ["panel", "series", "batch", "ratio", "low", "high", "rounds"]
    return Figure(
        "multi-single-ratio",
        "Multi-process against single-process",
        to_svg(figure, description),
        to_csv(columns, rows),
        caption,
        description,
    )


def generations(run: Run) -> Figure | None:
    """Latency of one append on each write path, log scale, with its paired ratio to buffered."""
    found = [bar for path in GENERATION_LABELS if (bar := _generation(run, path)) is not None]
    if not found:
        return None
    figure = canvas(5.4, 0.55 + 0.62 * len(found))
    panel = axes(figure, 1, 1, 1)
    edges = [edge for bar in found for edge in (bar.estimate.low, bar.estimate.high, bar.guide_ns)]
    left, right = min(edges) / 4, max(edges) * 4
    for position, bar in enumerate(found):
        _draw_generation(panel, position, bar, labelled_right=bar.estimate.value**2 < left * right)
    panel.set_xscale("log")
    panel.set_xlim(left, right)
    panel.set_ylim(len(found) - 0.5, -0.7)
    panel.set_yticks(range(len(found)), [GENERATION_LABELS[bar.path] for bar in found])
    panel.grid(False, axis="y")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_ns(value)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("time of one append")
    workers = n_text([bar.estimate.workers for bar in found])
    survives = "; ".join(f"{bar.path}: {bar.survives}" for bar in found)
    description = "Time of one append on each write path, log scale, guide beside measured"
    caption = (
        f"Filled: measured, bars are 95 % intervals ({workers}); hollow: the guide."
        f" The paths promise different things; an acknowledged entry survives: {survives}. {where_text(run, 'G')}"
    )
    columns = ["path", "ns_per_append", "low", "high", "workers", "guide_ns", "ratio_to_buffered"]
    rows: list[list[str | float | int | None]] = [
        [
            bar.path,
            bar.estimate.value,
            bar.estimate.low,
            bar.estimate.high,
            bar.estimate.workers,
            bar.guide_ns,
            bar.ratio.value if bar.ratio else None,
        ]
        for bar in found
    ]
    return Figure(
        "generations",
        "Time of one append by write path",
        to_svg(figure, description),
        to_csv(columns, rows),
        caption,
        description,
    )


def _generation(run: Run, path: str) -> Generation | None:
    name = f"G.{path}.batch1"
    measurement = run.find(name)
    if measurement is None or not measurement.samples:
        return None
    guide = guide_run().find("Q.batch1.buffered.processes1" if path == "buffered" else name)
    assert guide is not None, "the guide publishes every generation"
    ratio = None if path == "buffered" else _ratio(run, name, "G.buffered.batch1", "append")
    estimate = stats.estimate(samples_per(measurement, "append"), run.seed)
    return Generation(
        path, estimate, ratio, guide.samples[0].values[0], DURABILITY_TEXT[measurement.survives]
    )


def _draw_generation(panel: Axes, position: int, bar: Generation, *, labelled_right: bool) -> None:
    estimate = bar.estimate
    error = [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]
    panel.plot(
        [bar.guide_ns],
        [position],
        "o",
        markerfacecolor="none",
        markeredgecolor=INK,
        markeredgewidth=1.2,
        markersize=8,
    )
    panel.errorbar(
        [estimate.value], [position], xerr=error, fmt="o", color=SERIES[0], capsize=3, markersize=5
    )
    text = format_ns(estimate.value)
    if bar.ratio is not None:
        text += f" ({significant(bar.ratio.value)}x buffered)"
    panel.annotate(
        text,
        (estimate.value, position),
        (-3 if labelled_right else 3, 8),
        textcoords="offset points",
        ha="left" if labelled_right else "right",
        fontsize=8.5,
        color=INK,
    )


def _per_entry(run: Run, suffix: str) -> list[Point]:
    points = []
    for batch in BATCHES:
        measurement = run.find(f"Q.batch{batch}.{suffix}")
        if measurement is not None and measurement.samples:
            points.append((batch, stats.estimate(samples_per(measurement, "entry"), run.seed)))
    return points


def _paired(run: Run, numerator: str, denominator: str) -> list[Point]:
    ratios = (
        (b, _ratio(run, f"Q.batch{b}.{numerator}", f"Q.batch{b}.{denominator}", "append")) for b in BATCHES
    )
    return [(batch, ratio) for batch, ratio in ratios if ratio is not None]


def _ratio(run: Run, numerator: str, denominator: str, per: Any) -> Estimate | None:
    first, second = run.find(numerator), run.find(denominator)
    if first is None or second is None:
        return None
    try:
        return stats.paired_ratio(samples_per(first, per), samples_per(second, per), run.seed)
    except (ViewError, ValueError):
        return None


def _published_per_entry(suffix: str) -> list[tuple[int, float]]:
    published = guide_run()
    found = ((batch, published.find(f"Q.batch{batch}.{suffix}")) for batch in BATCHES)
    return [(batch, m.samples[0].values[0] / batch) for batch, m in found if m is not None]


def _draw(panel: Axes, points: Sequence[Point], curve: Curve, side_step: float) -> None:
    """One curve with its intervals, moved sideways by so many steps so that bars do not cover one another."""
    if not points:
        return
    values = [estimate.value for _, estimate in points]
    below = [max(0.0, estimate.value - estimate.low) for _, estimate in points]
    above = [max(0.0, estimate.high - estimate.value) for _, estimate in points]
    panel.errorbar(
        [batch * 10 ** (SIDE_STEP_DECADES * side_step) for batch, _ in points],
        values,
        yerr=[below, above],
        color=curve.color,
        marker=curve.marker,
        markersize=5,
        linewidth=1.6,
        capsize=3,
    )


def _draw_hollow(panel: Axes, batches: list[int], values: list[float]) -> None:
    panel.plot(
        batches, values, "o", markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.2, markersize=7
    )


def _batch_axis(panel: Axes, label: str) -> None:
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(BATCHES))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.set_xlim(0.7, 14000)
    panel.set_xlabel(label)


def _csv_rows(panel: str, label: str, points: Sequence[Point]) -> list[list[str | float | int | None]]:
    return [[panel, label, batch, e.value, e.low, e.high, e.workers] for batch, e in points]
