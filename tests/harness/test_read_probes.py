"""Probes of reading, acknowledging, waking and logging: each compares what it read, and tells a wrong log from a right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cometbench.checkout import find_checkout
from cometbench.experiment import load_experiments
from cometbench.probe import Outcome, Probe, Task, load_probe
from cometbench.probes import acknowledging, logging_handlers, reading, waking
from cometbench.probes.read_log import build_pool, compare

PROBES = {
    probe.name: probe for probe in load_experiments(find_checkout(Path(__file__).parent))["goals"].probes
}
ENTRIES = 4000


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ENTRIES", ENTRIES)
    monkeypatch.setattr(acknowledging, "ENTRIES", ENTRIES)
    monkeypatch.setattr(logging_handlers, "_BLOCK_RECORDS", 50)
    monkeypatch.setattr(waking, "_TURN_MESSAGES", 3)


def probed(probe: Probe, directory: Path) -> Outcome:
    return load_probe(probe.implementation)(Task(probe, directory, 5, 0.0))


@pytest.mark.parametrize("name", [name for name in PROBES if name.startswith("goal.read")])
def test_reading_gives_every_entry_by_each_way(name: str, tmp_path: Path) -> None:
    outcome = probed(PROBES[name], tmp_path)
    assert (outcome.finding.status, outcome.finding.entries_found) == ("ok", ENTRIES)
    assert set(outcome.values) == set(PROBES[name].values)
    assert all(value > 0 for value in outcome.values.values())


def test_acknowledging_leaves_nothing_allocated_and_nothing_to_read(tmp_path: Path) -> None:
    outcome = probed(PROBES["goal.ack"], tmp_path)
    assert (outcome.finding.status, outcome.finding.entries_found) == ("ok", ENTRIES)
    assert outcome.values["blocks"] == 0.0


def test_waking_delivers_every_message_to_both_readers(tmp_path: Path) -> None:
    outcome = probed(PROBES["goal.wake"], tmp_path)
    assert (outcome.finding.status, outcome.finding.entries_found) == ("ok", 6)
    assert [len(samples) for samples in outcome.arrays.values()] == [3, 3]
    assert all(value > 0 for value in outcome.values.values())


def test_a_message_that_does_not_arrive_fails_the_probe() -> None:
    sent = {"log": [1, 2], "pipe": [3]}
    assert waking._outcome(sent, {"log": ([1], [9]), "pipe": ([3], [9])}).finding.status == "failed"
    assert waking._outcome(sent, {"log": ([1, 2], [9, 9]), "pipe": ([3], [9])}).finding.status == "ok"


def test_logging_compares_every_record_of_both_handlers(tmp_path: Path) -> None:
    outcome = probed(PROBES["goal.logging"], tmp_path)
    assert (outcome.finding.status, outcome.finding.entries_found) == ("ok", 200)
    file = tmp_path / "file.log"
    file.write_text(file.read_text().replace("request 7 ", "request 8 "))
    altered = logging_handlers._verify(tmp_path, 100)
    assert (altered.status, altered.detail) == (
        "failed",
        "file_handler: record 7 of 100 is not what was logged",
    )


def test_an_entry_that_is_wrong_or_missing_is_named(tmp_path: Path) -> None:
    pool = build_pool(Task(PROBES["goal.ack"], tmp_path, 5, 0.0))
    assert compare(pool + pool[:9], pool, len(pool) + 9).status == "ok"
    wrong = compare([*pool[:4], pool[9], *pool[5:]], pool, len(pool))
    assert (wrong.status, wrong.detail.split(": ")[1]) == ("failed", "entry 4 is not what was written")
    assert compare(pool[:-1], pool, len(pool)).detail.endswith(f"{len(pool) - 1} of {len(pool)} entries read")
