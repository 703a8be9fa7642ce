"""Tuning: each advice of the checklist, each preset, and each pitfall, with what following it gains."""

from __future__ import annotations

from cometbench.chapter import Chapter, Drawing, Shown, of_run, table_of_run
from cometbench.plots_costs import advice_gains, preset_gains
from cometbench.tables import Table, table_section
from cometbench.tables_costs import table_gains


def _checklist(shown: Shown) -> Table:
    return table_section(shown.run, "T")


def _pitfalls(shown: Shown) -> Table:
    return table_section(shown.run, "F")


CHAPTER = Chapter(
    order=100,
    title="Pitfalls and tuning",
    experiments=("T", "F"),
    drawings=(
        Drawing("What each advice gains", of_run(advice_gains), "advice with and without (sections T and F)"),
        Drawing("Presets against the default", of_run(preset_gains), "presets beside the default (T9)"),
    ),
    tables=(table_of_run(table_gains), _checklist, _pitfalls),
)
