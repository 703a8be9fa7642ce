"""Figures of what things cost: compression against what it saves, the gain of each advice, allocations of an append."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cometbench.evaluate import evaluate_claims
from cometbench.figure import INK, MUTED, SERIES, Figure, axes, canvas, direct_labels, to_csv, to_svg
from cometbench.findings import gain, value
from cometbench.model import ClaimResult, Run
from cometbench.stats import Estimate
from cometbench.units import significant

BATCHES = (1, 10, 100)
ALLOCATION_BATCHES = (1, 10, 100, 1000, 10_000)
ROW_HEIGHT_IN = 0.24
# The guide's own points: per cent saved, times slower.
_GUIDE_SAVED = 37.0
_GUIDE_SLOWDOWN = {1: 3.2, 10: 1.9, 100: 7.4}
_GUIDE_ALLOCATIONS = (5, 6)

CsvRow = list[str | float | int | None]


class Way(NamedTuple):
    """One way to compress: its label, and the names of time with, time without and bytes saved for a batch size."""

    label: str
    after: str
    before: str
    saved: str
    color: str
    marker: str


WAYS = (
    Way(
        "zstd",
        "C.dictionary.zstd_batch{}",
        "C.dictionary.off_batch{}",
        "C.dictionary.zstd_batch{}_saved",
        SERIES[0],
        "o",
    ),
    Way("zstd, no pause", "C.batch{}.on", "C.batch{}.off", "C.dictionary.zstd_batch{}_saved", SERIES[3], "D"),
    Way(
        "dictionary",
        "C.dictionary.dictionary_batch{}",
        "C.dictionary.off_batch{}",
        "C.dictionary.dictionary_batch{}_saved",
        SERIES[1],
        "s",
    ),
    Way(
        "high_compression",
        "C.profiles.high_batch{}",
        "C.profiles.default_batch{}",
        "C.profiles.high_batch{}_saved",
        SERIES[2],
        "^",
    ),
)
# Where the batch sizes stand beside the points of each way: bytes saved differ little between ways.
_SIDES = ((-7, 3), (7, 3), (-7, -9), (7, -9))
ALLOCATION_SERIES = (
    ("mmap", "M.allocations.q{}_mmap_allocations", SERIES[1], "s"),
    ("buffered", "M.allocations.q{}_buffered_allocations", SERIES[0], "o"),
    ("mmap, compressed", "M.allocations.c{}_on_allocations", SERIES[2], "^"),
)


class CostPoint(NamedTuple):
    """One way to compress at one batch size."""

    way: Way
    batch: int
    slower: Estimate
    saved: Estimate


def compression_cost(run: Run) -> Figure | None:
    """Slowdown of an append against bytes saved, one point for each way and batch size."""
    found = [
        CostPoint(way, batch, slower, saved)
        for way in WAYS
        for batch in BATCHES
        if (slower := gain(run, way.after.format(batch), way.before.format(batch))) is not None
        and (saved := value(run, way.saved.format(batch))) is not None
    ]
    if not found:
        return None
    figure = canvas(5.4, 4.2)
    panel = axes(figure, 1, 1, 1)
    _draw_costs(panel, found)
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}x"))
    panel.yaxis.set_minor_locator(NullLocator())
    direct_labels(panel, [(point.slower.value, point.way.label, point.way.color) for point in _last(found)])
    panel.set_xlabel("bytes saved, per cent")
    panel.set_ylabel("times slower than without compression")
    description = "Slowdown of an append against the bytes that compressing it saves, by way and batch size"
    rows: list[CsvRow] = [
        [way.label, batch, saved.value, saved.low, saved.high, slower.value, slower.low, slower.high, slower.workers]
        for way, batch, slower, saved in found
    ]  # fmt: skip
    rows += [
        ["the guide", b, _GUIDE_SAVED, None, None, s, None, None, None] for b, s in _GUIDE_SLOWDOWN.items()
    ]
    columns = [
        "way",
        "batch",
        "saved_percent",
        "saved_low",
        "saved_high",
        "slowdown",
        "low",
        "high",
        "rounds",
    ]
    caption = (
        "Lower right is better. Numbers beside the points are entries per append, names stand at the height of the largest; "
        f"ratios are paired within rounds ({_n([point.slower.workers for point in found])}), bars are 95 % intervals; hollow rings "
        "are the guide's. Orders of about 800 bytes, in bursts; without a pause the file system's pages bound both sides."
    )
    return _figure(
        "compression-cost", "What compression costs and saves", figure, columns, rows, caption, description
    )


def _last(found: Sequence[CostPoint]) -> list[CostPoint]:
    """Return each way's point of the largest batch."""
    return list({point.way.label: point for point in found}.values())


def _draw_costs(panel: Axes, found: Sequence[CostPoint]) -> None:
    """Draw a line for each way, its points with their batch sizes, and the guide's as hollow rings."""
    for place, way in enumerate(WAYS):
        points = [point for point in found if point.way is way]
        panel.plot(
            [point.saved.value for point in points], [point.slower.value for point in points], color=way.color,
            linewidth=0.8, alpha=0.6,
        )  # fmt: skip
        for _, batch, slower, saved in points:
            panel.errorbar(
                [saved.value], [slower.value], xerr=_bars(saved), yerr=_bars(slower), fmt=way.marker, color=way.color,
                capsize=3, markersize=6,
            )  # fmt: skip
            _annotate(panel, f"{batch}", saved.value, slower.value, way.color, _SIDES[place])
    for batch, slowdown in _GUIDE_SLOWDOWN.items():
        panel.plot(
            [_GUIDE_SAVED], [slowdown], "o", markerfacecolor="none", markeredgecolor=INK, markersize=7,
        )  # fmt: skip
        _annotate(panel, f"guide, {batch}", _GUIDE_SAVED, slowdown, INK, _SIDES[0])
    panel.set_xlim(0, 104)


def advice_gains(run: Run) -> Figure | None:
    """Gain of each pitfall avoided and each advice followed, with its interval."""
    results = [result for result in _directions(run) if not result.id.startswith("T9.")]
    return _gains(
        results,
        "advice-gains",
        "What each advice gains",
        "Gain of each advice with its interval, 1 is nothing, log scale",
    )


def preset_gains(run: Run) -> Figure | None:
    """Gain of each preset over the default on each workload."""
    results = [result for result in _directions(run) if result.id.startswith("T9.")]
    return _gains(
        results,
        "preset-gains",
        "Presets against the default",
        "Gain of each preset over the default configuration, 1 is nothing, log scale",
    )


def _directions(run: Run) -> list[ClaimResult]:
    claims = run.claims or evaluate_claims(run)
    return [claim for claim in claims if claim.kind == "direction" and claim.measured is not None]


def _gains(results: Sequence[ClaimResult], name: str, title: str, description: str) -> Figure | None:
    if not results:
        return None
    figure = canvas(5.4, 0.9 + ROW_HEIGHT_IN * len(results))
    panel = axes(figure, 1, 1, 1)
    rows: list[CsvRow] = []
    for place, result in enumerate(results):
        measured = result.measured or 0.0
        low, high = result.interval or (measured, measured)
        estimate = Estimate(measured, low, high, result.workers)
        panel.errorbar(
            [measured],
            [place],
            xerr=_bars(estimate),
            fmt="o",
            color=_color(low, high),
            capsize=3,
            markersize=5,
        )
        panel.annotate(
            f"{significant(measured)}x",
            (high, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
        rows.append([result.id, result.guide, measured, low, high, result.workers, result.verdict])
    panel.axvline(1.0, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}x"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_yticks(range(len(results)), [_advice_label(result) for result in results])
    panel.set_ylim(len(results) - 0.4, -0.6)
    panel.margins(x=0.18)
    panel.grid(False, axis="y")
    panel.set_xlabel("gain, times (log)")
    caption = (
        "Right of the dashed line the advice gains. Blue: the whole interval gains, red: it loses, grey: neither shows. "
        f"Ratios are paired within rounds ({_n([result.workers for result in results])}), bars are 95 % intervals."
    )
    columns = ["claim", "guide", "gain", "low", "high", "rounds", "verdict"]
    return _figure(name, title, figure, columns, rows, caption, description)


def _color(low: float, high: float) -> str:
    """Say by colour which side of 1 a whole interval lies on."""
    if low > 1.0:
        return SERIES[0]
    return SERIES[1] if high < 1.0 else MUTED


def _advice_label(result: ClaimResult) -> str:
    claim, check, reading = result.id.split(".", 2)
    words = reading if check == "gain" else f"{check}, {reading}"
    return f"{claim} {words.replace('_', ' ')}"


def allocations(run: Run) -> Figure | None:
    """Allocations of one append by batch size, the guide's five to six as a band."""
    figure = canvas(5.4, 3.6)
    panel = axes(figure, 1, 1, 1)
    rows: list[CsvRow] = []
    workers: list[int] = []
    labels: list[tuple[float, str, str]] = []
    for label, name, color, marker in ALLOCATION_SERIES:
        points = [(b, found) for b in ALLOCATION_BATCHES if (found := value(run, name.format(b))) is not None]
        if not points:
            continue
        panel.plot(
            [batch for batch, _ in points], [found.value for _, found in points], marker=marker, color=color,
            markersize=5, linewidth=1.6,
        )  # fmt: skip
        labels.append((points[-1][1].value, label, color))
        workers += [found.workers for _, found in points]
        rows += [[label, batch, e.value, e.low, e.high, e.workers] for batch, e in points]
    if not rows:
        return None
    panel.axhspan(*_GUIDE_ALLOCATIONS, color=MUTED, alpha=0.25, linewidth=0)
    labels.append((sum(_GUIDE_ALLOCATIONS) / 2, "guide", INK))
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(ALLOCATION_BATCHES))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100]))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("entries per append call")
    panel.set_ylabel("heap allocations of one append")
    direct_labels(panel, labels)
    description = "Heap allocations of one append by batch size and write path"
    caption = (
        "Lower is better. Every call to malloc of the appending thread, Python's objects and the returned number or range "
        f"included, medians of 30 appends ({_n(workers)}); the band is what the guide states for Go."
    )
    columns = ["series", "batch", "allocations", "low", "high", "workers"]
    return _figure("allocations", "Allocations of an append", figure, columns, rows, caption, description)


def _figure(
    name: str,
    title: str,
    drawn: object,
    columns: list[str],
    rows: list[CsvRow],
    caption: str,
    description: str,
) -> Figure:
    return Figure(name, title, to_svg(drawn, description), to_csv(columns, rows), caption, description)  # type: ignore[arg-type]


def _bars(estimate: Estimate) -> list[list[float]]:
    return [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]


def _annotate(panel: Axes, text: str, x: float, y: float, color: str, offset: tuple[int, int]) -> None:
    """Write beside a point, so many points off."""
    side = "right" if offset[0] < 0 else "left"
    panel.annotate(text, (x, y), offset, textcoords="offset points", ha=side, fontsize=8.5, color=color)


def _n(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low} to {high}"
