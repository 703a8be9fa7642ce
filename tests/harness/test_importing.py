"""Results from elsewhere: validated before anything is copied, and nothing here is ever overwritten."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import made_up
from cometbench import cli
from cometbench.evaluate import evaluate_claims
from cometbench.importing import import_results
from cometbench.store import ResultsError, RunStore
from cometbench.validate import validate_tree


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A machine's folder with one finished run, as another checkout holds it."""
    store = RunStore.create(tmp_path / "theirs", made_up.MACHINE, "quick", commit="0" * 40, dirty=False, seed=1,
                            started_utc="2025-01-31T12:00:00Z")  # fmt: skip
    store.put([made_up.measurement("Q.batch1.mmap.processes1", 100.0)])
    store.finish(evaluate_claims(store.run))
    return tmp_path / "theirs" / made_up.MACHINE.machine_id


def pack(folder: Path, kind: str, target: Path) -> Path:
    return Path(shutil.make_archive(str(target), kind, folder.parent, folder.name))


@pytest.mark.parametrize("kind", ["folder", "tree", "gztar", "zip"])
def test_a_folder_or_an_archive_is_taken_in_once(foreign: Path, kind: str, tmp_path: Path):
    ours = tmp_path / "ours"
    source = {"folder": foreign, "tree": foreign.parent}.get(kind) or pack(foreign, kind, tmp_path / "packed")
    (run,) = import_results(source, ours)
    assert run == ours / foreign.name / "20250131T120000Z-0000000-quick"
    assert validate_tree(ours) == []
    assert import_results(source, ours) == []
    assert [path.name for path in (ours / foreign.name).iterdir() if path.name.startswith(".")] == []


def test_a_run_that_differs_from_the_one_here_is_refused(foreign: Path, tmp_path: Path):
    ours = tmp_path / "ours"
    (run,) = import_results(foreign, ours)
    kept = (run / "run.json").read_bytes()
    (foreign / run.name / "report.md").write_text("another report\n")
    with pytest.raises(ResultsError, match="is here already and differs"):
        import_results(foreign, ours)
    assert (run / "run.json").read_bytes() == kept
    assert not (run / "report.md").exists()


def test_what_does_not_validate_is_named_and_nothing_is_copied(foreign: Path, tmp_path: Path):
    ours = tmp_path / "ours"
    (foreign / "20250131T120000Z-0000000-quick" / "notes.txt").write_text("mine")
    with pytest.raises(ResultsError, match=r"notes\.txt does not belong in a run"):
        import_results(foreign, ours)
    assert not ours.exists()


def test_no_results_no_archive_and_hostile_archives_are_refused(foreign: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match=r"holds no machine\.json"):
        import_results(tmp_path / "empty", tmp_path / "ours")
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(ResultsError, match="is no archive: give a machine's folder"):
        import_results(tmp_path / "text", tmp_path / "ours")
    with tarfile.open(tmp_path / "escape.tar", "w") as archive:
        archive.add(foreign / "machine.json", arcname="../../escaped.json")
    with pytest.raises(ResultsError, match="cannot be unpacked"):
        import_results(tmp_path / "escape.tar", tmp_path / "ours")
    with zipfile.ZipFile(tmp_path / "big.zip", "w") as zipped:
        zipped.write(foreign / "machine.json", "m/machine.json")
    monkeypatch.setattr("cometbench.importing._UNPACKED_BYTES_MAX", 10)
    with pytest.raises(ResultsError, match="at most 10 are taken"):
        import_results(tmp_path / "big.zip", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_the_command_prints_the_new_runs(foreign: Path, tmp_path: Path):
    done = CliRunner().invoke(cli.build(), ["import", str(foreign), "--results", str(tmp_path / "ours")])
    assert done.exit_code == 0
    assert done.output.strip().endswith("20250131T120000Z-0000000-quick")
