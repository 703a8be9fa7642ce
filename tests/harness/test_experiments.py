"""The experiments as data: every measurement a claim reads exists, and each says what it asks and how."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cometbench.checkout import find_checkout
from cometbench.errors import CheckoutNotFoundError, UsageError
from cometbench.evaluate import CONTROLS, COUNTED_UNITS, FORKED_AND_FRESH
from cometbench.experiment import choose, load_experiments
from cometbench.goals import GOALS
from cometbench.registry import all_claims
from cometbench.workloads import WORKLOADS

EXPERIMENTS = load_experiments(find_checkout(Path(__file__).parent))
NAMES = [name for e in EXPERIMENTS.values() for name in e.measurement_names()]


def test_names_are_unique():
    assert len(NAMES) == len(set(NAMES))


def test_every_measurement_that_a_claim_or_goal_reads_exists():
    read = {
        name
        for _, claim in all_claims()
        for check in claim.check
        for target in check.readings.values()
        for name in ([target] if isinstance(target, str) else target)
    }
    read |= {name for goal in GOALS for name in (goal.first, goal.second) if name}
    assert read
    assert read <= set(NAMES)


def test_a_promise_that_is_measured_and_not_counted_is_measured_in_rounds():
    once = {
        f"{probe.name}.{value}"
        for experiment in EXPERIMENTS.values()
        for probe in experiment.probes
        for value, unit in probe.values.items()
        if probe.rounds == "once" and unit not in COUNTED_UNITS
    }
    promised = {
        target
        for _, claim in all_claims()
        for check in claim.check
        for target in check.readings.values()
        if check.kind == "semantic" and check.violations == "value" and not check.long_run
    }
    assert "K.million.short_seconds" in once
    assert promised & once == set()


def test_section_q_has_every_batch_size_in_every_reading():
    readings = [
        "buffered.processes1",
        "mmap.processes1",
        "mmap.one_writer",
        *(f"mmap.processes{n}" for n in (2, 4, 8)),
    ]
    expected = {f"Q.batch{batch}.{reading}" for batch in (1, 10, 100, 1000, 10_000) for reading in readings}
    assert {benchmark.name for benchmark in EXPERIMENTS["Q"].benchmarks} == expected


def test_a_control_is_the_same_benchmark_under_two_names():
    controls = {b.name: b for b in EXPERIMENTS["floors"].benchmarks if b.experiment == "control"}
    assert set(controls) == {*CONTROLS["mmap"], *CONTROLS["buffered"], FORKED_AND_FRESH[1]}
    for path, names in CONTROLS.items():
        first, second = (controls[name] for name in names)
        assert first.to_json().replace(first.name, second.name) == second.to_json()
        assert (first.subject, first.config["write_path"]) == (path, path)
    forked, fresh = (controls[name] for name in FORKED_AND_FRESH)
    assert dataclasses.replace(forked, name=fresh.name, fresh=True) == fresh


def test_processes_whose_own_memory_is_measured_are_started_for_it():
    fresh = {one.name for e in EXPERIMENTS.values() for one in (*e.benchmarks, *e.probes) if one.fresh}
    assert fresh == {"control.fresh.1", "F.shards", *(probe.name for probe in EXPERIMENTS["M"].probes)}


@pytest.mark.parametrize("section", EXPERIMENTS)
def test_an_experiment_says_question_method_limitations_and_known_payloads(section):
    experiment = EXPERIMENTS[section]
    assert experiment.question.endswith("?")
    assert len(experiment.method) > 40
    assert len(experiment.limitations) > 40
    assert {benchmark.workload for benchmark in experiment.benchmarks} <= set(WORKLOADS)


def test_floors_always_come_along():
    assert [e.section for e in choose(EXPERIMENTS, ["goals"])] == ["floors", "goals"]
    assert [e.section for e in choose(EXPERIMENTS, [])] == list(EXPERIMENTS)
    with pytest.raises(UsageError, match="unknown section 'X'"):
        choose(EXPERIMENTS, ["X"])


def test_the_checkout_is_found_from_anywhere_inside_it(tmp_path):
    here = Path(__file__).resolve().parents[2]
    assert find_checkout(Path(__file__).resolve().parent) == here
    assert find_checkout(tmp_path) == here  # by where this package lies


def test_a_directory_outside_any_checkout_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cometbench.checkout.__file__", str(tmp_path / "site-packages/cometbench/checkout.py")
    )
    with pytest.raises(CheckoutNotFoundError, match=str(tmp_path)):
        find_checkout(tmp_path)
