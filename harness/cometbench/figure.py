"""How every figure is drawn and stored: an SVG that follows the page's colours, a CSV and a caption.

Colours are drawn as placeholders and stored as CSS variables with fallbacks, so that one SVG serves both
modes and still opens on its own. Palette: Okabe and Ito, "Color Universal Design" (2008), lightened for dark
pages.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("svg")

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullLocator

from cometbench.model import Run

LABEL_GAP = 0.055  # of the axis height: two lines of text closer than this would overlap
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050501", "#050502", "#050503", "#050504", "#050505", "#050506")

# placeholder -> (CSS variable, fallback for a file opened outside the report)
_VARIABLES = {
    INK: ("--ink", "#1c1c1c"),
    MUTED: ("--muted", "#5f6368"),
    GRID: ("--grid", "#dadce0"),
    PAPER: ("--paper", "#ffffff"),
    SERIES[0]: ("--series-1", "#0072b2"),
    SERIES[1]: ("--series-2", "#b84f00"),
    SERIES[2]: ("--series-3", "#00805c"),
    SERIES[3]: ("--series-4", "#b5528b"),
    SERIES[4]: ("--series-5", "#8f6400"),
    SERIES[5]: ("--series-6", "#1f72a8"),
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cometbench",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


Row = list[str | float | int | None]


class Figure(NamedTuple):
    """A finished figure: inline SVG, data as CSV, caption with n, and words for those who cannot see it."""

    name: str
    title: str
    svg: str
    csv: str
    caption: str
    description: str


def canvas(width_in: float, height_in: float) -> Canvas:
    """Return an empty canvas in the house style, sized in inches; 1 inch is 72 SVG units."""
    with rc_context(_STYLE):
        return Canvas(figsize=(width_in, height_in), layout="constrained")


def axes(figure: Canvas, rows: int, columns: int, index: int) -> Axes:
    """One set of axes in the house style with a light grid behind the data."""
    with rc_context(_STYLE):
        made = figure.add_subplot(rows, columns, index)
        made.grid(True, which="major")
        made.set_axisbelow(True)
        return made


def to_svg(figure: Canvas, description: str) -> str:
    """Return the figure as an `<svg>` that scales with its container and takes its colours from CSS."""
    with rc_context(_STYLE):
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r'\1 width="100%" role="img" style="fill: ' + INK + '"', text, count=1
    )
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "system-ui, 'DejaVu Sans', sans-serif", text)
    for placeholder, (variable, fallback) in _VARIABLES.items():
        text = text.replace(placeholder, f"var({variable}, {fallback})")
    return text.replace(">", f"><title>{_escape(description)}</title>", 1).strip() + "\n"


def finish(
    drawn: Canvas,
    name: str,
    title: str,
    *,
    description: str,
    caption: str,
    columns: list[str],
    rows: list[Row],
) -> Figure:
    """Return the finished figure: the drawing as SVG, its data as CSV."""
    return Figure(name, title, to_svg(drawn, description), to_csv(columns, rows), caption, description)


def to_csv(columns: list[str], rows: list[Row]) -> str:
    """Rows as CSV with a header line; None is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def log_time_axis(panel: Axes, label: str) -> None:
    """Make the vertical axis logarithmic, with times of nanoseconds as labels."""
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_ns(value)))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_ylabel(label)


def short_ns(value: float) -> str:
    """Return a time in the shortest form, for an axis."""
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} ns"


def direct_labels(panel: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Write each curve's name beside its last point, pushed apart where they would overlap."""
    low, high = (math.log10(edge) for edge in panel.get_ylim())
    placed = sorted(((math.log10(value) - low) / (high - low), text, color) for value, text, color in labels)
    heights: list[float] = []
    for height, _, _ in placed:
        heights.append(height if not heights else max(height, heights[-1] + LABEL_GAP))
    shift = max(0.0, heights[-1] - 1.0)
    for height, (_, text, color) in zip(heights, placed, strict=True):
        panel.text(
            1.02, height - shift, text, color=color, transform=panel.transAxes, va="center", fontsize=8.5
        )


def n_text(counts: Sequence[int]) -> str:
    """Return how many workers or rounds a caption speaks of."""
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def where_text(run: Run, experiment: str) -> str:
    """Return the file systems that an experiment wrote to, as a sentence."""
    systems = sorted(
        {m.file_system for m in run.measurements if m.experiment == experiment and m.file_system}
    )
    return f"File system: {', '.join(systems)}." if systems else ""


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
