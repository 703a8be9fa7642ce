"""Reports of made-up runs: complete, in order, self-contained, and honest about what is missing."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from rich.console import Console

import made_up
from cometbench import cli
from cometbench.console import print_run
from cometbench.evaluate import evaluate_claims
from cometbench.experiment import load_experiments
from cometbench.model import Run
from cometbench.plots import figures
from cometbench.report import write_report
from cometbench.store import MACHINE_FILE, RUN_FILE, ResultsError, to_json_bytes, write_atomically

VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})
ROOT = Path(__file__).parents[2]


def _stored(root: Path, run: Run) -> Path:
    directory = root / run.machine_id / run.run_id
    directory.mkdir(parents=True)
    judged = run.model_copy(update={"claims": evaluate_claims(run)})
    write_atomically(directory / RUN_FILE, to_json_bytes(judged))
    write_atomically(directory.parent / MACHINE_FILE, to_json_bytes(made_up.MACHINE))
    return directory


class _Page(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_has_both_forms_and_a_csv_behind_every_figure(tmp_path: Path) -> None:
    directory = _stored(tmp_path, made_up.whole_run())
    written = {str(path.relative_to(directory)) for path in write_report(directory)}
    names = ("batch-curve", "multi-single-ratio", "generations")
    assert written == {
        "report.md",
        "report.html",
        *(f"figures/{n}.{s}" for n in names for s in ("svg", "csv")),
    }


def test_the_page_needs_nothing_from_outside_and_nests(tmp_path: Path) -> None:
    directory = _stored(tmp_path, made_up.whole_run())
    write_report(directory)
    page = _Page((directory / "report.html").read_text())
    assert page.open == []
    assert not [
        a for a in page.attributes if a[1] in {"src", "href", "xlink:href"} and not a[2].startswith("#")
    ]
    assert not [a for a in page.attributes if a[0] == "script"]
    assert ("meta", "name", "viewport") in page.attributes
    assert "prefers-color-scheme: dark" in (directory / "report.html").read_text()


def test_the_report_reads_verdicts_first_and_limits_last(tmp_path: Path) -> None:
    directory = _stored(tmp_path, made_up.whole_run())
    write_report(directory)
    headings = re.findall(r"^## (.+)$", (directory / "report.md").read_text(), re.MULTILINE)
    assert headings == [
        "Batch sizes",
        "One process against many",
        "Write-path generations",
        "Goals, and what the machine charges",
        "Every claim of the guide",
        "Noise",
        "Limits and method",
    ]
    html = (directory / "report.html").read_text()
    places = [html.index(f"<h2>{heading}</h2>") for heading in headings]
    assert places == sorted(places)
    assert "28 of them by arithmetic on the guide's own numbers alone" in html
    assert html.index('class="strip"') < places[0]


def test_every_claim_and_every_reason_stands_in_both_forms(tmp_path: Path) -> None:
    directory = _stored(tmp_path, made_up.whole_run())
    write_report(directory)
    for name in ("report.md", "report.html"):
        text = (directory / name).read_text()
        for claim in evaluate_claims(made_up.whole_run()):
            assert claim.id in text
        assert "the compression experiment (section C) is not part of the harness yet" in text


def test_an_experiments_own_words_stand_before_its_figure(tmp_path: Path) -> None:
    directory = _stored(tmp_path, made_up.whole_run())
    experiments = load_experiments(ROOT)
    write_report(directory, experiments)
    text = (directory / "report.md").read_text()
    for section, figure in (("Q", "batch-curve"), ("G", "generations")):
        assert text.index(experiments[section].question) < text.index(f"figures/{figure}.svg")
        assert experiments[section].limitations in text


def test_figures_are_wellformed_follow_the_page_colours_and_name_n() -> None:
    for figure in figures(made_up.whole_run()):
        ElementTree.fromstring(figure.svg)
        assert "var(--ink, #" in figure.svg
        assert not re.search(r"#0[1-5]0[1-5]0[1-6]", figure.svg)
        assert "n = 5" in figure.caption
        assert "#000000" not in figure.svg


def test_figures_are_the_same_for_the_same_run() -> None:
    assert figures(made_up.whole_run()) == figures(made_up.whole_run())


def test_the_batch_curve_csv_holds_every_reading_with_its_interval() -> None:
    curve = next(figure for figure in figures(made_up.whole_run()) if figure.name == "batch-curve")
    rows = list(csv.DictReader(StringIO(curve.csv)))
    assert len(rows) == 5 * (2 + 4) + 5 * 2
    single = next(r for r in rows if r["series"] == "mmap" and r["batch"] == "1000")
    assert float(single["ns_per_entry"]) == pytest.approx(22.09)
    assert float(single["low"]) < float(single["ns_per_entry"]) < float(single["high"])
    published = [
        float(r["ns_per_entry"]) for r in rows if r["series"] == "guide" and r["panel"] == "one process"
    ]
    assert published == [1700, 270, 90, 112, 54.8]


def test_a_run_with_nothing_in_it_still_reports_and_draws_no_empty_figure(tmp_path: Path) -> None:
    directory = _stored(tmp_path, made_up.run(with_floors=False))
    assert {path.name for path in write_report(directory)} == {"report.md", "report.html"}
    assert "is not part of this run" in (directory / "report.md").read_text()


def test_failures_and_interruption_are_said_at_the_top(tmp_path: Path) -> None:
    broken = made_up.measurement("Q.batch1.mmap.processes1", 1.0).model_copy(
        update={"failure": "verification failed: entry 17 <lost>", "samples": []}
    )
    run = made_up.run([broken]).model_copy(update={"finished_utc": None})
    directory = _stored(tmp_path, run)
    write_report(directory)
    text, page = (directory / "report.md").read_text(), (directory / "report.html").read_text()
    assert text.index("This run was interrupted") < text.index("## Failures") < text.index("## Batch sizes")
    assert "entry 17 <lost>" in text
    assert "entry 17 &lt;lost&gt;" in page
    assert "<lost>" not in page


def test_few_workers_are_shown_as_such(tmp_path: Path) -> None:
    directory = _stored(tmp_path, made_up.whole_run(workers=1))
    write_report(directory)
    assert "1 paired round: nothing is known about the noise" in (directory / "report.md").read_text()


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="does not exist"):
        write_report(tmp_path)


def test_the_console_prints_guide_measured_interval_verdict_of_q_and_g_and_the_goals() -> None:
    run = made_up.whole_run()
    run = run.model_copy(update={"claims": evaluate_claims(run)})
    console = Console(file=StringIO(), width=200, force_terminal=False)
    print_run(run, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(
        r"10,000 +mmap, 8 writers +2\.0 ms \(0\.20 µs/entry\) +961 µs +941.980 µs .+ exceeded", text
    )
    assert re.search(r"G1 sync +7\.6 ms +900 µs +882.918 µs +4,470x +577x", text)
    assert re.search(r"writer\.append\) against|client\.append\(stream, \[entry\]\) +<= 2\.00x|missed", text)
    assert "fdatasync 128" in text
    assert "arithmetic error 11" in text


def test_the_report_command_renders_a_stored_run_again(tmp_path: Path) -> None:
    directory = _stored(tmp_path, made_up.whole_run())
    outcome = CliRunner().invoke(cli.build(), ["report", str(directory)])
    assert outcome.exit_code == 0, outcome.output
    assert (directory / "report.html").exists()
    assert "Write-path generations" in outcome.output
