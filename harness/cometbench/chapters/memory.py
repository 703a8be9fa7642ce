"""Memory: allocations of a call by batch size, what index, buffers and a typical deployment hold, and huge pages."""

from __future__ import annotations

from cometbench.chapter import Chapter, Drawing, Shown, of_run, table_of_run
from cometbench.plots_costs import allocations
from cometbench.tables import Table, table_section
from cometbench.tables_costs import table_allocations, table_resident


def _claims(shown: Shown) -> Table:
    return table_section(shown.run, "M")


CHAPTER = Chapter(
    order=90,
    title="Memory",
    experiments=("M",),
    drawings=(Drawing("Allocations of an append", of_run(allocations), "counts of allocations (section M)"),),
    tables=(table_of_run(table_allocations), table_of_run(table_resident), _claims),
)
