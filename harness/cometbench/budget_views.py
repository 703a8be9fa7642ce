"""Time budgets as a reader sees them: stacked bars with py-spy's shares as dots, and the table and CSV behind them."""

from __future__ import annotations

import re
from typing import NamedTuple

from matplotlib.axes import Axes

from cometbench.figure import INK, MUTED, SERIES, Figure, axes, canvas, n_text, to_csv, to_svg
from cometbench.model import Run
from cometbench.profiling.agreement import BIAS, value_in
from cometbench.profiling.time_budget import CLASSES
from cometbench.tables import Table
from cometbench.units import DASH, format_ns

_ENDING = "_user"
_PROBE = "Y."
# From the left: what a profiler of stacks sees as system calls, then what it sees as code of the process, then neither.
_STACKED = (
    ("syscalls", "kernel, system calls", SERIES[0], 1.0),
    ("blocked", "blocked", SERIES[0], 0.4),
    ("faults", "kernel, page faults", SERIES[1], 1.0),
    ("user", "user", SERIES[2], 1.0),
    ("run_queue", "waiting for a CPU", MUTED, 0.4),
)


class ShownBudget(NamedTuple):
    """One work: percent of wall time by class, ns per entry, and py-spy's share of system calls with half its interval."""

    work: str
    file_system: str
    percent: dict[str, float]
    ns_per_entry: float
    py_spy: float | None
    half_width: float

    @property
    def label(self) -> str:
        """The work's name as words."""
        words = re.sub(r"(?<=[a-z])(?=\d)", " ", self.work.replace("_", " "))
        return f"{words}, {self.file_system}"


def shown_budgets(run: Run) -> list[ShownBudget]:
    """All budgets of a run, in the order measured; the same work on the same file system once."""
    found: dict[tuple[str, str], ShownBudget] = {}
    for measurement in run.measurements:
        if measurement.experiment != "Y" or not measurement.name.endswith(_ENDING) or not measurement.samples:
            continue
        prefix = measurement.name.removesuffix(_ENDING)
        work = prefix.rpartition(".")[2]
        shares, ns_per_entry = class_shares(run, prefix), value_in(run, f"{prefix}_ns")
        if ns_per_entry is None or shares is None:
            continue
        profile = run.find(f"{_PROBE}py_spy_{work}.in_syscalls")
        beside = profile is not None and profile.samples and profile.file_system == measurement.file_system
        found.setdefault(
            (work, measurement.file_system),
            ShownBudget(
                work,
                measurement.file_system,
                shares,
                ns_per_entry,
                value_in(run, profile.name) if beside and profile is not None else None,
                float(profile.extra.get("half_width_points", 0.0)) if beside and profile is not None else 0.0,
            ),
        )
    return list(found.values())


def class_shares(run: Run, prefix: str) -> dict[str, float] | None:
    """Percent of wall time by class, the run queue being what is left of the stored ones; None where they are not all there."""
    stored = {name: value_in(run, f"{prefix}_{name}") for name in CLASSES if name != "run_queue"}
    shares = {name: share for name, share in stored.items() if share is not None}
    return (
        {**shares, "run_queue": max(100 - sum(shares.values()), 0.0)} if len(shares) == len(stored) else None
    )


def table_budgets(run: Run) -> Table:
    """Return the five classes of every work beside py-spy's share."""
    rows = [
        [
            budget.label,
            *(f"{budget.percent[name]:.0f} %" for name in CLASSES),
            format_ns(budget.ns_per_entry),
            DASH
            if budget.py_spy is None
            else f"{budget.py_spy:.0f} % \N{PLUS-MINUS SIGN} {budget.half_width:.0f}",
        ]
        for budget in shown_budgets(run)
    ]
    return Table(
        "budgets",
        "Y. Where the hot thread's time goes",
        ["work", *(name.replace("_", " ") for name in CLASSES), "per entry", "in syscalls by py-spy"],
        rows,
        f"Percent of wall time by the kernel's accounts; per entry without the run queue. {_bias(run)}",
    )


def time_budgets(run: Run) -> Figure | None:
    """Stacked bars of every work; a dot where py-spy puts the end of the time in system calls."""
    budgets = shown_budgets(run)
    if not budgets:
        return None
    figure = canvas(5.4, 1.2 + 0.24 * len(budgets))
    panel = axes(figure, 1, 1, 1)
    for position, budget in enumerate(budgets):
        _draw(panel, position, budget)
    panel.set_ylim(len(budgets) - 0.4, -0.6)
    panel.set_yticks(range(len(budgets)), [budget.label for budget in budgets], fontsize=8.5)
    panel.set_xlim(0, 100)
    panel.grid(False, axis="y")
    panel.set_xlabel("percent of the hot thread's wall time")
    panel.legend(
        loc="lower left", bbox_to_anchor=(-0.2, 1.0), ncols=2, fontsize=8.5, frameon=False, handlelength=1.2
    )
    systems = ", ".join(sorted({budget.file_system for budget in budgets}))
    rounds = n_text([len(m.samples) for m in run.measurements if m.name.endswith(_ENDING) and m.samples])
    description = (
        "Stacked bars of where the hot thread's time goes, one bar for each work, py-spy's share as a dot"
    )
    caption = (
        "Blue, full and pale, is time in system calls, running and blocked. Dots: where py-spy puts its end, with the 95 % interval "
        f"of its samples; they should lie where blue ends. {_bias(run)} File systems: {systems}. Medians of rounds ({rounds})."
    )
    return Figure(
        "time-budgets",
        "Time budgets by work",
        to_svg(figure, description),
        _csv(budgets),
        caption,
        description,
    )


def flame_graphs(run: Run) -> list[str]:
    """Names of the run's flame graphs, without ending."""
    return [
        measurement.name.removesuffix(".in_syscalls") for measurement in run.measurements
        if measurement.subject == "py-spy" and measurement.name.endswith(".in_syscalls")
        and not measurement.name.endswith(".rusage_in_syscalls") and measurement.samples
    ]  # fmt: skip


def _draw(panel: Axes, position: int, budget: ShownBudget) -> None:
    left = 0.0
    for name, title, color, opacity in _STACKED:
        width = budget.percent[name]
        panel.barh(
            position, width, left=left, height=0.72, color=color, alpha=opacity, linewidth=0,
            label=title if position == 0 else None,
        )  # fmt: skip
        left += width
    if budget.py_spy is not None:
        # py-spy's share is of the time without the run queue, the bar of the whole
        scale = (100 - budget.percent["run_queue"]) / 100
        panel.errorbar(
            [budget.py_spy * scale], [position], xerr=[[budget.half_width * scale]] * 2,
            fmt="o", color=INK, markersize=4, capsize=2, linewidth=1,
        )  # fmt: skip


def _bias(run: Run) -> str:
    bias = value_in(run, BIAS)
    if bias is None:
        calibrator = run.find(BIAS)
        reason = calibrator.failure if calibrator is not None else "the run holds no calibrator"
        return f"py-spy's bias is not known: {reason}."
    return f"py-spy's largest bias on loops of known shares: {bias:+.1f} points."


def _csv(budgets: list[ShownBudget]) -> str:
    columns = [
        "work",
        "file_system",
        *(f"{name}_percent" for name in CLASSES),
        "ns_per_entry",
        "py_spy_percent",
        "half_width",
    ]
    rows: list[list[str | float | int | None]] = [
        [
            budget.work,
            budget.file_system,
            *(budget.percent[name] for name in CLASSES),
            budget.ns_per_entry,
            budget.py_spy,
            budget.half_width if budget.py_spy is not None else None,
        ]
        for budget in budgets
    ]
    return to_csv(columns, rows)
