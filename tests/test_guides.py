"""Every Python block of the tutorial and of the how-to pages runs, in order, in an empty directory; so does every shell session.

A session is a block of `$ command` lines, each followed by what it prints to standard output and error, where `...` is anything.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "```python" in path.read_text())

SHELL_PAGES = sorted(path for path in DOCS.rglob("*.md") if "```console" in path.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    program = tmp_path / "page.py"
    program.write_text("\n\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONWARNINGS": "error",
    }
    ran = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("page", SHELL_PAGES, ids=lambda page: page.stem)
def test_the_shell_sessions_of_a_page_print_what_it_says(page: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("cometlog", "-m cometlog "), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module}"$@"\n')
        (programs / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        for session in re.findall(r"^\$ .*\n(?:(?!\$ ).*\n)*", block, re.MULTILINE):
            command, _, expected = session[2:].partition("\n")
            ran = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, timeout=60, check=False,
            )  # fmt: skip
            pattern = re.escape(expected).replace(re.escape("..."), ".*")
            assert re.fullmatch(pattern, ran.stdout), f"{command}\n{ran.stdout}"


def test_there_are_pages() -> None:
    assert {page.stem for page in PAGES} >= {
        "tutorial",
        "prefork-server",
        "log-shipping",
        "monitoring",
        "retention",
        "tuning",
    }
    assert "command-line" in {page.stem for page in SHELL_PAGES}
