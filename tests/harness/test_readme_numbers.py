"""The README's numbers are written from a run and checked against it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import made_up
from cometbench import cli
from cometbench.evaluate import evaluate_claims
from cometbench.readme_numbers import BEGIN, END, MarkersError, replace_block, update_readme
from cometbench.store import MACHINE_FILE, RUN_FILE, to_json_bytes, write_atomically

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    run = made_up.whole_run()
    directory = tmp_path / run.machine_id / run.run_id
    directory.mkdir(parents=True)
    write_atomically(
        directory / RUN_FILE, to_json_bytes(run.model_copy(update={"claims": evaluate_claims(run)}))
    )
    write_atomically(directory.parent / MACHINE_FILE, to_json_bytes(made_up.MACHINE))
    return directory


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    return path


def _invoke(run_directory: Path, readme: Path, *options: str) -> Result:
    return CliRunner().invoke(
        cli.build(), ["readme-numbers", str(run_directory), "--readme", str(readme), *options]
    )


def test_check_fails_until_written_and_again_after_an_edit(run_directory: Path, readme: Path) -> None:
    before = readme.read_text()
    assert _invoke(run_directory, readme, "--check").exit_code == 1
    assert readme.read_text() == before
    assert _invoke(run_directory, readme).exit_code == 0
    assert _invoke(run_directory, readme, "--check").exit_code == 0
    readme.write_text(readme.read_text().replace("1.56 µs", "1.46 µs"))
    assert _invoke(run_directory, readme, "--check").exit_code == 1


def test_only_the_block_changes_and_it_names_its_run(run_directory: Path, readme: Path) -> None:
    assert update_readme(readme, run_directory, check=False) is False
    text = readme.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\nMeasured on Made-up machine (ext4), profile quick")
    assert text.endswith(f"{END}\n\nafter\n")
    assert f"(results/made-up-0123abcd/{run_directory.name}/report.md)" in text
    assert "| 1,000 | 112 µs | 61.5 µs | 22.1 µs | 170 µs | 22.1 µs | 25.2 µs | 48.3 µs | 96.7 µs |" in text
    assert "checks of the guide's numbers, 28 by arithmetic on the guide alone: " in text
    assert "| G1 sync | 7.6 ms | 900 µs | 4,470x | 577x |" in text


def test_the_readme_holds_the_numbers_of_the_run_that_it_names() -> None:
    readme = ROOT / "README.md"
    (name,) = re.findall(r"\(results/([^)]+)/report\.md\) holds", readme.read_text())
    assert update_readme(readme, ROOT / "results" / name, check=True)


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_document_without_one_pair_of_markers_is_refused(text: str) -> None:
    with pytest.raises(MarkersError, match="once each"):
        replace_block(text, "block")


def test_the_command_names_missing_markers(run_directory: Path, readme: Path) -> None:
    readme.write_text("# no markers\n")
    outcome = _invoke(run_directory, readme)
    assert outcome.exit_code == 1
    assert outcome.output.startswith("Error: the document must hold, once each")
    assert readme.read_text() == "# no markers\n"
