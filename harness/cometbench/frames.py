"""The results tree as pandas frames, for notebooks and for questions that the report does not ask.

Reads only what is stored. Every row names its machine and run, so that a table made from these frames can say where it comes from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from cometbench import stats
from cometbench.checkout import find_checkout
from cometbench.model import MEMORY_FILE_SYSTEMS, Measurement, Run
from cometbench.payload import use_payload
from cometbench.store import RUN_FILE, TUNE_FILE, load_machine, load_run
from cometbench.tune_record import GOALS, Tune, load_tune, show_setting


def results_root(start: Path | None = None) -> Path:
    """Return the results folder of the checkout around `start` (here). Raises CheckoutNotFoundError."""
    return find_checkout(start or Path.cwd()) / "results"


def load_runs(
    root: Path | None = None, *, profiles: tuple[str, ...] = ("quick", "full", "guide")
) -> list[Run]:
    """Return the stored runs of these profiles, by machine, then by time. Raises ResultsError naming a file that is invalid."""
    files = sorted((root or results_root()).glob(f"*/*/{RUN_FILE}"))
    return [run for run in map(load_run, files) if run.profile in profiles]


def latest_runs(root: Path | None = None, *, by_file_system: bool = False) -> list[Run]:
    """Return one run a machine (with `by_file_system`, one for each file system of it): the newest finished one, full before quick.

    A run in memory stands for a machine only where there is none on a disk; one of sections without the guide's first table stands
    for none. The guide's own numbers are a machine too.
    """
    newest: dict[tuple[str, object], Run] = {}
    for run in load_runs(root):
        if (run.finished_utc is None and run.profile != "guide") or not _stands_for_its_machine(run):
            continue
        place = (run.machine_id, run.environment.get("file_system") if by_file_system else None)
        kept = newest.get(place)
        if kept is None or _standing(run) >= _standing(kept):
            newest[place] = run
    return list(newest.values())


def _stands_for_its_machine(run: Run) -> bool:
    sections = run.environment.get("sections")
    return not isinstance(sections, list) or "Q" in sections


def _standing(run: Run) -> tuple[bool, bool, str]:
    in_memory = run.environment.get("file_system") in MEMORY_FILE_SYSTEMS
    return not in_memory, run.profile == "full", run.started_utc


def machine_labels(root: Path | None = None) -> dict[str, str]:
    """Return the label of every machine by its id, no two alike: machines of one make have a part of the id behind it."""
    machines = [
        load_machine(folder) for folder in sorted((root or results_root()).iterdir()) if folder.is_dir()
    ]
    often = Counter(machine.label for machine in machines)
    return {
        machine.machine_id: machine.label
        if often[machine.label] == 1
        else f"{machine.label} ({machine.machine_id.removeprefix('m-')[:4]})"
        for machine in machines
    }


def place_labels(runs: Sequence[Run], root: Path | None = None) -> dict[tuple[str, str], str]:
    """Return what a reader calls the machine and the file system of each run, by machine id and run id."""
    labels = machine_labels(root)
    return {
        (run.machine_id, run.run_id): ", ".join(
            filter(None, (labels[run.machine_id], str(run.environment.get("file_system") or "")))
        )
        for run in runs
    }


def latest_tunes(payload: Path, root: Path | None = None) -> list[Tune]:
    """Return the newest finished walks through the checklist on the entries of a file: one a machine, goal and number of writers.

    Raises UsageError where the file cannot be read, ResultsError naming a record that is invalid.
    """
    workload = use_payload(payload)
    newest: dict[tuple[str, str, int], Tune] = {}
    for file in sorted((root or results_root()).glob(f"*/*/{TUNE_FILE}")):
        tune = load_tune(file)
        if tune.entries.workload == workload and tune.finished_utc is not None and tune.profile != "smoke":
            newest[tune.machine_id, tune.goal, tune.processes] = tune
    return sorted(newest.values(), key=lambda tune: (tune.machine_id, GOALS.index(tune.goal), tune.processes))


def tunes_frame(tunes: list[Tune]) -> pd.DataFrame:
    """One row per candidate that was measured.

    Columns: machine, run, goal, step, setting, default, tried, measured, unit, gain, gain low, gain high (over what was kept until
    then), over default, over default low, over default high, noise (of the step's control), rounds, kept.
    """
    return pd.DataFrame(
        [
            {
                "machine": tune.machine_id,
                "run": tune.run_id,
                "goal": tune.goal,
                "step": number,
                "setting": step.setting,
                "default": show_setting(step.setting, step.default),
                "tried": show_setting(step.setting, one.value),
                "measured": one.measured,
                "unit": step.unit,
                "gain": one.over_kept.value,
                "gain low": one.over_kept.low,
                "gain high": one.over_kept.high,
                "over default": one.over_default.value,
                "over default low": one.over_default.low,
                "over default high": one.over_default.high,
                "noise": step.noise,
                "rounds": one.over_kept.rounds,
                "kept": one.value == step.chosen,
            }
            for tune in tunes
            for number, step in enumerate(tune.steps, 1)
            for one in step.candidates
        ]
    )


def measurements_frame(runs: list[Run]) -> pd.DataFrame:
    """One row per measurement that has values.

    Columns: machine, run, profile, commit, name, experiment, subject, workload, batch, processes, metric, unit, durability,
    file_system, value (median of worker medians), low, high (95 % interval over workers), workers, entries.
    """
    return pd.DataFrame([_row(run, m) for run in runs for m in run.all_measurements() if m.samples])


def samples_frame(runs: list[Run], name: str) -> pd.DataFrame:
    """One row per stored value of the measurement `name`. Columns: machine, run, round, order, place, value, unit."""
    return pd.DataFrame(
        [
            {
                "machine": run.machine_id,
                "run": run.run_id,
                "round": sample.round,
                "order": sample.order,
                "place": place,
                "value": value,
                "unit": measurement.unit,
            }
            for run, measurement in _named(runs, name)
            for sample in measurement.samples
            for place, value in enumerate(sample.values)
        ]
    )


def claims_frame(runs: list[Run]) -> pd.DataFrame:
    """One row per judged number of the guide.

    Columns: machine, run, claim, section, title, kind, guide, guide_value, unit, measured, verdict, reason.
    """
    return pd.DataFrame(
        [
            {
                "machine": run.machine_id,
                "run": run.run_id,
                "claim": claim.id,
                "section": claim.section,
                "title": claim.title,
                "kind": claim.kind,
                "guide": claim.guide,
                "guide_value": claim.guide_value,
                "unit": claim.unit,
                "measured": claim.measured,
                "verdict": claim.verdict,
                "reason": claim.reason,
            }
            for run in runs
            for claim in run.claims
        ]
    )


def paired_ratio(run: Run, numerator: str, denominator: str) -> stats.Estimate | None:
    """Ratio of two measurements of one run, paired in its rounds, with its interval; None where the run lacks one."""
    first, second = run.find(numerator), run.find(denominator)
    if first is None or second is None or not first.samples or not second.samples:
        return None
    return stats.paired_ratio(first.samples, second.samples, run.seed)


def _named(runs: list[Run], name: str) -> Iterator[tuple[Run, Measurement]]:
    for run in runs:
        measurement = run.find(name)
        if measurement is not None:
            yield run, measurement


def _row(run: Run, measurement: Measurement) -> dict[str, object]:
    value = stats.estimate(measurement.samples, run.seed)
    return {
        "machine": run.machine_id,
        "run": run.run_id,
        "profile": run.profile,
        "commit": run.commit[:7],
        "name": measurement.name,
        "experiment": measurement.experiment,
        "subject": measurement.subject,
        "workload": measurement.workload,
        "batch": measurement.batch,
        "processes": measurement.processes,
        "metric": measurement.metric,
        "unit": measurement.unit,
        "durability": measurement.survives,
        "file_system": measurement.file_system,
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "workers": value.workers,
        "entries": measurement.verification.entries_found,
    }
