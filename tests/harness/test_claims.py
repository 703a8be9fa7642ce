"""The registry holds every row of the guide, each measured or saying why not, by names that exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

import made_up
from cometbench import cli
from cometbench.evaluate import Promise, evaluate_claims, result_ids
from cometbench.experiment import load_experiments
from cometbench.guide import guide_machine, guide_run, write_guide
from cometbench.registry import Check, Section, all_claims, load_sections

ROOT = Path(__file__).parents[2]
CLAIM_IDS = (Path(__file__).parent / "claim_ids.txt").read_text().split()


def test_every_row_of_the_guide_is_in_the_registry_and_nothing_else() -> None:
    assert [claim.id for _, claim in all_claims()] == CLAIM_IDS
    assert len(CLAIM_IDS) == len(set(CLAIM_IDS)) == 74


def test_every_check_yields_a_result_even_from_an_empty_run() -> None:
    expected = [
        name for _, claim in all_claims() for check in claim.check for name in result_ids(claim, check)
    ]
    results = evaluate_claims(made_up.run())
    assert [result.id for result in results] == expected
    assert all(result.reason for result in results)


def test_uncovered_sections_say_which_experiment_is_missing() -> None:
    for section in load_sections():
        for claim in section.claim:
            for check in claim.check:
                if not check.readings and check.equation is None:
                    why = check.not_measured or section.not_measured
                    assert (
                        f"section {section.id}" in why
                        or "no consumer groups" in why
                        or "needs a machine" in why
                        or ("no batcher" in why)
                    )


def test_sections_q_g_and_r_are_covered() -> None:
    uncovered = [
        f"{claim.id}.{check.id}"
        for section, claim in all_claims()
        if section.id in "QGR"
        for check in claim.check
        if not check.readings and check.equation is None
    ]
    assert uncovered == []


def test_both_multi_process_readings_stand_on_every_batch_row() -> None:
    for claim_id in ("Q1", "Q10", "Q100", "Q1000", "Q10K"):
        claim = next(claim for _, claim in all_claims() if claim.id == claim_id)
        multi = next(check for check in claim.check if check.id == "multi")
        assert list(multi.readings) == ["one_writer", "processes2", "processes4", "processes8"]


def test_every_measurement_a_claim_names_is_one_an_experiment_produces() -> None:
    experiments = load_experiments(ROOT).values()
    produced = {name for experiment in experiments for name in experiment.measurement_names()}
    named = {
        name
        for _, claim in all_claims()
        for check in claim.check
        for target in check.readings.values()
        for name in ([target] if isinstance(target, str) else target)
    }
    assert named - produced == set()


def test_every_promise_is_said_in_words_of_its_own() -> None:
    semantic = [check for _, claim in all_claims() for check in claim.check if check.kind == "semantic"]
    said = [Promise(200.0, 10, 20.0).in_words(check) for check in semantic]
    assert len(said) == 18
    assert all("checked operations" not in words and "20" in words for words in said)


def test_a_claim_without_reading_or_reason_is_refused() -> None:
    bad = {
        "id": "Z",
        "title": "t",
        "about": "a",
        "claim": [{"id": "Z1", "title": "t", "check": [{"id": "x", "kind": "absolute", "guide": "1"}]}],
    }
    with pytest.raises(ValidationError, match=r"Z1\.x has neither a reading nor a reason"):
        Section.model_validate(bad)


def test_a_ratio_needs_two_measurements_and_a_guide_value() -> None:
    with pytest.raises(ValidationError, match="does not fit kind ratio"):
        Check(id="x", kind="ratio", guide="2x", guide_value=2, readings={"a": "Q.one"})
    with pytest.raises(ValidationError, match="needs guide_value"):
        Check(id="x", kind="absolute", guide="2", readings={"a": "Q.one"})


def test_a_direction_needs_two_measurements_and_no_size() -> None:
    with pytest.raises(ValidationError, match="does not fit kind direction"):
        Check(id="x", kind="direction", guide="helps", readings={"a": "Q.one"})
    check = Check(id="x", kind="direction", guide="helps", readings={"a": ["Q.one", "Q.two"]})
    assert (check.states, check.guide_value) == ("gain", None)


def test_the_committed_guide_machine_is_what_the_command_writes(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(cli.build(), ["guide-numbers", "--results", str(tmp_path)])
    assert outcome.exit_code == 0, outcome.output
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.json"))
    assert [str(path) for path in written] == [
        "guide-apple-m2/machine.json",
        "guide-apple-m2/published/run.json",
    ]
    for path in written:
        assert (ROOT / "results" / path).read_bytes() == (tmp_path / path).read_bytes()


def test_the_guide_machine_holds_the_published_table_and_no_made_up_verdict() -> None:
    run = guide_run()
    assert {m.name: m.samples[0].values[0] for m in run.measurements} == {
        "Q.batch1.buffered.processes1": 1700,
        "Q.batch1.mmap.one_writer": 33_000,
        "Q.batch10.buffered.processes1": 2700,
        "Q.batch10.mmap.one_writer": 35_000,
        "Q.batch100.buffered.processes1": 9000,
        "Q.batch100.mmap.one_writer": 56_000,
        "Q.batch1000.buffered.processes1": 112_000,
        "Q.batch1000.mmap.one_writer": 170_000,
        "Q.batch10000.buffered.processes1": 548_000,
        "Q.batch10000.mmap.one_writer": 2_000_000,
        "G.sync.batch1": 7_600_000,
        "G.async.batch1": 2_700_000,
        "G.mmap.batch1": 33_000,
    }
    assert {c.verdict for c in run.claims if c.kind != "arithmetic"} == {"not measured"}
    measured = {c.id: c.measured for c in run.claims}
    assert (measured["Q1.single.buffered"], measured["Q1.single.mmap"]) == (1700, None)
    assert (measured["Q1.multi_rate.one_writer"], measured["Q1.multi_rate.processes8"]) == (30e3, None)
    assert guide_machine().machine_id == run.machine_id


def test_writing_the_guide_twice_changes_nothing(tmp_path: Path) -> None:
    first = (write_guide(tmp_path) / "run.json").read_bytes()
    assert (write_guide(tmp_path) / "run.json").read_bytes() == first


def test_the_claims_command_lists_every_row_as_table_and_as_json() -> None:
    table = CliRunner().invoke(cli.build(), ["claims"])
    assert table.exit_code == 0
    listed = json.loads(CliRunner().invoke(cli.build(), ["claims", "--json"]).output)
    assert list(dict.fromkeys(row["id"].partition(".")[0] for row in listed)) == CLAIM_IDS
    assert all(row["covered_by"] for row in listed)
    assert all(row["id"] in table.output for row in listed)
