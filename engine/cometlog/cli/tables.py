"""Tables: coloured and with units for people, plain and exact for pipes.

With rich installed (the extra ``cometlog[cli]``), on a terminal, and unless NO_COLOR is set, a table is drawn with readable sizes and
times. Everywhere else it is aligned text: one header line, exact numbers in the unit that the header names, "-" for what is not
there, no cell with a space in it but those of the last column.
"""

import importlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cometlog.cli.output import output

if TYPE_CHECKING:
    from rich.text import Text

Value = str | int | float | None
Kind = Literal["text", "count", "bytes", "seconds"]
_UNIT_OF = {"bytes": "_bytes", "seconds": "_s"}
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name without a unit, what its values are, and the colour of values that deserve one."""

    name: str
    kind: Kind = "text"
    colours: dict[str, str] | None = None


def is_drawn() -> bool:
    """Return whether tables are drawn for a person."""
    if not output().isatty() or os.environ.get("NO_COLOR"):
        return False
    with suppress(ImportError):
        importlib.import_module("rich")
        return True
    return False


def show(columns: Sequence[Column], rows: Sequence[Sequence[Value]], title: str = "") -> None:
    """Print a table; the title is for people only."""
    if is_drawn():
        _draw(columns, rows, title)
        return
    lines = [[column.name.upper() + _UNIT_OF.get(column.kind, "").upper() for column in columns]]
    lines += [[*(_exact(value).replace(" ", "-") for value in row[:-1]), _exact(row[-1])] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.ljust(width) if column.kind == "text" else cell.rjust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _exact(value: Value) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def readable(value: Value, kind: Kind) -> str:
    """Return a value as a person reads it."""
    if value is None or value == "" or isinstance(value, str):
        return value or "-"
    if kind == "bytes":
        step = 0
        while value >= 1024 and step < len(_SIZES) - 1:
            value, step = value / 1024, step + 1
        return f"{value:.1f} {_SIZES[step]}" if step else f"{value} B"
    if kind == "seconds":
        for span_s, name in _SPANS:
            if value >= span_s:
                return f"{value / span_s:.1f} {name}"
        return f"{value * 1000:.0f} ms"
    return f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"


def _draw(columns: Sequence[Column], rows: Sequence[Sequence[Value]], title: str) -> None:
    from rich import box  # noqa: PLC0415 - an extra
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    drawn = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(
            column.name,
            justify="left" if column.kind == "text" else "right",
            overflow="fold",
            no_wrap=column.name == "stream",
        )
    for row in rows:
        drawn.add_row(*(_cell(value, column) for value, column in zip(row, columns, strict=True)))
    file: Any = output()
    Console(file=file).print(drawn)


def _cell(value: Value, column: Column) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    return Text(readable(value, column.kind), (column.colours or {}).get(str(value), ""))
