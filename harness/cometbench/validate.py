"""The one validator of the results tree: models, names, consistency and privacy of every file."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from cometbench.guide import GUIDE_MACHINE_ID, guide_run
from cometbench.model import Run
from cometbench.store import (
    FLAME_GRAPHS,
    LATENCY_FILE,
    MACHINE_FILE,
    PRIVATE_METADATA,
    PYPERF_FILE,
    RUN_FILE,
    TUNE_FILE,
    ResultsError,
    load_latency,
    load_machine,
    load_run,
    to_json_bytes,
)
from cometbench.tune_record import TUNED_FILE, load_tune, to_toml

RUN_DIRECTORY = re.compile(r"^\d{8}T\d{6}Z-[0-9a-f]{7}-(smoke|quick|full)$")
TUNE_DIRECTORY = re.compile(r"^\d{8}T\d{6}Z-[0-9a-f]{7}-tune-(latency|throughput|storage)$")
RUN_ENTRIES = frozenset(
    {RUN_FILE, PYPERF_FILE, LATENCY_FILE, "figures", FLAME_GRAPHS, "report.md", "report.html"}
)
PRIVATE_TEXT = re.compile(r"/(?:home|root|Users)/[A-Za-z0-9._-]+|\b(?:\d{1,3}\.){3}\d{1,3}\b")
TEXT_SUFFIXES = frozenset({".json", ".md", ".html", ".csv", ".svg", ".toml", ".txt"})


class Problem(NamedTuple):
    """One thing wrong in the results tree; `place` is relative to its root."""

    place: str
    message: str


def validate_tree(results_root: Path) -> list[Problem]:
    """All problems of a results tree, in path order; empty when it is valid."""
    if not results_root.is_dir():
        return [Problem(str(results_root.name), "is not a directory")]
    problems: list[Problem] = []
    for machine_directory in sorted(results_root.iterdir()):
        if not machine_directory.is_dir():
            if machine_directory.suffix != ".md":
                problems.append(
                    Problem(machine_directory.name, "only machine folders and .md pages belong here")
                )
            continue
        problems += _machine_problems(results_root, machine_directory)
    return problems


def _machine_problems(root: Path, directory: Path) -> list[Problem]:
    place = str(directory.relative_to(root))
    problems: list[Problem] = []
    try:
        machine = load_machine(directory)
        if machine.machine_id != directory.name:
            problems.append(Problem(place, f"the folder holds machine {machine.machine_id}"))
    except ResultsError as error:
        problems.append(Problem(f"{place}/{MACHINE_FILE}", _relative(error, root)))
    for entry in sorted(directory.iterdir()):
        if entry.is_dir():
            problems += _run_problems(root, entry)
        elif entry.name != MACHINE_FILE:
            problems.append(
                Problem(f"{place}/{entry.name}", f"only {MACHINE_FILE} and run folders belong here")
            )
    return problems + _private_text(root, [directory / MACHINE_FILE])


def _run_problems(root: Path, directory: Path) -> list[Problem]:
    if (directory / TUNE_FILE).exists():
        return _tune_problems(root, directory)
    place = str(directory.relative_to(root))
    try:
        run = load_run(directory)
    except ResultsError as error:
        return [Problem(f"{place}/{RUN_FILE}", _relative(error, root))]
    messages = _identity_messages(directory, run) + _claim_messages(run)
    messages += [
        f"{entry.name} does not belong in a run"
        for entry in sorted(directory.iterdir())
        if entry.name not in RUN_ENTRIES
    ]
    problems = [Problem(place, message) for message in messages]
    problems += _latency_problems(place, directory, run)
    problems += _pyperf_problems(place, directory)
    return problems + _private_text(root, [file for file in sorted(directory.rglob("*")) if file.is_file()])


def _tune_problems(root: Path, directory: Path) -> list[Problem]:
    """Problems of a walk through the checklist: the record itself, its names, and whether its file is what the record says."""
    place = str(directory.relative_to(root))
    try:
        tune, label = load_tune(directory), load_machine(directory.parent).label
    except ResultsError as error:
        return [Problem(f"{place}/{TUNE_FILE}", _relative(error, root))]
    messages = []
    if tune.run_id != directory.name:
        messages.append(f"the folder holds tune {tune.run_id}")
    if tune.machine_id != directory.parent.name:
        messages.append(f"the tune names machine {tune.machine_id}")
    if not TUNE_DIRECTORY.match(directory.name):
        messages.append("the folder is not named <UTC time>-<commit7>-tune-<goal>")
    messages += [
        f"{entry.name} does not belong in a tune"
        for entry in sorted(directory.iterdir())
        if entry.name not in {TUNE_FILE, TUNED_FILE}
    ]
    written = directory / TUNED_FILE
    if tune.finished_utc is not None and (
        not written.exists() or written.read_text() != to_toml(tune, label)
    ):
        messages.append(f"{TUNED_FILE} is not what {TUNE_FILE} says")
    problems = [Problem(place, message) for message in messages]
    return problems + _private_text(root, [directory / TUNE_FILE, written])


def _identity_messages(directory: Path, run: Run) -> list[str]:
    messages = []
    if run.run_id != directory.name:
        messages.append(f"the folder holds run {run.run_id}")
    if run.machine_id != directory.parent.name:
        messages.append(f"the run names machine {run.machine_id}")
    if directory.parent.name == GUIDE_MACHINE_ID:
        if (directory / RUN_FILE).read_bytes() != to_json_bytes(guide_run()):
            messages.append("differs from what `cometbench guide-numbers` writes")
    elif not RUN_DIRECTORY.match(directory.name):
        messages.append("the folder is not named <UTC time>-<commit7>-<profile>")
    return messages


def _claim_messages(run: Run) -> list[str]:
    messages = []
    names = {measurement.name for measurement in run.all_measurements()}
    for claim in run.claims:
        absent = [name for name in claim.measurements if name not in names]
        if absent and claim.verdict != "not measured":
            messages.append(f"claim {claim.id} rests on {absent[0]}, which the run does not hold")
    if run.finished_utc is not None and not run.claims:
        messages.append("the run is finished but holds no claims")
    return messages


def _latency_problems(place: str, directory: Path, run: Run) -> list[Problem]:
    expected = {m.latency.key for m in run.all_measurements() if m.latency is not None and m.latency.key}
    try:
        stored = set(load_latency(directory))
    except (OSError, ValueError) as error:
        return [Problem(f"{place}/{LATENCY_FILE}", f"is not readable: {error}")]
    return [
        Problem(f"{place}/{LATENCY_FILE}", f"lacks the samples {key}") for key in sorted(expected - stored)
    ]


def _pyperf_problems(place: str, directory: Path) -> list[Problem]:
    file = directory / PYPERF_FILE
    if not file.exists():
        return []
    try:
        document: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))
    except (OSError, ValueError, EOFError) as error:
        return [Problem(f"{place}/{PYPERF_FILE}", f"is not readable: {error}")]
    holders = [document, *document.get("benchmarks", [])]
    holders += [run for benchmark in document.get("benchmarks", []) for run in benchmark.get("runs", [])]
    private = {key for holder in holders for key in PRIVATE_METADATA & holder.get("metadata", {}).keys()}
    return [Problem(f"{place}/{PYPERF_FILE}", f"holds private metadata: {key}") for key in sorted(private)]


def _private_text(root: Path, files: list[Path]) -> list[Problem]:
    """Home paths and IPv4 addresses: results are public."""
    problems = []
    for file in files:
        if file.suffix not in TEXT_SUFFIXES or not file.exists():
            continue
        found = PRIVATE_TEXT.search(file.read_text(encoding="utf-8", errors="replace"))
        if found:
            problems.append(Problem(str(file.relative_to(root)), f"holds private text: {found.group()}"))
    return problems


def _relative(error: ResultsError, root: Path) -> str:
    return str(error).replace(f"{root}/", "")
