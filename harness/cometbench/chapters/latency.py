"""Latency under load: response time by percentile, and its p99 as the load grows."""

from __future__ import annotations

from cometbench.chapter import Chapter, Drawing, Shown, of_run
from cometbench.plots_latency import p99_by_load, percentile_curve
from cometbench.tables import Table
from cometbench.tables_latency import table_latency


def _table(shown: Shown) -> Table:
    return table_latency(shown.run.measurements)


CHAPTER = Chapter(
    order=50,
    title="Latency under load",
    experiments=("S",),
    drawings=(
        Drawing(
            "Response time by percentile",
            of_run(percentile_curve),
            "appends under open-loop load (section S)",
        ),
        Drawing(
            "p99 response time against load", of_run(p99_by_load), "appends under open-loop load (section S)"
        ),
    ),
    tables=(_table,),
)
