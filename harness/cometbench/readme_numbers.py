"""The numbers in README.md: a block between two markers, written from one run and checked against it."""

from __future__ import annotations

from pathlib import Path

from cometbench import tables
from cometbench.errors import CometbenchError
from cometbench.model import Machine, Run
from cometbench.store import load_machine, load_run, write_atomically
from cometbench.tables import BATCHES, MULTI_READINGS, SINGLE_READINGS, Table
from cometbench.units import DASH, format_measured

BEGIN = "<!-- cometbench numbers: begin (written by `cometbench readme-numbers`, do not edit) -->"
END = "<!-- cometbench numbers: end -->"


class MarkersError(CometbenchError):
    """The file does not hold both markers once each and in order; the message names them."""


def numbers_block(run: Run, machine: Machine) -> str:
    """Return the Markdown between the markers: origin, tables Q and G in short, goals, verdict counts."""
    place = f"results/{machine.machine_id}/{run.run_id}"
    system = run.environment.get("file_system") or "file system unknown"
    changes = " with local changes" if run.dirty else ""
    parts = [
        f"Measured on {machine.label} ({system}), profile {run.profile}, "
        f"commit `{run.commit[:7]}`{changes}. Run [`{run.run_id}`]({place}/report.md) holds intervals, "
        "raw values and every claim.",
        f"Time of one append call by batch size, guide beside measured (medians over worker processes{_entry_sizes(run)}):",
        _markdown(_short_q(run)),
        "One entry per append, by write path:",
        _markdown(
            _columns(
                tables.table_g(run),
                [
                    "path",
                    "guide",
                    "measured",
                    "guide ratio",
                    "ratio",
                    "p50",
                    "p99",
                    "syscalls",
                    "survives",
                    "verdict",
                ],
            )
        ),
        "Goals of this project, ratios within the run:",
        _markdown(
            _columns(tables.table_goals(run), ["case", "goal", "measured", "95 % interval", "verdict"])
        ),
        _verdict_sentence(run),
    ]
    return "\n\n".join(part for part in parts if part)


def replace_block(document: str, block: str) -> str:
    """`document` with what stands between the markers replaced by `block`. Raises MarkersError."""
    begin, end = document.find(BEGIN), document.find(END)
    if begin < 0 or end < begin or document.count(BEGIN) != 1 or document.count(END) != 1:
        raise MarkersError(f"the document must hold, once each and in this order: {BEGIN} and {END}")
    return f"{document[: begin + len(BEGIN)]}\n{block}\n{document[end:]}"


def update_readme(readme: Path, run_directory: Path, *, check: bool) -> bool:
    """Bring `readme` in line with the run; returns whether it already was.

    With `check` nothing is written.
    """
    run, machine = load_run(run_directory), load_machine(run_directory.parent)
    before = readme.read_text(encoding="utf-8")
    after = replace_block(before, numbers_block(run, machine))
    if not check and after != before:
        write_atomically(readme, after.encode())
    return after == before


def _entry_sizes(run: Run) -> str:
    """Say how long the entries of one process and of many are, which differ; nothing where the run does not hold both."""
    said = []
    for reading, who in (("mmap.processes1", "one process"), ("mmap.processes2", "many")):
        found = [run.find(f"Q.batch{batch}.{reading}") for _, batch in BATCHES]
        sizes = [
            float(one.extra["entry_bytes_mean"]) for one in found if one and "entry_bytes_mean" in one.extra
        ]
        if not sizes:
            return ""
        low, high = f"{min(sizes):.0f}", f"{max(sizes):.0f}"
        said.append(f"{who} {low if low == high else f'{low} to {high}'}")
    return f"; bytes of an entry: {', '.join(said)}"


def _short_q(run: Run) -> Table:
    columns = [
        "batch",
        "guide, one process",
        *(label for _, label in SINGLE_READINGS),
        "guide, many processes",
        *(label for _, label in MULTI_READINGS),
    ]
    rows = []
    for claim_id, batch in BATCHES:
        row = [f"{batch:,}"]
        for check, readings in (("single", SINGLE_READINGS), ("multi", MULTI_READINGS)):
            claims = [run.claim(f"{claim_id}.{check}.{reading}") for reading, _ in readings]
            first = claims[0]
            row.append(first.guide.partition(" (")[0] if first is not None else DASH)
            row += [format_measured(claim) if claim is not None else DASH for claim in claims]
        rows.append(row)
    return Table("q_short", "", columns, rows)


def _columns(table: Table, wanted: list[str]) -> Table:
    indexes = [table.columns.index(column) for column in wanted]
    return table._replace(columns=wanted, rows=[[row[index] for index in indexes] for row in table.rows])


def _markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _verdict_sentence(run: Run) -> str:
    counts = [f"{count} {verdict}" for verdict, count in tables.verdict_counts(run.claims) if count]
    if not counts:
        return ""
    alone = sum(claim.kind == "arithmetic" for claim in run.claims)
    return (
        f"Of {len(run.claims)} checks of the guide's numbers, {alone} by arithmetic on the guide alone: "
        f"{', '.join(counts)}."
    )
