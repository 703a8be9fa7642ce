"""Render a stored run: report.md, a self-contained report.html, and figures with their CSV.

Reads only what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cometbench import tables
from cometbench.evaluate import evaluate_claims
from cometbench.experiment import Experiment
from cometbench.figure import Figure
from cometbench.method import method_lines
from cometbench.model import ClaimResult, Fact, Machine, Run
from cometbench.plots import figures
from cometbench.registry import load_sections
from cometbench.store import load_machine, load_run, write_atomically
from cometbench.tables import Table

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


def write_report(
    run_directory: Path | str, experiments: Mapping[str, Experiment] | None = None
) -> list[Path]:
    """Write report.md, report.html and figures/ into a run directory; returns the files written.

    `experiments` (by section) put question, method, limitations and finding before their figures. Raises
    ResultsError when run.json or the machine's machine.json is missing or invalid.
    """
    directory = Path(run_directory)
    run, machine = load_run(directory), load_machine(directory.parent)
    drawn = figures(run)
    notes = experiment_notes(run, experiments or {})
    written: list[Path] = []
    if drawn:
        (directory / "figures").mkdir(exist_ok=True)
    for figure in drawn:
        for suffix, text in (("svg", figure.svg), ("csv", figure.csv)):
            written.append(directory / "figures" / f"{figure.name}.{suffix}")
            write_atomically(written[-1], text.encode())
    for name, text in (
        ("report.md", render_markdown(run, machine, drawn, notes)),
        ("report.html", render_html(run, machine, drawn, notes)),
    ):
        written.append(directory / name)
        write_atomically(written[-1], text.encode())
    return written


def experiment_notes(run: Run, experiments: Mapping[str, Experiment]) -> dict[str, Notes]:
    """Each experiment's own words by section; findings are computed from `run`."""
    return {
        section: Notes(one.question, one.method, one.limitations, one.finding(run))
        for section, one in experiments.items()
    }


def render_markdown(run: Run, machine: Machine, drawn: list[Figure], notes: Mapping[str, Notes]) -> str:
    """Return the report as Markdown; figures are links into figures/."""
    text = (
        _environment(html=False)
        .get_template("report.md.jinja")
        .render(**_context(run, machine, drawn, notes))
    )
    return text.rstrip() + "\n"


def render_html(run: Run, machine: Machine, drawn: list[Figure], notes: Mapping[str, Notes]) -> str:
    """Return the report as one HTML file that needs no other: styles and figures inside, no script."""
    text = (
        _environment(html=True)
        .get_template("report.html.jinja")
        .render(**_context(run, machine, drawn, notes))
    )
    return text.rstrip() + "\n"


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
    environment.filters["svg"] = lambda figure: Markup(figure.svg)
    return environment


def _context(run: Run, machine: Machine, drawn: list[Figure], notes: Mapping[str, Notes]) -> dict[str, Any]:
    claims = run.claims or evaluate_claims(run)
    by_name = {figure.name: figure for figure in drawn}
    judged = [claim for claim in claims if claim.verdict != "not measured"]
    return {
        "run": run,
        "machine": machine,
        "counts": tables.verdict_counts(claims),
        "total": len(claims),
        "judged": len(judged),
        "arithmetic": sum(claim.kind == "arithmetic" for claim in judged),
        "figures": by_name,
        "notes": notes,
        "table_q": tables.table_q(run),
        "table_q_gains": tables.table_q_gains(run),
        "table_g": tables.table_g(run),
        "table_goals": tables.table_goals(run),
        "table_floors": tables.table_floors(run),
        "table_noise": tables.table_noise(run),
        "contradictions": tables.table_claims(
            [claim for claim in claims if claim.verdict == "arithmetic error"],
            "contradictions",
            "Where the guide contradicts itself",
        ),
        "sections": _sections(claims),
        "failures": [m for m in run.all_measurements() if m.failure is not None],
        "method": method_lines(run),
        "hardware": _facts(machine.hardware),
        "environment_facts": _facts(run.environment),
        "versions": sorted(run.versions.items()),
    }


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
