"""Probes of several writers, of durable batches and of 10 GB: each verifies what it wrote, and says where it cannot measure."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from cometbench.checkout import find_checkout
from cometbench.errors import CannotMeasureError
from cometbench.experiment import load_experiments
from cometbench.probe import Outcome, Probe, Task, load_probe
from cometbench.probes import durable_batch, ten_gb, writers
from cometbench.subjects.contended_loop import ContendedLoop
from cometbench.verification import Appended, verify_entries
from cometbench.workloads import build_pool

PROBES = {
    probe.name: probe for probe in load_experiments(find_checkout(Path(__file__).parent))["goals"].probes
}
SHARD_BYTES = 3_000_000


def probed(probe: Probe, directory: Path, seconds: float = 0.0) -> Outcome:
    return load_probe(probe.implementation)(Task(probe, directory, 5, seconds))


def small(name: str = "goal.ten_gb") -> Probe:
    return dataclasses.replace(PROBES[name], config={"shard_bytes": SHARD_BYTES})


def test_durable_batches_take_turns_and_both_sides_are_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable_batch, "_ALLOCATED_BYTES", 1 << 20)  # less than a turn's: room is made anew
    probe = PROBES["goal.durable_batch"]
    outcome = probed(probe, tmp_path)
    turn = durable_batch._TURN_BATCHES
    assert (outcome.finding.status, outcome.finding.entries_found) == ("ok", 2 * turn * 1000)
    assert [len(samples) for samples in outcome.arrays.values()] == [turn, turn]
    assert set(outcome.values) == set(probe.values)
    pool = build_pool(probe.workload, 9000, 5)
    raw = tmp_path / "raw.bin"
    raw.write_bytes(raw.read_bytes().replace(pool[7], b"x" * len(pool[7])))
    altered = durable_batch._verify(tmp_path, pool, {"log": turn * 1000, "pwrite": turn * 1000})
    assert (altered.status, "entry 7 altered" in altered.detail) == ("failed", True)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_durable_appends_are_timed_by_number_of_writers(kind: str, tmp_path: Path) -> None:
    outcome = probed(PROBES[f"goal.durable_{kind}"], tmp_path)
    assert list(outcome.values) == ["n1", "n2", "n4", "n8"]
    assert outcome.finding.status == "ok"
    assert outcome.finding.entries_found > 8


def test_several_writers_verify_every_log_and_the_c_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "BURST_BYTES", 100_000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    outcome = probed(PROBES["goal.writers"], tmp_path)
    # Behind a first turn of a tenth, 200 entries of each of 1 + 3 + 3 + 3 writers, and 2 batches of each of 1 + 3.
    assert (outcome.finding.status, outcome.finding.entries_found) == ("ok", 10 * 220 + 4 * 300)
    assert outcome.values["allowed"] == max(outcome.values["one"], outcome.values["c_loop"])
    assert set(outcome.values) == set(PROBES["goal.writers"].values)
    assert outcome.extra == {"writers": 3.0, "turns": 1.0}


def test_one_cpu_has_no_two_writers_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with pytest.raises(CannotMeasureError, match="need two CPUs"):
        probed(PROBES["goal.writers"], tmp_path)


def test_the_loop_of_several_processes_is_read_back_entry_by_entry(tmp_path: Path) -> None:
    pools = [build_pool("json_line", 40, 5, process, 2) for process in range(2)]
    loops = [ContendedLoop(tmp_path, "bench:v1:shard:0000", {"writers": 2}) for _ in pools]
    for loop in loops:
        loop.open()
    for _ in range(2):
        for loop, pool in zip(loops, pools, strict=True):
            loop.prepare(sum(map(len, pool)))
        for place in (0, 20):
            for loop, pool in zip(loops, pools, strict=True):
                loop.time_calls(pool[place : place + 20], 1)
    for loop in loops:
        loop.close()
    appended = [Appended(pool, 80) for pool in pools]
    assert verify_entries("s", appended, loops[0].read_back()).status == "ok"
    part = tmp_path / "part-0001.bin"
    part.write_bytes(part.read_bytes().replace(pools[1][30], pools[1][31]))
    assert verify_entries("s", appended, loops[0].read_back()).status == "failed"


@pytest.mark.parametrize("seed", [5, 6])
def test_a_shard_is_filled_opened_and_copied_by_the_c_loop(seed: int, tmp_path: Path) -> None:
    outcome = ten_gb.measure(Task(small(), tmp_path, seed, ten_gb.SECONDS_MIN))
    entries = -(-SHARD_BYTES // 117_000) * 1000
    assert (outcome.finding.status, outcome.finding.entries_found) == ("ok", 2 * entries + 3)
    assert set(outcome.values) == set(small().values)
    assert all(value > 0 for value in outcome.values.values())


def test_a_shard_that_differs_from_what_was_appended_is_named(tmp_path: Path) -> None:
    probe = small()
    pool = build_pool("json_line", 9000, 5)
    entries = 3 * probe.batch
    ten_gb._fill(Task(probe, tmp_path, 5, 1.0), pool, 3)
    log = tmp_path / "log"
    missing = ten_gb._verify(log, pool, entries, probe.batch)
    assert (missing.status, missing.entries_expected - missing.entries_found) == ("failed", 3)
    altered = [*pool[:1500], b"x", *pool[1501:]]
    assert "entry 1500 is not" in ten_gb._verify(log, altered, entries, probe.batch).detail


def test_a_file_of_the_c_loop_that_differs_is_named(tmp_path: Path) -> None:
    pool = build_pool("json_line", 9000, 5)
    for number, entries in enumerate((pool[:5000], [*pool[5000:-1], pool[0]])):
        (tmp_path / f"part-{number:06d}.bin").write_bytes(b"".join(entries))
    altered = ten_gb._verify_files(tmp_path, pool, 9000, 5000)
    assert (altered.status, altered.detail.endswith("part-000001.bin differs behind entry 8600")) == (
        "failed",
        True,
    )
    assert ten_gb._verify_files(tmp_path, pool, 8999, 5000).status == "ok"


def test_ten_gigabytes_are_left_out_where_there_is_no_time_or_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = PROBES["goal.ten_gb"]
    assert probe.config["shard_bytes"] == 10_000_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=16_000_000_000))
    with pytest.raises(CannotMeasureError, match="longer than this profile has"):
        probed(probe, tmp_path, 0.2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=14_900_000_000))
    with pytest.raises(CannotMeasureError, match=r"needs 15.0 GB free in the bench directory, has 14.9"):
        probed(probe, tmp_path, 2.0)
