"""Numbers as people read them: three significant digits with a unit that fits."""

from __future__ import annotations

import math

from cometbench.model import ClaimResult

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "K"))
DASH = "\N{EN DASH}"


def significant(value: float, digits: int = 3) -> str:
    """`value` rounded to `digits` significant digits, without exponent, with thousands separated."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    rounded = round(value, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.{places}f}"


def format_ns(value_ns: float) -> str:
    """Return a time: `82.0 ns`, `1.70 µs`, `7.60 ms`."""
    for size, unit in _TIMES:
        if abs(value_ns) >= size * 0.9995:
            return f"{significant(value_ns / size)} {unit}"
    return f"{significant(value_ns)} ns"


def format_count(value: float) -> str:
    """Return a count or a rate without its unit: `594K`, `18.2M`."""
    for size, letter in _COUNTS:
        if abs(value) >= size * 0.9995:
            return f"{significant(value / size)}{letter}"
    return significant(value)


def format_value(value: float, unit: str) -> str:
    """Return a value in the unit of a claim or measurement."""
    if unit == "ns":
        return format_ns(value)
    if unit == "x":
        return f"{significant(value)}x"
    if unit in ("bytes_per_second", "bytes/s"):
        return _bandwidth(value)
    if unit in {"syscalls/append", "syscalls"}:
        return f"{value:.4g} {unit}"
    return f"{format_count(value)} {unit}".strip()


def _bandwidth(bytes_per_second: float) -> str:
    number = format_count(bytes_per_second)
    return f"{number[:-1]} {number[-1]}B/s" if number[-1].isalpha() else f"{number} B/s"


def format_range(low: float, high: float, unit: str) -> str:
    """Return an interval, the unit once where both ends share it: `1.61` to `1.80 µs` with a dash."""
    first, second = format_value(low, unit), format_value(high, unit)
    first_unit, second_unit = (text.rpartition(" ")[2] for text in (first, second))
    if " " in first and first_unit == second_unit:
        first = first.rpartition(" ")[0]
    elif unit == "x":
        first = first.removesuffix("x")
    return f"{first}{DASH}{second}"


def format_measured(result: ClaimResult) -> str:
    """Return the measured value of a claim, or a dash."""
    return DASH if result.measured is None else format_value(result.measured, result.unit)


def format_interval(result: ClaimResult) -> str:
    """Return the interval of a claim, or a dash."""
    return DASH if result.interval is None else format_range(*result.interval, result.unit)
