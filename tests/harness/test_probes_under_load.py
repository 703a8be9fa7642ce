"""Each probe of sections S, K, R, P and Q-ack once through the real worker: every entry that it appended is accounted for."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

import cometlog
from cometbench._native import empty_call
from cometbench.benchmark import STREAM
from cometbench.checkout import find_checkout
from cometbench.experiment import load_experiments
from cometbench.model import Measurement
from cometbench.open_loop import poisson_schedule
from cometbench.probe import Task
from cometbench.probes import ack_allocations, contention, index_race, own_levels, sustained, throughput
from cometbench.profiles import PROFILES
from cometbench.progress import RunProgress
from cometbench.runner import Runner
from cometbench.workloads import build_pool, pool_size

PROBES = {
    probe.name: probe
    for experiment in load_experiments(find_checkout(Path(__file__).parent)).values()
    for probe in experiment.probes
}
SECONDS, SEED = 0.05, 11
CAPACITY_CALLS = 2_000  # of each piece of the capacity stage


def taken(name: str, root, **changes) -> dict[str, Measurement]:
    """One turn of a probe, by the names of its values."""
    probe = dataclasses.replace(PROBES[name], seconds=1.0, **changes)
    profile = dataclasses.replace(PROFILES["smoke"], probe_seconds=SECONDS)
    with RunProgress(Console(file=io.StringIO())) as progress:
        runner = Runner([probe], profile, root, seed=SEED, progress=progress)
        runner.run()
    measurements = runner.measurements()
    assert {one.failure for one in measurements} == {None}
    assert [one.name for one in measurements] == probe.measurement_names()
    found = measurements[0].verification
    assert (found.status, found.entries_found) == ("ok", found.entries_expected)
    return {one.metric: one for one in measurements}


@pytest.mark.parametrize(
    "name", ["S.mmap", "S.buffered_synced", "S.processes2_synced", "K.sub_millisecond", "P.batcher"]
)
def test_under_load_every_append_that_was_due_is_timed_once_and_in_the_log(name, root):
    measured = taken(name, root)
    timed = {value: one.latency.count for value, one in measured.items() if one.latency is not None}
    services = [count for value, count in timed.items() if value.endswith("_service")]
    assert [
        timed[value.replace("_service", "_response")] for value in timed if value.endswith("_service")
    ] == services
    in_stages = measured["capacity"].verification.entries_found - sum(services)
    assert in_stages > 0
    assert in_stages % CAPACITY_CALLS == 0
    assert timed["idle_response"] > 0
    assert measured["capacity"].extra["timer_overhead_ns"] > 0
    assert all(one.latency is None or len(one.latency.histograms) == 1 for one in measured.values())


def test_the_million_is_offered_by_its_schedule_and_counted_to_the_entry(root):
    measured = taken("K.million", root)
    batches = len(poisson_schedule(1_200, SECONDS, SEED))
    assert measured["rate"].verification.entries_found == 1_000 * batches
    assert measured["response"].latency.count == batches
    assert measured["rate"].extra["trials"] == 1


def test_contention_counts_what_it_acknowledged(root):
    measured = taken("R.contention", root, processes=3)
    assert measured["entries"].samples[0].values == [measured["entries"].verification.entries_found]
    assert measured["stops"].samples[0].values[0] > 0
    assert measured["appends"].samples[0].values[0] >= 3


def test_lookups_beside_a_torn_index_are_right_and_bounded(root):
    measured = taken("R.index", root)
    assert measured["violations"].samples[0].values == [0.0]
    assert measured["violations"].extra["trials"] > 0
    assert (measured["violations"].verification.entries_found - index_race.ENTRIES) % 50 == 0
    assert 1 <= measured["tries_max"].samples[0].values[0] <= index_race.TRIES_MAX


def test_the_impact_of_races_is_measured_in_three_logs_that_are_whole(root):
    measured = taken("R.impact", root)
    assert set(measured) == {"apart", "together", "races"}
    assert all(one.samples[0].values[0] > 0 for one in measured.values())
    appended = measured["apart"].verification.entries_found - 4 * index_race.ENTRIES
    assert appended > 0
    assert appended % 10 == 0


@pytest.mark.parametrize(("name", "shards"), [("P.shards16", 16), ("P.processes8", 16)])
def test_throughput_reads_every_shard_back(name, shards, root):
    measured = taken(name, root)
    found = measured["rate"].verification.entries_found
    assert found % (1_000 * shards // PROBES[name].processes) == 0
    assert all(one.samples[0].values[0] > 0 for one in measured.values())


def test_shards_are_filled_before_their_throughput_is_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "BYTES_MAX", 0)
    probe = PROBES["P.processes8"]
    pool = build_pool(probe.workload, pool_size(probe.batch), SEED, 0)
    batches = -(-throughput.FILLING_BYTES // sum(map(len, pool[: probe.batch])))
    alone = dataclasses.replace(probe, processes=1)
    outcome = throughput.measure(Task(alone, tmp_path, SEED, SECONDS))
    assert outcome.finding.entries_found == 16 * batches * probe.batch
    assert outcome.values["rate"] == 0
    assert outcome.values["new_shards_rate"] > 0


def test_lag_is_read_beside_a_consumer_that_gets_everything(root):
    measured = taken("S.health", root)
    batches = len(poisson_schedule(1_000, SECONDS, SEED))
    assert measured["lag_max"].verification.entries_found == 100 * batches
    assert measured["lag_max"].samples[0].values[0] >= measured["lag_median"].samples[0].values[0] >= 0
    assert measured["error_percent"].samples[0].values == [0.0]
    assert measured["error_percent"].extra["appends"] == batches


def test_the_engine_states_the_lag_to_the_entry_and_times_beside_the_harness(root):
    measured = taken("S.own", root)
    values = {value: one.samples[0].values[0] for value, one in measured.items()}
    assert measured["lag"].verification.entries_found == own_levels.APPENDS
    assert (values["lag"], values["error_percent"]) == (500, 0)
    assert 0 < values["p50"] <= values["p99"]
    assert 0 < values["harness_p50"] <= values["harness_p99"]


def test_acknowledging_allocates_nothing_and_settles_everything(root):
    measured = taken("Q.ack", root)
    entries = 3 * ack_allocations.COUNTED + 2 * 2 * ack_allocations.COUNTED + 2 * 200
    assert measured["time_one"].verification.entries_found == ack_allocations.SHARDS * entries
    assert measured["allocations_one"].samples[0].values[0] <= 0.005
    assert measured["allocations_batch"].samples[0].values[0] <= 0.005
    assert measured["time_batch"].samples[0].values[0] > 0


def test_allocations_are_seen_whether_they_stay_or_go():
    kept: list[object] = []
    arguments = [(number,) for number in range(200)]
    assert ack_allocations.allocations(lambda number: [number] * 10, arguments) >= 200
    assert ack_allocations.allocations(lambda number: kept.append([number]), arguments) >= 200
    assert ack_allocations.allocations(empty_call, arguments) <= 1


def test_batches_of_mixed_sizes_leave_nothing_out():
    pool = build_pool("json_event", 5_000, 3)
    batches = contention.mixed_batches(pool, contention.random.Random(3))
    assert [entry for batch in batches for entry in batch] == pool
    assert {len(batch) for batch in batches} >= {1, 2, 5, 10, 100}


def test_an_index_file_cut_to_nothing_is_read_three_times_and_the_answer_is_right(tmp_path):
    pool = build_pool("json_event", index_race.ENTRIES, 3)
    with cometlog.open(tmp_path) as client:
        client.append(STREAM, pool)
    whole = index_race.Reader(tmp_path, pool, "3").look_up(0.02)
    index_race.index_file(tmp_path).write_bytes(b"")
    torn = index_race.Reader(tmp_path, pool, "3").look_up(0.02)
    assert (whole.tries_max, whole.again, whole.violations) == (1, 0, 0)
    assert (torn.tries_max, torn.again, torn.violations) == (3, torn.lookups, 0)


def test_a_lookup_that_gives_another_entry_is_a_violation(tmp_path):
    pool = build_pool("json_event", index_race.ENTRIES, 3)
    with cometlog.open(tmp_path) as client:
        client.append(STREAM, pool)
    seen = index_race.Reader(tmp_path, pool[::-1], "3").look_up(0.02)
    assert seen.violations == seen.lookups > 0
    assert "is not what was appended" in seen.first


def test_tearing_an_index_leaves_what_it_held(tmp_path):
    path = tmp_path / "index"
    path.write_bytes(b"0123456789")
    index_race.Tearer.tear_once(path)
    assert path.read_bytes() == b"0123456789"


def test_each_second_is_judged_by_what_was_acknowledged_in_it():
    ended = [100, 500_000_000, 1_000_000_000, 2_500_000_000, 3_100_000_000]
    assert sustained.acknowledged_per_second(ended, 10, 3.1) == [20, 10, 10]
    assert sustained.acknowledged_per_second(ended[:2], 10, 0.5) == [40]


def test_a_disk_without_room_is_no_failure(root, monkeypatch):
    monkeypatch.setattr(sustained, "LONG_RUN_FREE_BYTES", 1 << 60)
    task = sustained.Task(PROBES["K.million"], root.path, SEED, SECONDS)
    with pytest.raises(sustained.CannotMeasureError, match="GiB free in the bench directory"):
        sustained.measure(task)
