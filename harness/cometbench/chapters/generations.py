"""The three write-path generations: their times, and what each removed from the one before."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from cometbench import stats, tables
from cometbench.chapter import Chapter, Drawing, of_run, table_of_run
from cometbench.figure import (
    INK,
    MUTED,
    SERIES,
    Figure,
    Row,
    axes,
    canvas,
    finish,
    n_text,
    short_ns,
    where_text,
)
from cometbench.model import Run
from cometbench.plots import generations
from cometbench.stats import Estimate
from cometbench.units import format_ns, format_range, significant
from cometbench.views import samples_per

# In the order of the guide: the path, and what it no longer does in the call that appends.
_STEPS = (
    ("sync", "G1 sync checkpoint", ""),
    ("async", "G2 async checkpoint", "no index in the call"),
    ("mmap", "G3 mmap lock-free", "no lock, write, sync"),
)


class Step(NamedTuple):
    """One generation: its time, how many times less than the one before (None for the first), syscalls an append."""

    path: str
    label: str
    removed: str
    time: Estimate
    factor: Estimate | None
    syscalls: float | None


def waterfall(run: Run) -> Figure | None:
    """How the time of one append falls from generation to generation; None unless all three were measured."""
    steps = _steps(run)
    if len(steps) < len(_STEPS):
        return None
    figure = canvas(5.4, 3.0)
    panel = axes(figure, 1, 1, 1)
    left, right = min(step.time.low for step in steps) / 5, max(step.time.high for step in steps) * 300
    for position, step in enumerate(steps):
        _draw_total(panel, position * 2, step.time, left)
        if position:
            _draw_removed(panel, position * 2 - 1, steps[position - 1].time, step)
    _scales(panel, steps, left, right)
    rounds = n_text([step.factor.workers for step in steps if step.factor is not None])
    description = "Waterfall of the time of one append over three generations: bars of the totals and of what each step removed"
    return finish(
        figure,
        "waterfall",
        "What each generation removed",
        description=description,
        caption=(
            "Read downwards. Solid: what an append takes; pale: what the next generation no longer waits for, and how "
            f"many times less it takes. Factors are paired within rounds ({rounds}); bars at the ends are 95 % intervals. The scale "
            f"is logarithmic, so equal lengths are equal factors. {_syscalls_text(steps)}{where_text(run, 'G')}"
        ),
        columns=[
            "path",
            "ns_per_append",
            "low",
            "high",
            "times_less",
            "times_less_low",
            "times_less_high",
            "syscalls",
        ],
        rows=[_row(step) for step in steps],
    )


def _scales(panel: Axes, steps: list[Step], left: float, right: float) -> None:
    words = [text for step in steps for text in (step.removed, step.label) if text]
    panel.set_xscale("log")
    panel.set_xlim(left, right)
    panel.set_yticks(range(len(words)), words)
    panel.set_ylim(len(words) - 0.5, -0.6)
    panel.grid(False, axis="y")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_ns(value)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("time of one append")


def _row(step: Step) -> Row:
    factor = step.factor
    less = [factor.value, factor.low, factor.high] if factor is not None else [None] * 3
    return [step.path, step.time.value, step.time.low, step.time.high, *less, step.syscalls]


def _steps(run: Run) -> list[Step]:
    found: list[Step] = []
    before = None
    for path, label, removed in _STEPS:
        measurement = run.find(f"G.{path}.batch1")
        if measurement is None or not measurement.samples:
            break
        samples = samples_per(measurement, "append")
        try:
            factor = stats.paired_ratio(before, samples, run.seed) if before is not None else None
        except ValueError:
            break
        counted = run.find(f"G.{path}.syscalls")
        calls = (
            stats.median_of_worker_medians(counted.samples)
            if counted is not None and counted.samples
            else None
        )
        found.append(Step(path, label, removed, stats.estimate(samples, run.seed), factor, calls))
        before = samples
    return found


def _draw_total(panel: Axes, position: int, time: Estimate, left: float) -> None:
    panel.barh(position, time.value - left, left=left, height=0.62, color=SERIES[0], linewidth=0)
    error = [[max(0.0, time.value - time.low)], [max(0.0, time.high - time.value)]]
    panel.errorbar([time.value], [position], xerr=error, fmt="none", ecolor=INK, capsize=3, linewidth=1)
    _write(panel, position, time.high, format_ns(time.value))


def _draw_removed(panel: Axes, position: int, before: Estimate, step: Step) -> None:
    assert step.factor is not None, "every step but the first has one before it"
    low, high = sorted((step.time.value, before.value))
    panel.barh(position, high - low, left=low, height=0.62, color=SERIES[1], alpha=0.45, linewidth=0)
    interval = format_range(step.factor.low, step.factor.high, "x")
    _write(panel, position, high, f"{significant(step.factor.value)}x [{interval}]")
    panel.vlines(before.value, position - 1, position, color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)))
    panel.vlines(step.time.value, position, position + 1, color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)))


def _write(panel: Axes, position: int, place: float, text: str) -> None:
    written = panel.annotate(
        text, (place, position), (5, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK
    )
    written.set_in_layout(False)


def _syscalls_text(steps: list[Step]) -> str:
    known = [f"{step.path} {step.syscalls:.3g}" for step in steps if step.syscalls is not None]
    return f"System calls an append: {', '.join(known)}. " if known else ""


CHAPTER = Chapter(
    order=30,
    title="Write-path generations",
    experiments=("G",),
    drawings=(
        Drawing(
            "Time of one append by write path",
            of_run(generations),
            "single appends on any write path (section G)",
        ),
        Drawing(
            "What each generation removed",
            of_run(waterfall),
            "single appends on all three generations (section G)",
        ),
    ),
    tables=(table_of_run(tables.table_g),),
)
