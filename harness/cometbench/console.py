"""Tables on the terminal: colour where there is one, plain lines where not."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from cometbench import tables, tables_costs
from cometbench.alternatives import table_a
from cometbench.model import Run
from cometbench.tables import Table
from cometbench.tables_latency import table_latency

PLAIN_WIDTH = 170
STYLES = {
    "reproduced": "green",
    "exceeded": "bold green",
    "direction only": "yellow",
    "not reproduced": "bold red",
    "inconclusive": "magenta",
    "not measured": "dim",
    "arithmetic error": "bold red",
    "met": "green",
    "missed": "bold red",
}


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that keeps whole tables on one line each when the output is not a terminal."""
    probe = Console(stderr=stderr)
    return probe if probe.is_terminal else Console(stderr=stderr, width=PLAIN_WIDTH, highlight=False)


def print_run(run: Run, console: Console) -> None:
    """Verdict counts, tables Q, G and A, latency under load, what things cost, goals and floors."""
    counts = tables.verdict_counts(run.claims)
    line = Text("Verdicts: ")
    for verdict, count in counts:
        line.append(f"{verdict} {count}", STYLES[verdict] if count else "dim")
        line.append("  ")
    for table in (
        tables.table_q(run),
        tables.table_q_gains(run),
        tables.table_g(run),
        table_latency(run.measurements),
        tables_costs.table_c(run),
        tables_costs.table_gains(run),
        tables_costs.table_allocations(run),
        tables_costs.table_resident(run),
        table_a(run),
        tables.table_goals(run),
        tables.table_floors(run),
    ):
        if table.rows:
            print_table(table, console)
    console.print(line)


def print_table(table: Table, console: Console) -> None:
    """One table with its title and note."""
    drawn = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        drawn.add_column(column, overflow="fold")
    for row in table.rows:
        cells = [
            Text(cell, STYLES.get(cell, "")) if index == table.verdict_column else Text(cell)
            for index, cell in enumerate(row)
        ]
        drawn.add_row(*cells)
    console.print(drawn)
    if table.note:
        console.print(Text(table.note, "dim"))
        console.print()
