"""Reports of made-up runs: complete, in order, self-contained, and honest about what is missing."""

from __future__ import annotations

import csv
import functools
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
from cometbench.chapter import Shown, load_chapters, write_chapters
from cometbench.chapters.across_hardware import in_multiples_of_probes
from cometbench.console import print_run
from cometbench.evaluate import evaluate_claims
from cometbench.experiment import Experiment, load_experiments
from cometbench.figure import Figure
from cometbench.method import method_lines
from cometbench.model import ROUNDS_TAKEN, Run
from cometbench.plots import generations
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


def _generations_only(workers: int = 5) -> Run:
    return made_up.run([*made_up.section_g(workers), *made_up.control(workers=workers)])


@functools.cache
def drawn() -> dict[str, Figure]:
    """Every figure of the run that has them all, by name."""
    return {figure.name: figure for figure in figures(made_up.run_with_every_figure())}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the written report of the run that has every figure; tests only read it."""
    stored = _stored(tmp_path_factory.mktemp("results"), made_up.run_with_every_figure())
    known = load_experiments(ROOT)
    write_report(stored, {section: known[section] for section in ("Q", "G", "S")})
    return stored


def figures(run: Run) -> list[Figure]:
    chapters = write_chapters(Shown(run, made_up.MACHINE), {})
    return [figure for chapter in chapters for figure in chapter.figures]


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


FIGURES = (
    "batch-curve",
    "multi-single-ratio",
    "generations",
    "waterfall",
    "compression-cost",
    "percentiles",
    "p99-by-load",
    "time-budgets",
    "alternatives",
    "processes",
    "allocations",
    "advice-gains",
    "preset-gains",
    "across-probes",
    "across-ratios",
)


def test_a_report_has_both_forms_and_a_csv_behind_every_figure(directory: Path) -> None:
    written = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert written == {
        RUN_FILE,
        "report.md",
        "report.html",
        *(f"figures/{name}.{suffix}" for name in FIGURES for suffix in ("svg", "csv")),
    }


def test_figures_stand_in_reading_order_in_both_forms(directory: Path) -> None:
    text, page = (directory / "report.md").read_text(), (directory / "report.html").read_text()
    assert re.findall(r"\]\(figures/([a-z0-9-]+)\.svg\)", text) == list(FIGURES)
    assert re.findall(r'<figure id="figure-([a-z0-9-]+)">', page) == list(FIGURES)
    assert page.count("Data of this figure") == len(FIGURES)


def test_the_page_needs_nothing_from_outside_and_nests(directory: Path) -> None:
    page = _Page((directory / "report.html").read_text())
    assert page.open == []
    assert not [
        a for a in page.attributes if a[1] in {"src", "href", "xlink:href"} and not a[2].startswith("#")
    ]
    assert not [a for a in page.attributes if a[0] == "script"]
    assert ("meta", "name", "viewport") in page.attributes
    assert "prefers-color-scheme: dark" in (directory / "report.html").read_text()


def test_the_report_reads_verdicts_first_and_limits_last(directory: Path) -> None:
    headings = re.findall(r"^## (.+)$", (directory / "report.md").read_text(), re.MULTILINE)
    assert headings == [
        "Batch sizes",
        "One process against many",
        "Write-path generations",
        "Compression",
        "Latency under load",
        "Where the time goes",
        "Against alternatives",
        "Throughput against processes",
        "Memory",
        "Pitfalls and tuning",
        "Profiles, recipes and races",
        "Beyond the guide",
        "Goals, and what the machine charges",
        "Across hardware",
        "Every claim of the guide",
        "Noise",
        "Limits and method",
    ]
    html = (directory / "report.html").read_text()
    places = [html.index(f">{heading}</h2>") for heading in headings]
    assert places == sorted(places)
    assert "28 of them by arithmetic on the guide's own numbers alone" in html
    assert html.index('class="strip"') < places[0]


def test_every_claim_and_every_reason_stands_in_both_forms(directory: Path) -> None:
    claims = evaluate_claims(made_up.run_with_every_figure())
    for name in ("report.md", "report.html"):
        text = (directory / name).read_text()
        for claim in claims:
            assert claim.id in text
        assert "C.profiles.recipe_orders_stored is not part of this run" in text
        assert "needs a machine with macOS" in text


def test_an_experiments_own_words_stand_before_its_figure(directory: Path) -> None:
    experiments = load_experiments(ROOT)
    text = (directory / "report.md").read_text()
    for section, figure in (("Q", "batch-curve"), ("G", "generations"), ("S", "percentiles")):
        assert text.index(experiments[section].question) < text.index(f"figures/{figure}.svg")
        assert experiments[section].limitations in text


def test_figures_are_wellformed_follow_the_page_colours_and_name_n() -> None:
    for figure in drawn().values():
        ElementTree.fromstring(figure.svg)
        assert "var(--ink, #" in figure.svg
        assert not re.search(r"#0[1-5]0[1-5]0[1-6]", figure.svg)
        assert "n = 5" in figure.caption
        assert "#000000" not in figure.svg


def test_figures_are_the_same_for_the_same_run() -> None:
    assert generations(made_up.run_with_every_figure()) == drawn()["generations"]


def test_the_batch_curve_csv_holds_every_reading_with_its_interval() -> None:
    curve = drawn()["batch-curve"]
    rows = list(csv.DictReader(StringIO(curve.csv)))
    assert len(rows) == 5 * (2 + 4) + 5 * 2
    single = next(r for r in rows if r["series"] == "mmap" and r["batch"] == "1000")
    assert float(single["ns_per_entry"]) == pytest.approx(22.09)
    assert float(single["low"]) < float(single["ns_per_entry"]) < float(single["high"])
    published = [
        float(r["ns_per_entry"]) for r in rows if r["series"] == "guide" and r["panel"] == "one process"
    ]
    assert published == [1700, 270, 90, 112, 54.8]


def test_a_run_with_nothing_in_it_still_reports_and_says_why_each_figure_is_missing(tmp_path: Path) -> None:
    directory = _stored(tmp_path, made_up.run(with_floors=False))
    assert {path.name for path in write_report(directory)} == {"report.md", "report.html"}
    for name in ("report.md", "report.html"):
        text = (directory / name).read_text()
        assert "is not part of this run" in text
        assert text.count("is not drawn: this run holds no ") == len(FIGURES)
    assert (
        "What compression costs and saves is not drawn: this run holds no compressed appends (section C)."
        in text
    )


def test_an_experiment_that_no_chapter_names_has_one_with_its_words_and_measurements(tmp_path: Path) -> None:
    extra = Experiment(
        "Z", "Own question", "Does it sing?", "By ear.", "One ear.", (), lambda _: ["It hums."]
    )
    run = made_up.run([made_up.measurement("Z.loud.batch1", 1234.0, experiment="Z")])
    directory = _stored(tmp_path, run)
    write_report(directory, {"Z": extra})
    text = (directory / "report.md").read_text()
    assert text.index("## Across hardware") < text.index("## Own question") < text.index("Does it sing?")
    assert text.index("It hums.") < text.index("| Z.loud.batch1 | 1.23 µs") < text.index("## Every claim")


def test_chapters_have_their_own_places_and_titles() -> None:
    chapters = load_chapters()
    assert len(chapters) == 14
    assert [one.order for one in chapters] == sorted({one.order for one in chapters})
    assert len({one.title for one in chapters}) == len(chapters)
    claimed = [section for one in chapters for section in one.experiments]
    assert len(claimed) == len(set(claimed))
    assert set(load_experiments(ROOT)) - set(claimed) == set()


def test_the_waterfall_names_what_each_generation_removed_with_its_interval() -> None:
    waterfall = drawn()["waterfall"]
    rows = list(csv.DictReader(StringIO(waterfall.csv)))
    assert [row["path"] for row in rows] == ["sync", "async", "mmap"]
    assert float(rows[1]["times_less"]) == pytest.approx(900 / 240)
    assert float(rows[2]["times_less"]) == pytest.approx(240e3 / 112)
    assert "System calls an append: sync 9, async 5, mmap 0." in waterfall.caption


def test_throughput_counts_all_writers_together() -> None:
    processes = drawn()["processes"]
    rows = list(csv.DictReader(StringIO(processes.csv)))
    four = next(row for row in rows if row["batch"] == "100" and row["processes"] == "4")
    assert float(four["entries_per_second"]) == pytest.approx(4 * 100 / (330 + 48 * 100) * 1e9)
    assert len([row for row in rows if row["processes"] == ""]) == 5


def test_alternatives_are_apart_by_what_survives_and_never_in_one_panel() -> None:
    figure = drawn()["alternatives"]
    rows = list(csv.DictReader(StringIO(figure.csv)))
    assert [row["durability"] for row in rows] == [
        "lost_on_kill",
        "survives_process_crash",
        "survives_process_crash",
        "survives_power_loss",
        "survives_power_loss",
    ]
    assert figure.svg.count("an entry survives: ") == 3


def test_other_machines_of_the_tree_stand_beside_this_one_and_the_guide_by_its_ratios(tmp_path: Path) -> None:
    here = _stored(tmp_path, _generations_only())
    slower = [
        one.model_copy(update={"samples": made_up.samples(2 * one.samples[0].values[0])})
        for one in _generations_only().measurements
    ]
    other = _generations_only().model_copy(update={"measurements": slower, "machine_id": "made-up-elsewhere"})
    elsewhere = _stored(tmp_path, other)
    machine = made_up.MACHINE.model_copy(update={"machine_id": "made-up-elsewhere", "label": "Elsewhere"})
    write_atomically(elsewhere.parent / MACHINE_FILE, to_json_bytes(machine))
    in_memory = [one.model_copy(update={"file_system": "tmpfs"}) for one in _generations_only().measurements]
    _stored(
        tmp_path,
        _generations_only().model_copy(
            update={
                "measurements": in_memory, "environment": {"file_system": "tmpfs"}, "run_id": "20250131T130000Z-0123abc-quick",
            }
        ),
    )  # fmt: skip
    write_report(here)
    rows = list(csv.DictReader(StringIO((here / "figures" / "across-probes.csv").read_text())))
    assert {row["machine"] for row in rows} == {
        "Made-up machine, ext4",
        "Made-up machine, tmpfs",
        "Elsewhere, ext4",
    }
    assert "On tmpfs a sync reaches no disk" in (here / "report.md").read_text()
    synced = {row["machine"]: float(row["multiple"]) for row in rows if row["append"] == "G.sync.batch1"}
    assert synced["Made-up machine, ext4"] == pytest.approx(900e3 / 180e3)
    assert synced["Elsewhere, ext4"] == pytest.approx(2 * synced["Made-up machine, ext4"])
    ratios = list(csv.DictReader(StringIO((here / "figures" / "across-ratios.csv").read_text())))
    guide = {row["ratio"]: float(row["value"]) for row in ratios if row["run"] == "published"}
    assert guide["sync / mmap"] == pytest.approx(7.6e6 / 33e3)


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


def test_a_copy_of_the_same_bytes_is_what_a_mapped_batch_is_measured_against() -> None:
    batch = made_up.measurement("Q.batch1000.mmap.processes1", 22_000.0, batch=1000)
    figure = in_multiples_of_probes(Shown(made_up.run([batch]), made_up.MACHINE))
    assert figure is not None
    (row,) = csv.DictReader(StringIO(figure.csv))
    assert row["probe"] == "floor.memcpy_hot"
    assert float(row["multiple"]) == pytest.approx(22_000 / (1000 * 105 / 11))


def test_a_reason_that_stopped_many_measurements_stands_once(tmp_path: Path) -> None:
    stopped = [
        made_up.measurement(f"X.part.value{number}", 1.0, experiment="X").model_copy(
            update={"failure": "no such device", "samples": []}
        )
        for number in range(7)
    ]
    directory = _stored(tmp_path, made_up.run(stopped))
    write_report(directory)
    for name in ("report.md", "report.html"):
        listed = (
            (directory / name).read_text().partition("Failures</h2>" if "html" in name else "## Failures")[2]
        )
        listed = listed.partition("Batch sizes")[0]
        assert listed.count("no such device") == 1
        assert "X.part.value3" in listed
        assert "X.part.value4" not in listed
        assert "and 3 more" in listed


def test_few_workers_are_shown_as_such(tmp_path: Path) -> None:
    directory = _stored(tmp_path, _generations_only(workers=1))
    write_report(directory)
    assert "1 paired round: nothing is known about the noise" in (directory / "report.md").read_text()


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"holds no run\.json: a run is a folder results/"):
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
    directory = _stored(tmp_path, _generations_only())
    outcome = CliRunner().invoke(cli.build(), ["report", str(directory)])
    assert outcome.exit_code == 0, outcome.output
    assert (directory / "report.html").exists()
    assert "Write-path generations" in outcome.output


def test_the_method_tells_the_rounds_of_each_section_and_what_forking_changes():
    run = made_up.run(
        [*made_up.control(), made_up.measurement("control.fresh.1", 80.0, experiment="control")]
    )
    lines = " ".join(
        method_lines(run.model_copy(update={"environment": {ROUNDS_TAKEN: ["Q: 9 of 20 rounds"]}}))
    )
    assert "Rounds, as many as fit the profile's time: Q: 9 of 20 rounds." in lines
    assert "The same appends in a started process are 1.25x [1.25" in lines
    assert "Rounds, as many" not in " ".join(method_lines(made_up.run()))
