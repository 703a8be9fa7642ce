"""Sentences of a finding: a value with its interval, a gain with its interval, from a run that may lack either."""

from __future__ import annotations

from cometbench.model import Measurement, Run
from cometbench.stats import Estimate, estimate, paired_ratio
from cometbench.units import format_range, format_value, significant


def sampled(run: Run, name: str) -> Measurement | None:
    """Return the measurement of that name if it has values."""
    measurement = run.find(name)
    return measurement if measurement is not None and measurement.samples else None


def value(run: Run, name: str) -> Estimate | None:
    """Return a measurement's headline, or None."""
    measurement = sampled(run, name)
    return None if measurement is None else estimate(measurement.samples, run.seed)


def gain(run: Run, before: str, after: str) -> Estimate | None:
    """Return how many times less `after` is than `before`, paired in rounds, or None."""
    first, second = sampled(run, before), sampled(run, after)
    if first is None or second is None:
        return None
    try:
        return paired_ratio(first.samples, second.samples, run.seed)
    except ValueError:
        return None


def value_text(run: Run, name: str) -> str | None:
    """Return `1.54 µs [1.50-1.60 µs]`, or None where nothing was measured."""
    found, measurement = value(run, name), sampled(run, name)
    if found is None or measurement is None:
        return None
    return f"{format_value(found.value, measurement.unit)} [{format_range(found.low, found.high, measurement.unit)}]"


def gain_text(run: Run, before: str, after: str) -> str | None:
    """Return `1.23x [1.20-1.25x]`, or None where nothing was measured."""
    found = gain(run, before, after)
    return (
        None if found is None else f"{significant(found.value)}x [{format_range(found.low, found.high, 'x')}]"
    )


def sentence(template: str, **parts: str | None) -> list[str]:
    """Return the sentence with its figures, or nothing where one of them was not measured."""
    return [] if None in parts.values() else [template.format(**parts)]


def failures(run: Run, *names: str) -> list[str]:
    """Return why measurements were not made, one sentence each."""
    found = (run.find(name) for name in names)
    return [f"not measured: {one.failure}" for one in found if one is not None and one.failure is not None]
