"""What the documents name exists: paths, sessions, commands, options, dependencies, calls."""

import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog
from cometbench.cli import build

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md")
TOP = ("engine/", "harness/", "experiments/", "tests/", "results/", "notebooks/", ".ci/")
TEST_COMMAND = "python3 -m venv .venv && .venv/bin/pip install -q nox && .venv/bin/nox -s tests"
GUIDE_COMMAND = TEST_COMMAND.removesuffix("tests") + "guide"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_words(text: str) -> set[str]:
    """Return what stands in backquotes, and the lines of shell blocks."""
    spans = set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text))
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return spans | {line for block in blocks for line in block.splitlines()}


def sessions() -> list[str]:
    listing = subprocess.run(
        [sys.executable, "-m", "nox", "-f", str(ROOT / "noxfile.py"), "-l"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    return re.findall(r"^[*-] (\w+) -> \S", listing, re.MULTILINE)


def requirements() -> Iterator[tuple[str, str]]:
    """Yield name and range of every dependency that the two pyproject files list."""
    for name in ("pyproject.toml", "harness/pyproject.toml"):
        project = tomllib.loads(read(name))
        groups = [
            project["build-system"]["requires"], project["project"]["dependencies"],
            *project["project"].get("optional-dependencies", {}).values(), *project.get("dependency-groups", {}).values(),
        ]  # fmt: skip
        listed = dict.fromkeys(one for group in groups for one in group if isinstance(one, str))
        for requirement in listed:
            package = re.match(r"[\w.-]+", requirement)
            assert package is not None
            yield package[0], requirement.removeprefix(package[0])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_named_in_documents_exist(document: str) -> None:
    text = read(document)
    links = {target.partition("#")[0] for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text)}
    paths = {
        word.split(":")[0]
        for word in code_words(text)
        if word.startswith(TOP) and not set("<*{ ") & set(word)
    }
    named = links | paths
    assert [name for name in sorted(named - {""}) if not (ROOT / name).exists()] == []


def test_contributing_lists_the_sessions_that_there_are() -> None:
    rows = re.findall(r"^\| `nox -s (\w+)` \|", read("CONTRIBUTING.md"), re.MULTILINE)
    assert rows == sessions()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_sessions_named_in_documents_exist(document: str) -> None:
    named = re.findall(r"\bnox -s ((?:\w+ )*\w+)", read(document))
    assert {name for run in named for name in run.split()} <= set(sessions())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_harness_commands_named_in_documents_exist(document: str) -> None:
    commands = build().commands
    named = {
        words for word in code_words(read(document)) for words in re.findall(r"cometbench ([a-z-]+)", word)
    }
    assert named <= set(commands)
    passed = {option for word in code_words(read(document)) for option in re.findall(r" (--[a-z]+)\b", word)
              if re.search(r"nox -s (guide|suite)|cometbench run", word)}  # fmt: skip
    known = {option for parameter in commands["run"].params for option in parameter.opts}
    assert passed <= known


def test_the_page_on_measuring_lists_every_harness_command_and_names_no_other() -> None:
    page, commands = read("docs/how-to/measuring.md"), build().commands
    rows = re.findall(r"^\| (`[a-z`, -]+`) \|", page, re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`([a-z-]+)`", row)]
    assert sorted(listed) == sorted(commands)
    assert {name for word in code_words(page) for name in re.findall(r"cometbench ([a-z-]+)", word)} <= set(
        commands
    )
    with_json = {
        name for name, command in commands.items() for option in command.params if "--json" in option.opts
    }
    said = page.rpartition("`--json` prints data")[2].partition(". ")[0]
    assert set(re.findall(r"`([a-z]+)`", said)) == with_json


def test_links_of_the_how_to_pages_lead_somewhere() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == [], page.name


def test_the_two_commands_stand_on_the_first_screen_word_for_word() -> None:
    first_screen = read("README.md").splitlines()[:40]
    assert GUIDE_COMMAND in first_screen
    assert TEST_COMMAND in first_screen


def test_continuous_integration_runs_the_test_command_word_for_word() -> None:
    lines = [line.strip() for line in read(".ci/run").splitlines()]
    assert TEST_COMMAND in lines
    run = re.findall(r"\.venv/bin/nox -s (\w+)", read(".ci/run"))
    assert sorted(run) == ["alternatives", "bench_smoke", "crash", "debug", "forward", "lint", "tests"]
    assert "nox -s tests crash lint debug bench_smoke alternatives forward" in code_words(
        read("CONTRIBUTING.md")
    )


def test_the_dependency_table_lists_what_the_projects_list() -> None:
    rows = re.findall(
        r"^\| ([\w-]+) \| `([^`]+)` \| [^|]+ \| [^|]+ \|$", read("CONTRIBUTING.md"), re.MULTILINE
    )
    assert sorted(rows) == sorted(requirements())


def test_calls_in_the_api_overview_have_the_signatures_shown() -> None:
    overview = read("README.md").partition("## The API on one screen")[2].partition("```\n")[0]
    owners = {"cometlog": cometlog, "client": cometlog.Client, "writer": cometlog.Writer}
    calls = re.findall(r"\b(cometlog|client|writer)\.(\w+)\(([^)]*)\)", overview)
    assert {(owner, name) for owner, name, _ in calls} >= {
        ("cometlog", "open"),
        ("client", "append"),
        ("writer", "extend"),
    }
    for owner, name, shown in calls:
        parameters = inspect.signature(getattr(owners[owner], name)).parameters.values()
        actual = [p.replace(annotation=p.empty) for p in parameters if p.name != "self"]
        if any(p.kind is p.KEYWORD_ONLY for p in actual):
            first = next(index for index, p in enumerate(actual) if p.kind is p.KEYWORD_ONLY)
            written = [*map(str, actual[:first]), "*", *map(str, actual[first:])]
        else:
            written = list(map(str, actual))
        assert ", ".join(written).replace("'", '"') == shown, f"{owner}.{name}"


def test_bad_use_of_the_suite_session_says_what_is_missing() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "nox", "-f", str(ROOT / "noxfile.py"), "--no-venv", "-s", "suite"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "suite needs the sections to run, for example: nox -s suite -- Q G" in ran.stderr


def test_what_survives_what_holds_the_counts_of_the_recorded_runs() -> None:
    page = read("docs/what-survives-what.md")
    written = re.search(
        r"<!-- recorded counts: begin .*?-->\n(.*)<!-- recorded counts: end -->", page, re.DOTALL
    )
    printed = subprocess.run(
        [sys.executable, str(ROOT / "tests/crash/survival.py")],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert written is not None
    assert written[1] == printed
