"""Break the engine on purpose, one edit at a time, and see that the test named for it fails (``nox -s mutants``).

``tests/mutants.toml`` lists the edits. Each is made in a copy of the tree, whose kernel is compiled anew where it changed; first every
test named must pass without any edit. A mutant is caught when its test runs and fails; a build that fails, a test that is
skipped or missing, and a test that passes are all survivors.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).with_name("mutants.toml")
WORK = ROOT / "build" / "mutants"
COPIED = (
    "engine",
    "harness",
    "experiments",
    "tests",
    "results",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
)
TEST_SECONDS_MAX = 300
PYTEST_FAILED = 1
SURVIVORS = 1


@dataclass(frozen=True)
class Mutant:
    """One edit: ``old`` stands once in ``file`` and becomes ``new``; ``test`` must fail. ``steps``: it runs the debug build too."""

    name: str
    kind: str
    file: str
    old: str
    new: str
    test: str
    steps: bool = False


def load() -> list[Mutant]:
    """Return the mutants in the order of the file."""
    return [Mutant(**entry) for entry in tomllib.loads(LIST.read_text())["mutant"]]


class Tree:
    """A copy of the project whose kernel is compiled in place; ``debug``: with assertions and numbered steps."""

    def __init__(self, name: str, *, debug: bool) -> None:
        self.path = WORK / name
        self._environment = os.environ | {"COMETLOG_DEBUG": "1" if debug else "0"}
        self.path.mkdir(parents=True, exist_ok=True)
        for item in COPIED:
            self._copy(ROOT / item, self.path / item)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        """Copy what differs, so that a kernel compiled by an earlier run stays good; what was deleted is not looked for."""
        files = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
        for file in files:
            if file.suffix == ".so" or "__pycache__" in file.parts:
                continue
            copy = target / file.relative_to(source) if source.is_dir() else target
            if not copy.exists() or copy.read_bytes() != file.read_bytes():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)

    def write(self, file: str, text: str) -> None:
        """Replace a source file, newer than whatever was compiled from it."""
        (self.path / file).write_text(text)

    def compile(self) -> subprocess.CompletedProcess[str]:
        """Compile what changed of the kernel."""
        return subprocess.run(
            [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
            cwd=self.path, env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


def run_test(test: str, tree: Tree, steps: Tree | None) -> tuple[int, str]:
    """Run one test in the tree; return pytest's exit code and its output."""
    environment = os.environ | {"PYTHONPATH": str(tree.path / "engine"), "PYTHONDONTWRITEBYTECODE": "1"}
    if steps is not None:
        environment["COMETLOG_STEPS_PACKAGE"] = str(steps.path / "engine")
    options = ["-q", "-x", "-p", "no:cacheprovider", "--timeout", str(TEST_SECONDS_MAX)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", test, *options],
        cwd=tree.path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    passed_nothing = done.returncode == 0 and " passed" not in done.stdout
    return (5 if passed_nothing else done.returncode), done.stdout + done.stderr


class Run:
    """The trees of one run and what became of each mutant."""

    def __init__(self, mutants: list[Mutant]) -> None:
        self._mutants = mutants
        self._tree = Tree("ordinary", debug=False)
        self._steps = Tree("steps", debug=True) if any(mutant.steps for mutant in mutants) else None
        self._trees = [tree for tree in (self._tree, self._steps) if tree is not None]

    def _compile(self, kernel_file: str | None = None) -> str:
        """Compile the trees; return what the compiler said where it failed. ``None`` compiles whatever changed."""
        if kernel_file is not None and not kernel_file.startswith("engine/cometlog/kernel/"):
            return ""
        for tree in self._trees:
            done = tree.compile()
            if done.returncode:
                return done.stdout + done.stderr
        return ""

    def without_edits(self) -> list[str]:
        """Compile everything and return the tests that do not pass as they stand."""
        problem = self._compile()
        if problem:
            sys.exit(f"the tree does not compile without any edit:\n{problem}")
        failing = []
        for test in dict.fromkeys(mutant.test for mutant in self._mutants):
            code, output = run_test(test, self._tree, self._steps)
            say("passes" if code == 0 else "FAILS", f"without any edit: {test}")
            if code:
                print(output)
                failing.append(test)
        return failing

    def judge(self, mutant: Mutant) -> bool:
        """Make the edit, run the test, take the edit back; return whether the test failed."""
        original = (ROOT / mutant.file).read_text()
        started = time.monotonic()
        for tree in self._trees:
            tree.write(mutant.file, original.replace(mutant.old, mutant.new))
        try:
            problem = self._compile(mutant.file)
            code, output = (None, problem) if problem else run_test(mutant.test, self._tree, self._steps)
        finally:
            for tree in self._trees:
                tree.write(mutant.file, original)
            self._compile(mutant.file)
        caught = code == PYTEST_FAILED
        seconds = time.monotonic() - started
        say(
            "caught" if caught else "SURVIVED",
            f"{mutant.name} ({mutant.kind}): {mutant.test}, {seconds:.0f} s",
        )
        if not caught:
            print(output)
        return caught


def say(verdict: str, what: str) -> None:
    """Print one line of progress at once."""
    print(f"{verdict:>8}  {what}", flush=True)


def main(arguments: list[str]) -> int:
    """Judge the mutants that are named, or all; return 0 where every one was caught."""
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="*", help="mutants to try (default: all); part of a name is enough")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = parser.parse_args(arguments)
    wanted = [m for m in load() if not options.name or any(part in m.name for part in options.name)]
    if not wanted:
        parser.error(f"no mutant has {' or '.join(options.name)!r} in its name; --list shows them")
    if options.list:
        for mutant in wanted:
            print(f"{mutant.name} ({mutant.kind}): {mutant.file}, caught by {mutant.test}")
        return 0
    run = Run(wanted)
    if run.without_edits():
        return SURVIVORS
    survivors = [mutant.name for mutant in wanted if not run.judge(mutant)]
    print(f"{len(wanted) - len(survivors)} of {len(wanted)} mutants caught")
    return SURVIVORS if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
