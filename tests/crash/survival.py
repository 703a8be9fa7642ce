"""Print what survives what, with the counts of the recorded runs; ``--write`` puts the table into the page (``nox -s survival``).

A recorded run is a file in ``tests/crash/recorded``, written by ``nox -s crash -- --record FILE``, ``nox -s forward -- --record FILE``
or, for the fuzzer, ``nox -s fuzz -- --record FILE``. A row names test files, or single tests as ``FILE::TEST``.
"""

import argparse
import json
import re
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
GUARANTEES = Path(__file__).with_name("guarantees.toml")
RECORDED = Path(__file__).with_name("recorded")
PAGE = ROOT / "docs" / "what-survives-what.md"
BEGIN = "<!-- recorded counts: begin (written by `nox -s survival -- --write`, do not edit) -->"
END = "<!-- recorded counts: end -->"


@dataclass
class Shown:
    """What recorded runs show for one row: tests by outcome, counts, and the commits that ran."""

    outcomes: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    reasons: set[str] = field(default_factory=set)


def recorded_runs() -> list[dict[str, Any]]:
    """Return the recorded runs of the fault suites, oldest first."""
    runs = [json.loads(path.read_text()) for path in sorted(RECORDED.glob("*.json"))]
    return sorted((run for run in runs if "tests" in run), key=lambda run: str(run["started"]))


def fuzz_runs() -> list[dict[str, Any]]:
    """Return the targets of recorded runs of the fuzzer."""
    runs = [json.loads(path.read_text()) for path in sorted(RECORDED.glob("*.json"))]
    return [target for run in runs for target in run.get("targets", [])]


def shown_for(tests: list[str], runs: list[dict[str, Any]]) -> Shown:
    """Add up what the runs say of some test files, or of single tests."""
    shown = Shown()
    for run in runs:
        for name, test in run["tests"].items():
            single = name.rpartition("/")[2]
            if single in tests or single.partition("::")[0] in tests:
                shown.outcomes[test["outcome"]] += 1
                shown.counts.update(test["counts"])
                if "reason" in test:
                    shown.reasons.add(test["reason"])
    return shown


def figures(counts: Counter[str]) -> str:
    """Return counts as words, the larger first."""
    return ", ".join(
        f"{amount:,} {name.replace('_', ' ')}" for name, amount in counts.most_common() if amount
    )


def outcome_text(shown: Shown) -> str:
    """Return how many tests passed, and what else became of the rest."""
    if not shown.outcomes:
        return "not recorded"
    rest = [f"{amount} {outcome}" for outcome, amount in shown.outcomes.items() if outcome != "passed"]
    return ", ".join([f"{shown.outcomes['passed']} passed", *rest])


def lines_of_the_table() -> list[str]:
    """Return the generated part of the page."""
    runs = recorded_runs()
    rows = tomllib.loads(GUARANTEES.read_text())["row"]
    lines = ["| event | promise | tests | outcome | counted |", "|---|---|---|---|---|"]
    for row in rows:
        shown = shown_for(row["tests"], runs)
        tests = ", ".join(f"`{name}`" for name in row["tests"])
        lines.append(
            f"| {row['event']} | {row['promise']} | {tests} | {outcome_text(shown)} | {figures(shown.counts) or '-'} |"
        )
    fuzzed = fuzz_runs()
    if fuzzed:
        lines += ["", "Fuzzing, the kernel under AddressSanitizer and UndefinedBehaviorSanitizer:", ""]
        lines += ["| parser | executions | seconds | crashes | seed |", "|---|---|---|---|---|"]
        lines += [
            f"| {target['target']} | {target['executions']:,} | {target['seconds']:g} | {target['crashes']} | {target['seed']} |"
            for target in fuzzed
        ]
    lines += ["", "Recorded runs:", ""]
    lines += [
        f"- {run['started']}, tier {run['tier']}, commit `{run['commit']}`, Linux {run['kernel']} on {run['machine']}, "
        f"{len(run['tests'])} tests"
        for run in runs
    ]
    return lines


def page_with(lines: list[str], page: str) -> str:
    """Return the page with the generated part replaced."""
    block = "\n".join([BEGIN, *lines, END])
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: block, page, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(prog="nox -s survival --", description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    lines = lines_of_the_table()
    if options.write:
        PAGE.write_text(page_with(lines, PAGE.read_text()))
        print(f"written to {PAGE.relative_to(ROOT)}")
    else:
        print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
