"""The list of mutants is true: each edit can be made, and the test that must catch it exists."""

import ast
from collections import Counter
from pathlib import Path

from mutants import Mutant, load

ROOT = Path(__file__).parent.parent
MUTANTS_MIN = 12


def functions_of(file: str) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.FunctionDef)
    }


def problem_of(mutant: Mutant) -> str | None:
    """Say why a mutant could not be judged, or None."""
    found = (ROOT / mutant.file).read_text().count(mutant.old)
    file, _, test = mutant.test.partition("::")
    if found != 1:
        return f"the text to replace stands {found} times in {mutant.file}"
    if mutant.new == mutant.old:
        return "the edit changes nothing"
    if not (ROOT / file).is_file() or test.partition("[")[0] not in functions_of(file):
        return f"there is no {mutant.test}"
    return None


def test_every_edit_can_be_made_and_its_test_exists() -> None:
    assert {mutant.name: problem for mutant in load() if (problem := problem_of(mutant)) is not None} == {}


def test_names_are_unique_and_there_are_enough_of_every_kind() -> None:
    names = Counter(mutant.name for mutant in load())
    assert [name for name, times in names.items() if times > 1] == []
    assert len(names) >= MUTANTS_MIN
    assert {"fence", "CAS", "sync", "bounds check", "order"} <= {mutant.kind for mutant in load()}
