"""How every figure is drawn and stored: an SVG that follows the page's colours, a CSV and a caption.

Colours are drawn as placeholders and stored as CSS variables with fallbacks, so that one SVG serves both
modes and still opens on its own. Palette: Okabe and Ito, "Color Universal Design" (2008), lightened for dark
pages.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("svg")

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050501", "#050502", "#050503", "#050504", "#050505", "#050506")

# placeholder -> (CSS variable, fallback for a file opened outside the report)
_VARIABLES = {
    INK: ("--ink", "#1c1c1c"),
    MUTED: ("--muted", "#5f6368"),
    GRID: ("--grid", "#dadce0"),
    PAPER: ("--paper", "#ffffff"),
    SERIES[0]: ("--series-1", "#0072b2"),
    SERIES[1]: ("--series-2", "#d55e00"),
    SERIES[2]: ("--series-3", "#00805c"),
    SERIES[3]: ("--series-4", "#b5528b"),
    SERIES[4]: ("--series-5", "#8f6400"),
    SERIES[5]: ("--series-6", "#2b7fb8"),
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
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 width="100%" role="img"', text, count=1)
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "system-ui, 'DejaVu Sans', sans-serif", text)
    for placeholder, (variable, fallback) in _VARIABLES.items():
        text = text.replace(placeholder, f"var({variable}, {fallback})")
    return text.replace(">", f"><title>{_escape(description)}</title>", 1).strip() + "\n"


def to_csv(columns: list[str], rows: list[list[str | float | int | None]]) -> str:
    """Rows as CSV with a header line; None is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
