"""Render a stored run: report.md, a self-contained report.html, and figures with their CSV, chapter by chapter.

Reads only what is stored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cometbench import tables
from cometbench.chapter import Neighbour, Shown, Written, write_chapters
from cometbench.evaluate import evaluate_claims
from cometbench.experiment import Experiment
from cometbench.figure import Figure
from cometbench.frames import latest_runs, place_labels
from cometbench.method import method_lines
from cometbench.model import ClaimResult, Fact, Machine, Run
from cometbench.registry import load_sections
from cometbench.store import load_machine, load_run, write_atomically
from cometbench.tables import Table
from cometbench.units import DASH

SLUGS = {
    "reproduced": "reproduced",
    "exceeded": "exceeded",
    "direction only": "direction",
    "not reproduced": "failed",
    "inconclusive": "inconclusive",
    "not measured": "unmeasured",
    "arithmetic error": "arithmetic",
    "met": "reproduced",
    "missed": "failed",
}


class Notes(NamedTuple):
    """What an experiment says about itself, and what it found in this run."""

    question: str
    method: str
    limitations: str
    findings: list[str]


class SectionClaims(NamedTuple):
    """One section of the guide with the table of all its claims and how many of each verdict it got."""

    letter: str
    title: str
    about: str
    summary: str
    table: Table


class FigureData(NamedTuple):
    """A figure's CSV as a table: column names, and rows of short text."""

    columns: list[str]
    rows: list[list[str]]


def write_report(
    run_directory: Path | str, experiments: Mapping[str, Experiment] | None = None
) -> list[Path]:
    """Write report.md, report.html and figures/ into a run directory; returns the files written.

    `experiments` (by section) put question, method, limitations and finding before their figures. Runs of other machines in the same
    results tree stand in the chapter across hardware. Raises ResultsError when run.json or a machine.json is missing or invalid.
    """
    directory = Path(run_directory)
    run, machine = load_run(directory), load_machine(directory.parent)
    shown = Shown(run, machine, _neighbours(run, directory.parent.parent))
    written_chapters = write_chapters(shown, experiments or {})
    drawn = [figure for chapter in written_chapters for figure in chapter.figures]
    notes = experiment_notes(run, experiments or {})
    written: list[Path] = []
    if drawn:
        (directory / "figures").mkdir(exist_ok=True)
    for figure in drawn:
        for suffix, text in (("svg", figure.svg), ("csv", figure.csv)):
            written.append(directory / "figures" / f"{figure.name}.{suffix}")
            write_atomically(written[-1], text.encode())
    context = _context(run, machine, written_chapters, notes)
    for name, html in (("report.md", False), ("report.html", True)):
        written.append(directory / name)
        template = _environment(html=html).get_template(f"{name}.jinja")
        write_atomically(written[-1], f"{template.render(**context).rstrip()}\n".encode())
    return written


def _neighbours(run: Run, results_root: Path) -> tuple[Neighbour, ...]:
    """Return the newest run of every other machine of the tree, and of other file systems of this one."""
    place = (run.machine_id, run.environment.get("file_system"))
    newest = latest_runs(results_root, by_file_system=True)
    others = [
        one
        for one in newest
        if one.profile != "guide" and (one.machine_id, one.environment.get("file_system")) != place
    ]
    labels = place_labels(others, results_root)
    return tuple(Neighbour(one, labels[one.machine_id, one.run_id]) for one in others)


def experiment_notes(run: Run, experiments: Mapping[str, Experiment]) -> dict[str, Notes]:
    """Each experiment's own words by section; findings are computed from `run`."""
    return {
        section: Notes(one.question, one.method, one.limitations, one.finding(run))
        for section, one in experiments.items()
    }


def _environment(*, html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("cometbench"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["slug"] = lambda verdict: SLUGS.get(verdict, "none")
    environment.filters["cell"] = lambda text: text.replace("|", "\\|").replace("\n", " ")
    environment.filters["data"] = _data
    environment.filters["svg"] = lambda figure: Markup(figure.svg)
    return environment


def _context(
    run: Run, machine: Machine, chapters: list[Written], notes: Mapping[str, Notes]
) -> dict[str, Any]:
    claims = run.claims or evaluate_claims(run)
    judged = [claim for claim in claims if claim.verdict != "not measured"]
    return {
        "run": run,
        "machine": machine,
        "counts": tables.verdict_counts(claims),
        "total": len(claims),
        "judged": len(judged),
        "arithmetic": sum(claim.kind == "arithmetic" for claim in judged),
        "chapters": chapters,
        "notes": notes,
        "table_noise": tables.table_noise(run),
        "contradictions": tables.table_claims(
            [claim for claim in claims if claim.verdict == "arithmetic error"],
            "contradictions",
            "Where the guide contradicts itself",
        ),
        "sections": _sections(claims),
        "failures": _failures(run),
        "method": method_lines(run),
        "hardware": _facts(machine.hardware),
        "environment_facts": _facts(run.environment),
        "versions": sorted(run.versions.items()),
    }


def _data(figure: Figure) -> FigureData:
    columns, *rows = csv.reader(io.StringIO(figure.csv))
    return FigureData(columns, [[_short(cell) for cell in row] for row in rows])


def _short(cell: str) -> str:
    try:
        value = float(cell)
    except ValueError:
        return cell or DASH
    return cell if value.is_integer() else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _failures(run: Run) -> list[tuple[str, list[str]]]:
    """Each reason with the names of the measurements that it stopped."""
    found: dict[str, list[str]] = {}
    for measurement in run.all_measurements():
        if measurement.failure is not None:
            found.setdefault(measurement.failure, []).append(measurement.name)
    return list(found.items())


def _sections(claims: list[ClaimResult]) -> list[SectionClaims]:
    found = []
    for section in load_sections():
        own = [claim for claim in claims if claim.section == section.id]
        summary = ", ".join(f"{count} {verdict}" for verdict, count in tables.verdict_counts(own) if count)
        table = tables.table_claims(own, f"claims-{section.id.lower()}", section.title)
        found.append(SectionClaims(section.id, section.title, section.about, summary, table))
    return found


def _facts(facts: dict[str, Fact]) -> list[tuple[str, str]]:
    return [
        (key.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value))
        for key, value in facts.items()
        if value is not None
    ]
