"""The project's own goals, and what the machine charges for the least that an append must do."""

from __future__ import annotations

from cometbench import tables
from cometbench.chapter import Chapter, table_of_run

CHAPTER = Chapter(
    order=130,
    title="Goals, and what the machine charges",
    experiments=("goals", "floors"),
    tables=(table_of_run(tables.table_goals), table_of_run(tables.table_floors)),
)
