"""The figures of section S: percentile curves with objectives and stall meter, and p99 response against load."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

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
from cometbench.histogram import Histogram
from cometbench.model import Run
from cometbench.tables_latency import Loaded, loaded

CURVE_PERCENTS = (50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99)
_DRAWN_LOAD = 50
_LABELS = {
    "S.mmap": "mmap",
    "S.buffered": "buffered",
    "S.mmap_synced": "mmap + sync",
    "S.buffered_synced": "buffered + sync",
    "S.processes2": "2 processes",
    "S.processes2_synced": "2 proc. + sync",
}
_MARKERS = ("o", "s", "^", "D", "v", "P")
# Panel title: the probes drawn in it, and the guide's good limits of p50 and p99 in nanoseconds.
_PANELS = {
    "one process": (("S.mmap", "S.buffered", "S.mmap_synced", "S.buffered_synced"), (5e3, 50e3)),
    "two processes on one shard": (("S.processes2", "S.processes2_synced"), (50e3, 200e3)),
}
Rows = list[list[str | float | int | None]]


def percentile_curve(run: Run) -> Figure | None:
    """Response time by percentile at half the capacity, with the guide's objectives and the stall meter."""
    probes = _probes(run)
    if not probes:
        return None
    figure = canvas(5.4, 6.8)
    rows: Rows = []
    for index, (title, (names, limits)) in enumerate(_PANELS.items(), 1):
        panel = axes(figure, 2, 1, index)
        labels: list[tuple[float, str, str]] = []
        present = [name for name in names if name in probes]
        for name in present:
            load = next((one for one in probes[name].loads if one.percent == _DRAWN_LOAD), None)
            if load is not None:
                place = list(_LABELS).index(name)
                _draw(panel, load.response, _LABELS[name], place, title, labels, rows)
        if present:
            _draw_meter(panel, probes[present[0]].loads[0].response, title, labels, rows)
        _draw_limits(panel, limits)
        _percentile_axis(panel, "percentile" if index == len(_PANELS) else "")
        log_time_axis(panel, "response time")
        panel.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
        if labels:
            direct_labels(panel, labels)
    description = (
        "Response time by percentile at half the capacity, with the guide's objectives and the stall meter"
    )
    caption = (
        "Lower is better. Appends due by a Poisson schedule at half the capacity; response runs from when an append was due. "
        f"Histograms of all rounds are added ({_rounds(run)}); a curve ends where fewer than 100 samples lie beyond. Dashed: an "
        "operation that does nothing at the same pace, which shows what the platform itself adds. Bars across: the guide's good "
        f"limits of p50 and p99. {where_text(run, 'S')}"
    )
    columns = ["panel", "series", "percentile", "response_ns", "samples"]
    return Figure(
        "percentiles",
        "Response time by percentile",
        to_svg(figure, description),
        to_csv(columns, rows),
        caption,
        description,
    )


def p99_by_load(run: Run) -> Figure | None:
    """The 99th percentile of response time against load."""
    probes = _probes(run)
    if not probes:
        return None
    figure = canvas(5.4, 3.9)
    panel = axes(figure, 1, 1, 1)
    labels: list[tuple[float, str, str]] = []
    rows: Rows = []
    for place, (name, label) in enumerate(_LABELS.items()):
        if name not in probes:
            continue
        points = []
        for load in probes[name].loads:
            p99 = load.response.percentile(99)
            series = f"{label}, stall meter" if load.percent is None else label
            rows.append([series, load.percent or _DRAWN_LOAD, p99, load.response.count])
            if p99 is None:
                continue
            if load.percent is None:
                panel.plot(
                    [_DRAWN_LOAD], [p99], marker="_", color=SERIES[place], markersize=14, markeredgewidth=1.4
                )
            else:
                points.append((load.percent, p99))
        if points:
            loads, values = [load for load, _ in points], [value for _, value in points]
            panel.plot(
                loads, values, color=SERIES[place], marker=_MARKERS[place], markersize=5, linewidth=1.6
            )
            labels.append((values[-1], label, SERIES[place]))
    panel.set_xlabel("load, % of the capacity")
    panel.set_xlim(0, 85)
    log_time_axis(panel, "p99 of the response time")
    if labels:
        direct_labels(panel, labels)
    description = "The 99th percentile of response time against load, log scale"
    caption = (
        "Lower is better. What waiting adds as appends come closer: a closed loop would show the left end everywhere. Short bars "
        f"at 50 %: an operation that does nothing at that pace. Histograms of all rounds are added ({_rounds(run)}). "
        f"{where_text(run, 'S')}"
    )
    columns = ["series", "load_percent", "p99_response_ns", "samples"]
    return Figure(
        "p99-by-load",
        "p99 response time against load",
        to_svg(figure, description),
        to_csv(columns, rows),
        caption,
        description,
    )


def _probes(run: Run) -> dict[str, Loaded]:
    return {one.probe: one for one in loaded(run.measurements) if one.probe in _LABELS}


def _draw(
    panel: Axes,
    histogram: Histogram,
    label: str,
    place: int,
    title: str,
    labels: list[tuple[float, str, str]],
    rows: Rows,
) -> None:
    points = _points(histogram)
    rows += [[title, label, percent, value, histogram.count] for percent, value in points]
    if points:
        xs, values = _xs(points), [value for _, value in points]
        panel.plot(xs, values, color=SERIES[place], marker=_MARKERS[place], markersize=4.5, linewidth=1.6)
        labels.append((values[-1], label, SERIES[place]))


def _draw_meter(
    panel: Axes, histogram: Histogram, title: str, labels: list[tuple[float, str, str]], rows: Rows
) -> None:
    points = _points(histogram)
    rows += [[title, "stall meter", percent, value, histogram.count] for percent, value in points]
    if points:
        panel.plot(
            _xs(points), [value for _, value in points], color=MUTED, linewidth=1.4, linestyle=(0, (4, 3))
        )
        labels.append((points[-1][1], "nothing", MUTED))


def _draw_limits(panel: Axes, limits: tuple[float, float]) -> None:
    for percent, limit in zip((50, 99), limits, strict=True):
        at = _x(percent)
        panel.plot([at / 1.25, at * 1.25], [limit, limit], color=INK, linewidth=2.2, solid_capstyle="butt")
        panel.annotate(
            f"p{percent} < {short_ns(limit)}",
            (at, limit),
            (6, 5),
            textcoords="offset points",
            fontsize=8.5,
            color=INK,
        )


def _points(histogram: Histogram) -> list[tuple[float, float]]:
    found = ((percent, histogram.percentile(percent)) for percent in CURVE_PERCENTS)
    return [(percent, value) for percent, value in found if value is not None]


def _x(percent: float) -> float:
    """Return the place of a percentile: how rare what lies beyond it is."""
    return 100 / (100 - percent)


def _xs(points: Sequence[tuple[float, float]]) -> list[float]:
    return [_x(percent) for percent, _ in points]


def _percentile_axis(panel: Axes, label: str) -> None:
    shown = (50, 90, 99, 99.9, 99.99)
    names = {round(_x(percent), 3): f"{percent:g}" for percent in shown}
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator([_x(percent) for percent in shown]))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: names.get(round(value, 3), "")))
    panel.set_xlim(1.5, 13_000)
    panel.set_xlabel(label)


def _rounds(run: Run) -> str:
    return n_text(
        [
            len(one.latency.histograms)
            for one in run.measurements
            if one.latency is not None and one.name.startswith("S.") and one.latency.histograms
        ]
    )
