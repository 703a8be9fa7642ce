"""Probes: a turn in every round beside the benchmarks, several values each, verified, refusals told from failures."""

from __future__ import annotations

import numpy as np
import pytest
from faulty_experiments import probe, raw

from cometbench.probe import Probe
from cometbench.runner import Runner
from cometbench.services.shared import SharedServices


def run(specifications, stand):
    runner = Runner(
        specifications, stand.profile, stand.root, seed=11, progress=stand.progress, search_path=[stand.extra]
    )
    runner.run()
    return runner, {measurement.name: measurement for measurement in runner.measurements()}


def test_each_value_of_a_probe_is_a_measurement_with_one_sample_a_round(stand):
    sound = probe(
        "test.probe", "counts_its_directory", {"files": "files", "seed": "seeds"}, rounds="main", seconds=2.0
    )
    runner, found = run([raw("test.beside"), sound], stand)
    assert list(found) == ["test.beside", "test.probe.files", "test.probe.seed"]
    files, seeds = found["test.probe.files"], found["test.probe.seed"]
    assert (files.metric, files.unit) == ("files", "files")
    assert [sample.values for sample in files.samples] == [[1.0]] * 3
    assert [sample.values for sample in seeds.samples] == [[11.0], [12.0], [13.0]]
    orders = [[s.order for s in m.samples] for m in (files, found["test.beside"])]
    assert all(sorted(pair) == [0, 1] for pair in zip(*orders, strict=True))
    assert (files.verification.entries_expected, files.verification.entries_found) == (15, 15)
    assert files.extra["seconds"] == pytest.approx(2 * stand.profile.probe_seconds)
    assert list(runner.arrays()) == [f"test.probe.bytes.round{number}" for number in range(3)]
    assert np.array_equal(
        runner.arrays()["test.probe.bytes.round0"], np.frombuffer(b"12345678", dtype=np.uint64)
    )
    assert len(files.code_hash) == 16


def test_flame_graphs_of_the_last_round_and_the_file_system_measured_on_are_kept(stand):
    runner, found = run(
        [probe("test.probe", "draws_a_flame_graph", {"files": "files"}, rounds="main")], stand
    )
    assert found["test.probe.files"].file_system == "tmpfs"
    assert runner.flame_graphs() == {"test.probe.txt": "a;b 13\n"}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("loses_an_entry", "verification failed: stream s: entry 4 lost"),
        ("promises_more", "promises ['files'] and returned ['other']"),
        ("strays", "histograms ['waits'] are not all of values"),
        ("dies", "exit code 3"),
        ("names_a_graph_badly", "'../run.json' is no name of a flame graph"),
    ],
)
def test_a_probe_that_fails_says_so_and_gets_no_further_turn(function, said, stand):
    runner, found = run([probe("test.probe", function, {"files": "files"})], stand)
    assert said in found["test.probe.files"].failure
    assert found["test.probe.files"].samples == []
    assert "FAILED test.probe" in stand.said()
    assert runner.beyond_this_machine() == set()


def test_what_the_machine_refuses_is_no_failure_of_the_run(stand):
    runner, found = run([probe("test.probe", "is_refused", {"files": "files"})], stand)
    assert found["test.probe.files"].failure == "the kernel refuses it; allow it with sysctl"
    assert runner.beyond_this_machine() == {"test.probe.files"}
    assert "not measured test.probe: the kernel refuses it" in stand.said()


def test_the_percentiles_of_a_probe_are_those_of_all_rounds_together(stand):
    timed = probe("test.probe", "has_a_histogram", {"waits": "ns", "files": "files"}, rounds="main")
    _, found = run([timed], stand)
    summary = found["test.probe.waits"].latency
    assert (summary.count, summary.timer_overhead_ns) == (3 * 400, 55.0)
    assert (summary.p50_ns, summary.p90_ns, summary.p99_ns) == (
        12.0,
        13.0,
        None,
    )  # the seeds are 11, 12 and 13
    assert summary.histograms == ["11:400", "12:400", "13:400"]
    assert found["test.probe.files"].latency is None


def test_a_probe_that_goes_on_adds_to_the_histograms_of_its_earlier_rounds(stand):
    timed = probe("test.probe", "has_a_histogram", {"waits": "ns", "files": "files"})
    before, after = (
        Runner([timed], stand.profile, stand.root, seed=11, progress=stand.progress, search_path=[stand.extra])
        .items["test.probe"]
        for _ in range(2)
    )  # fmt: skip
    before.measure(0, 0)
    after.restore({one.name: one for one in before.measurements()}, {})
    after.measure(1, 0)
    for one in (before, after):
        one.workplace.fork_server.close()
    assert after.rounds_done() == {0, 1}
    waits = after.measurements()[0].latency
    assert (waits.count, waits.histograms) == (800, ["11:400", "12:400"])


def test_a_probe_is_told_the_address_of_the_server_that_it_needs(stand):
    served = probe("test.probe", "asks_its_server", {"port": "ports"}, service="some.service:Server")
    services = SharedServices(
        stand.root.path / "services", stand.progress.say, {served.service: "127.0.0.1:4711"}
    )
    runner = Runner(
        [served], stand.profile, stand.root, seed=11, progress=stand.progress, search_path=[stand.extra],
        services=services,
    )  # fmt: skip
    runner.run()
    assert [sample.values for sample in runner.measurements()[0].samples] == [[4711.0]]


def test_only_a_server_that_is_needed_is_part_of_what_is_hashed(stand):
    assert "service" not in probe("test.probe", "asks_its_server", {"port": "ports"}).to_json()
    served = probe("test.probe", "asks_its_server", {"port": "ports"}, service="some.service:Server")
    assert Probe.from_json(served.to_json()) == served


def test_a_probe_without_a_value_is_refused():
    with pytest.raises(ValueError, match="at least one value"):
        Probe(name="a.b", experiment="a", subject="s", implementation="m:f", values={})
