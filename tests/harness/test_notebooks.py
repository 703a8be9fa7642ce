"""The committed notebooks: executed again they print the same tables; they read results and time nothing."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import nbformat
import pytest

import cometlog
from cometbench.errors import CometbenchError
from cometbench.frames import latest_tunes
from cometbench.notebooks import execute, notebooks_of, tables_of
from cometbench.tune_record import GOALS, TUNED_FILE
from cometbench.tuning import CHECKLIST

CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOKS = notebooks_of(CHECKOUT)
# Of the engine a notebook may load a configuration and no more.
TIMING = re.compile(
    r"\b(time|timeit|perf_counter|pyperf)\b|%%?time|\bcometlog\.(?!Config\b)\w+|\bfrom cometlog\b|\bimport cometlog(?=[ .,])"
)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_executed_again_the_tables_are_the_committed_ones(notebook):
    committed = nbformat.read(notebook, as_version=4)
    assert tables_of(execute(notebook)) == tables_of(committed), "run: nox -s notebooks -- --write"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_names_its_runs_shows_a_figure_and_holds_no_timing_code(notebook):
    book = nbformat.read(notebook, as_version=4)
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    assert not [found for source in code for found in TIMING.findall(source)]
    shown = "\n".join(tables_of(book))
    runs = re.findall(r"\d{8}T\d{6}Z-[0-9a-f]{7}-(?:quick|full|tune-\w+)", shown)
    assert runs
    assert all(list((CHECKOUT / "results").glob(f"*/{run}/*.json")) for run in runs)
    figures = [o for cell in book.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert figures
    assert str(CHECKOUT) not in notebook.read_text()


def test_the_notebooks_of_the_project_are_there():
    assert {path.stem for path in NOTEBOOKS} >= {"generations", "batch-size", "across-hardware", "tuning"}


@pytest.mark.parametrize(
    ("source", "held"),
    [
        ("import cometlog\n\ncometlog.Config.load(file)", False),
        ("import cometlog\nclient = cometlog.open(place)", True),
        ("from cometlog import open", True),
        ("import cometlog as log", True),
        ("import time", True),
        ("%timeit append()", True),
    ],
)
def test_of_the_engine_a_notebook_loads_a_configuration_and_no_more(source, held):
    assert bool(TIMING.search(source)) is held


def test_the_walk_through_the_checklist_shows_every_step_and_loads_what_it_wrote():
    book = nbformat.read(CHECKOUT / "notebooks" / "tuning.ipynb", as_version=4)
    shown = "\n".join(tables_of(book))
    for line in CHECKLIST:
        assert line.setting in shown
    walks = latest_tunes(CHECKOUT / "experiments" / "example_payload.jsonl", CHECKOUT / "results")
    assert {walk.goal for walk in walks} == set(GOALS)
    assert all(walk.run_id in shown for walk in walks)
    assert f"{len(walks)} files loaded" in shown
    for walk in walks:
        file = CHECKOUT / "results" / walk.machine_id / walk.run_id / TUNED_FILE
        loaded = dataclasses.asdict(cometlog.Config.load(file))
        fields = {name: value for name, value in walk.settings.items() if "." in name}
        assert {name: loaded[name.partition(".")[0]][name.partition(".")[2]] for name in fields} == fields


def test_a_cell_that_fails_and_a_table_that_changed_are_noticed(tmp_path):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('one')")])
    (tmp_path / "notebooks").mkdir()
    place = tmp_path / "notebooks" / "made-up.ipynb"
    nbformat.write(book, place)
    assert tables_of(execute(place)) == ["one\n"] != tables_of(book)
    book.cells[0].source = "raise ValueError('no such run')"
    nbformat.write(book, place)
    with pytest.raises(CometbenchError, match=r"made-up\.ipynb: [^$]*no such run"):
        execute(place)
    shutil.rmtree(tmp_path / "notebooks")
    assert notebooks_of(tmp_path) == []
