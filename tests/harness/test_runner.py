"""The runner: interleaved rounds of real workers, every log verified, failures named, nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest
from faulty_experiments import raw

from cometbench.errors import CometbenchError
from cometbench.latency import measure_latency
from cometbench.runner import Runner


def run(benchmarks, stand, seed=11, profile=None):
    runner = Runner(
        benchmarks,
        profile or stand.profile,
        stand.root,
        seed=seed,
        progress=stand.progress,
        search_path=[stand.extra],
    )
    runner.run()
    return runner, {measurement.name: measurement for measurement in runner.measurements()}


def test_each_round_has_one_worker_per_benchmark_in_an_order_the_seed_fixes(stand):
    benchmarks = [raw(f"test.b{number}") for number in range(4)] + [raw("test.rare", rounds="other")]
    runner, found = run(benchmarks, stand)
    orders = {name: [(sample.round, sample.order) for sample in found[name].samples] for name in found}
    assert [len(order) for order in orders.values()] == [3, 3, 3, 3, 2]
    for round_number, workers in ((0, 5), (1, 5), (2, 4)):
        places = [order for pairs in orders.values() for number, order in pairs if number == round_number]
        assert sorted(places) == list(range(workers))
    _, again = run(benchmarks, stand)
    assert orders == {
        name: [(sample.round, sample.order) for sample in again[name].samples] for name in again
    }
    _, other = run(benchmarks, stand, seed=12)
    assert orders != {
        name: [(sample.round, sample.order) for sample in other[name].samples] for name in other
    }
    assert runner.suite().get_benchmark_names() == [benchmark.name for benchmark in benchmarks]


def test_rounds_that_do_not_fit_the_time_are_not_run_and_the_run_says_so(stand):
    profile = dataclasses.replace(stand.profile, rounds_main=4, least_main=2, rounds_other=3, least_other=3)
    benchmarks = [raw("test.main"), raw("test.other", rounds="other")]
    hurried, found = run(benchmarks, stand, profile=dataclasses.replace(profile, seconds_max=0.001))
    assert [sample.round for sample in found["test.main"].samples] == [0, 1]
    assert [sample.round for sample in found["test.other"].samples] == [0, 1, 2]
    assert found["test.main"].extra["rounds_wanted"] == 4.0
    assert hurried.rounds_taken() == ["test: 2 of 4 rounds, the least", "test: 3 of 3 rounds"]
    unhurried, found = run(benchmarks, stand, profile=profile)
    assert [sample.round for sample in found["test.main"].samples] == [0, 1, 2, 3]
    assert unhurried.rounds_taken() == ["test: 4 of 4 rounds", "test: 3 of 3 rounds"]


def test_a_measurement_says_whether_its_processes_were_forked_or_started(stand):
    _, found = run([raw("test.forked"), raw("test.started", fresh=True)], stand)
    assert found["test.forked"].extra["process"] == "forked, a new server each round"
    assert found["test.started"].extra["process"] == "a new interpreter"
    assert [len(one.samples) for one in found.values()] == [3, 3]


def test_a_measurement_says_what_was_measured_and_verified(stand):
    runner, found = run([raw("test.batch", batch=100, workload="json_event")], stand)
    measured = found["test.batch"]
    assert measured.failure is None
    assert [len(sample.values) for sample in measured.samples] == [stand.profile.values] * 3
    assert all(value > 0 for sample in measured.samples for value in sample.values)
    assert (measured.metric, measured.unit, measured.batch) == ("time_per_append", "ns", 100)
    assert 85 <= measured.extra["entry_bytes_mean"] <= 120
    loops = int(measured.extra["loops"])
    assert 1 <= loops <= stand.profile.value_entries_max // 100
    checked = measured.verification
    assert checked.status == "ok"
    assert checked.entries_expected == checked.entries_found
    calls = sum(
        sum(warmup_loops for warmup_loops, _ in worker.warmups) + loops * len(worker.values)
        for worker in runner.items["test.batch"].raw_runs()
    )
    calibration = measured.extra["calibration_calls"]
    assert calibration > 0
    assert checked.entries_found == 100 * (calls + calibration)  # warm-ups included
    assert len(measured.code_hash) == 16


@pytest.mark.parametrize(("fault", "word"), [("drop", "lost"), ("alter", "altered")])
def test_a_lost_or_altered_entry_fails_the_benchmark_and_is_named(fault, word, stand):
    # The first worker already shows a fault at entry 0, so that no value of a broken log is ever stored.
    faulty = raw("test.faulty", "FaultyFile", config={"fault": fault, "at": 0})
    _, found = run([raw("test.sound"), faulty], stand)
    measured = found["test.faulty"]
    assert measured.verification.status == "failed"
    assert f"verification failed: stream bench:v1:shard:0000: entry 0 {word}" in measured.failure
    assert measured.samples == []
    assert found["test.sound"].failure is None
    assert len(found["test.sound"].samples) == 3
    assert "FAILED test.faulty: verification failed" in stand.said()


def test_a_fault_in_one_of_four_processes_is_named(stand):
    sound = raw("test.sound", workload="json_shared", processes=4)
    faulty = raw(
        "test.faulty", "FaultyFile", workload="json_shared", processes=4, config={"fault": "drop", "at": 0}
    )
    _, found = run([sound, faulty], stand)
    assert found["test.sound"].verification.status == "ok"
    assert found["test.sound"].verification.entries_found % 4 == 0
    assert found["test.sound"].processes == 4
    assert "its append number 0" in found["test.faulty"].failure


def test_a_dying_process_fails_its_benchmark_only(stand):
    benchmarks = [
        raw("test.alone", "DiesWhileWriting"),
        raw("test.shared", "DiesWhileWriting", workload="json_shared", processes=2),
        raw("test.missing", "nowhere:Nothing"),
        raw("test.sound"),
    ]
    _, found = run(benchmarks, stand)
    assert found["test.alone"].failure.startswith("exit code 3")
    assert "WriterLostError: writer process 0 ended without an answer" in found["test.shared"].failure
    assert "subject nowhere:Nothing cannot be loaded" in found["test.missing"].failure
    assert found["test.sound"].failure is None


def is_gone(pid):
    """Whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_worker_that_hangs_is_ended_with_its_children(stand, tmp_path, monkeypatch):
    pid_file = tmp_path / "pid"
    monkeypatch.setenv("CHILD_PID_FILE", str(pid_file))
    profile = dataclasses.replace(stand.profile, worker_seconds_max=10.0)
    _, found = run([raw("test.hangs", "NeverReturns")], stand, profile=profile)
    assert found["test.hangs"].failure == "ran longer than 10 s and was ended"
    until = time.monotonic() + 30
    while not is_gone(int(pid_file.read_text())):
        assert time.monotonic() < until, "the child of an ended worker goes on"


def test_a_measuring_process_imports_neither_pandas_nor_matplotlib(stand, tmp_path, monkeypatch):
    monkeypatch.setenv("MODULES_FILE", str(tmp_path / "modules"))
    benchmark = raw("test.modules", "TellsItsModules")
    _, found = run([benchmark], stand)
    assert found["test.modules"].failure is None
    loaded = set(json.loads((tmp_path / "modules").read_text()))
    assert {"pyperf", "cometbench.measuring"} <= loaded
    assert not loaded & {"pandas", "matplotlib", "numpy", "pydantic", "rich"}
    (tmp_path / "modules").unlink()
    assert measure_latency(benchmark, stand.profile, stand.root, 1, [stand.extra]).measurement.failure is None
    loaded = set(json.loads((tmp_path / "modules").read_text()))
    assert not loaded & {"pandas", "matplotlib", "numpy", "pydantic", "rich"}


def test_the_run_root_holds_nothing_after_the_workers(stand):
    run([raw("test.sound"), raw("test.alone", "DiesWhileWriting")], stand)
    assert [path.name for path in stand.root.path.iterdir()] == ["owner.lock"]


def test_raw_runs_name_no_host_and_no_path(stand, tmp_path):
    runner, _ = run([raw("test.sound")], stand)
    runner.suite().dump(str(tmp_path / "suite.json"))
    text = (tmp_path / "suite.json").read_text()
    assert "hostname" not in text
    assert "python_executable" not in text
    assert str(Path.home()) + "/" not in text
    assert "cpu_model_name" in text


def test_two_benchmarks_of_one_name_are_refused(stand):
    with pytest.raises(CometbenchError, match="unique"):
        run([raw("test.same"), raw("test.same")], stand)
