"""The arm64 tests are prepared without nox, so what they need is read from pyproject.toml by hand: here it is held against it."""

import runpy
from pathlib import Path

PREPARE = Path(__file__).parent / "arm64" / "prepare.py"


def test_requirements_are_names_that_pip_takes_and_nox_is_not_among_them() -> None:
    names = {requirement.split(">")[0] for requirement in runpy.run_path(str(PREPARE))["needed"]()}
    assert {"zstandard", "pytest", "hypothesis"} <= names
    assert not any(name.startswith("nox") for name in names)
