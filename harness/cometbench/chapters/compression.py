"""Compression: how much slower an append gets against how many bytes it saves."""

from __future__ import annotations

from cometbench.chapter import Chapter, Drawing, Shown, of_run, table_of_run
from cometbench.plots_costs import compression_cost
from cometbench.tables import Table, table_section
from cometbench.tables_costs import table_c


def _claims(shown: Shown) -> Table:
    return table_section(shown.run, "C")


CHAPTER = Chapter(
    order=40,
    title="Compression",
    experiments=("C",),
    drawings=(
        Drawing(
            "What compression costs and saves", of_run(compression_cost), "compressed appends (section C)"
        ),
    ),
    tables=(table_of_run(table_c), _claims),
)
