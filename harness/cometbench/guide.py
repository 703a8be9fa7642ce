"""The guide's own numbers as a machine, results/guide-apple-m2/: built from the registry, never edited.

The guide publishes one number per cell and no spread, so each is a measurement of one worker with one value,
and its claims carry no verdict except where arithmetic on the guide's own numbers gives one. Where this
project has several readings of one published number, the number stands under the first, which is the guide's
own way of measuring.
"""

from __future__ import annotations

from pathlib import Path

from cometbench.evaluate import evaluate_claims, result_ids
from cometbench.model import ClaimResult, Durability, Machine, Measurement, Run, Sample
from cometbench.registry import Check, Section, all_claims
from cometbench.store import MACHINE_FILE, RUN_FILE, to_json_bytes, write_atomically

GUIDE_MACHINE_ID = "guide-apple-m2"
GUIDE_RUN_ID = "published"
UNKNOWN_TIME = "unknown"
NO_SPREAD = "published without workers or spread, so there is nothing to judge"
NO_NUMBER = "the guide states no number of its own for this reading"

_DURABILITY: dict[str, Durability] = {
    "buffered": "survives_process_crash",
    "mmap": "survives_process_crash",
    "sync": "survives_power_loss",
    "async": "survives_power_loss",
}


def guide_machine() -> Machine:
    """Return the machine the guide names, with what it says about it."""
    return Machine(
        machine_id=GUIDE_MACHINE_ID,
        label="Apple M2 (the guide)",
        hardware={"cpu": "Apple M2", "system": "macOS", "source": "published in the guide"},
    )


def guide_run() -> Run:
    """Every published number that has a measurement of its own, with all claims of the registry."""
    bare = Run(
        run_id=GUIDE_RUN_ID,
        machine_id=GUIDE_MACHINE_ID,
        profile="guide",
        started_utc=UNKNOWN_TIME,
        commit=UNKNOWN_TIME,
        dirty=False,
        versions={"go": "1.22+"},
        seed=0,
        measurements=[
            _published(section, check)
            for section, claim in all_claims()
            for check in claim.check
            if check.published is not None
        ],
    )
    published = {
        result_id: check.guide_value
        for _, claim in all_claims()
        for check in claim.check
        for result_id in result_ids(claim, check)[:1]
    }
    claims = [_without_verdict(result, published) for result in evaluate_claims(bare)]
    return bare.model_copy(update={"claims": claims})


def write_guide(results_root: Path) -> Path:
    """Write machine.json and run.json of the guide's machine; returns the run directory."""
    machine_directory = results_root / GUIDE_MACHINE_ID
    run_directory = machine_directory / GUIDE_RUN_ID
    run_directory.mkdir(parents=True, exist_ok=True)
    write_atomically(machine_directory / MACHINE_FILE, to_json_bytes(guide_machine()))
    write_atomically(run_directory / RUN_FILE, to_json_bytes(guide_run()))
    return run_directory


def _published(section: Section, check: Check) -> Measurement:
    assert check.published is not None
    assert check.guide_value is not None
    name = check.readings[check.published]
    assert isinstance(name, str), "only absolute checks publish a measurement"
    subject = name.split(".")[-2] if section.id == "Q" else name.split(".")[1]
    batch = int(next(part for part in name.split(".") if part.startswith("batch")).removeprefix("batch"))
    per_call = check.guide_value * (batch if check.per == "entry" else 1)
    return Measurement(
        name=name,
        experiment=section.id,
        subject=subject,
        workload="as published",
        batch=batch,
        metric="time_per_append",
        unit="ns",
        durability=_DURABILITY[subject],
        samples=[Sample(round=0, order=0, values=[per_call])],
    )


def _without_verdict(result: ClaimResult, published: dict[str, float | None]) -> ClaimResult:
    if result.kind == "arithmetic":
        return result
    value = published.get(result.id)
    return result.model_copy(
        update={
            "measured": value,
            "interval": None,
            "workers": 0,
            "floor": None,
            "floor_multiple": None,
            "verdict": "not measured",
            "reason": NO_SPREAD if value is not None else NO_NUMBER,
        }
    )
