"""Batch sizes: time per entry against the size of a batch."""

from __future__ import annotations

from cometbench import tables
from cometbench.chapter import Chapter, Drawing, of_run, table_of_run
from cometbench.plots import batch_curve

CHAPTER = Chapter(
    order=10,
    title="Batch sizes",
    experiments=("Q",),
    drawings=(
        Drawing(
            "Time per entry against batch size", of_run(batch_curve), "appends of any batch size (section Q)"
        ),
    ),
    tables=(table_of_run(tables.table_q), table_of_run(tables.table_q_gains)),
)
