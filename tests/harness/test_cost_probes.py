"""Probes of what things cost: each once through the real worker, with exact counts, and what they must notice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zstandard
from faulty_experiments import raw

import cometlog
from cometbench import _malloc_count, workloads
from cometbench.benchmark import ENGINE_SUBJECT, STREAM
from cometbench.checkout import find_checkout
from cometbench.experiment import load_experiments
from cometbench.many_processes import ManyProcesses
from cometbench.many_threads import ManyThreads
from cometbench.measuring import Writing
from cometbench.probe import Task
from cometbench.probes import handlers, pages, places, variants
from cometbench.probes.stored import frame_bytes
from cometbench.profiles import PROFILES
from cometbench.runner import Runner
from cometbench.subjects import engine
from cometlog import reference
from cometlog.kernel import layout

SECTIONS = ("C", "F", "T", "M", "X-pages")
PROBES = {
    probe.name: probe
    for section in SECTIONS
    for probe in load_experiments(find_checkout(Path(__file__).parent))[section].probes
}
# What a probe checks whatever time it is given, and what may be refused to it.
EXPECTED = {"C.default": 28, "M.index": 16, "T.disk": 200, "F.handler": 300, "M.deployment": 3200}
# Values that repeat exactly: a count, or what the format gives.
EXACT = {
    "M.allocations.ack_position_allocations": 0.0,
    "M.allocations.q1_mmap_allocations": 1.0,
    "M.allocations.q1_mmap_bytes": 28.0,
    "C.default.violations": 0.0,
    "F.handler.inside_lost": 0.0,
    "F.handler.pooled_lost": 0.0,
    "X.huge_pages.small_mapped_huge": 0.0,
}
# One of the probes of variants shows what all of them run; the smoke run takes the others.
ONCE = [
    name
    for name, probe in PROBES.items()
    if not probe.implementation.endswith(":compare") or name in ("T.cores", "T.storage")
]
REFUSED = {"T.access_times": "mount", "X.huge_pages": "mount", "X.numa": "NUMA"}


@pytest.mark.parametrize("name", ONCE)
def test_each_probe_yields_every_value_and_reads_back_what_it_wrote(name, root, spoken, extra):
    progress, said = spoken
    runner = Runner([PROBES[name]], PROFILES["smoke"], root, seed=11, progress=progress, search_path=[extra])
    runner.run()
    found = {measurement.name: measurement for measurement in runner.measurements()}
    assert set(found) == set(PROBES[name].measurement_names()), said()
    if runner.beyond_this_machine():
        assert REFUSED[name] in next(iter(found.values())).failure
        return
    for measurement in found.values():
        assert measurement.failure is None, measurement.failure
        value = measurement.samples[0].values[0]
        assert value == EXACT.get(measurement.name, value), measurement.name
        verification = measurement.verification
        assert verification.status == "ok", verification.detail
        assert verification.entries_found == verification.entries_expected
        assert verification.entries_found == EXPECTED.get(name, verification.entries_found) > 0


def test_what_is_preloaded_counts_each_allocation_and_its_bytes():
    program = (
        "from cometbench._malloc_count import count_calls, is_preloaded\n"
        "print(is_preloaded(), count_calls(bytes, [1000, 2000]), count_calls(bytes.ljust, [(b'x', 500)]), count_calls(len, ['x']))"
    )
    said = {}
    for library in ("", _malloc_count.__file__):
        environment = os.environ | {"LD_PRELOAD": library, "PYTHONMALLOC": "malloc"}
        said[bool(library)] = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout
    empty = sys.getsizeof(b"")
    assert said[True] == f"True [(1, {1000 + empty}), (1, {2000 + empty})] [(1, {500 + empty})] [(0, 0)]\n"
    assert said[False] == "False [(0, 0), (0, 0)] [(0, 0)] [(0, 0)]\n"


def _task(tmp_path, probe, seconds=0.02):
    return Task(probe, tmp_path, 7, seconds)


def test_the_stored_share_is_that_of_the_frames_which_the_reference_encodes(tmp_path):
    plain = {"compression.threshold_bytes": 1 << 30}
    probe = variants.variants_probe(
        "x.sizes",
        {"plain": plain, "packed": {"compression.threshold_bytes": 1}},
        {"workload": "json_order", "batch": 10},
        sizes=("plain_stored", "packed_saved", "packed_ratio"),
    )
    outcome = variants.compare(_task(tmp_path, probe))
    batch = variants.pool_of("json_order", 10, 7)[:10]
    joined = reference.encode_batch(batch)
    packed = zstandard.ZstdCompressor(level=1, write_content_size=True).compress(joined)
    given = sum(map(len, batch))
    assert outcome.values["plain_stored"] == pytest.approx(_frame(joined) / given, rel=0.02)
    assert outcome.values["packed_saved"] == pytest.approx(100 * (1 - _frame(packed) / given), abs=2)
    assert outcome.values["packed_ratio"] == pytest.approx(1 / (1 - outcome.values["packed_saved"] / 100))


def _frame(payload):
    """Bytes of a frame around a payload: header, and padding to whole units."""
    unit = layout.UNIT_BYTES
    return -(-(layout.FRAME_HEADER_BYTES + len(payload)) // unit) * unit


def test_a_variant_that_loses_an_entry_fails_the_probe(tmp_path, monkeypatch):
    probe = variants.variants_probe(
        "x.lost", {"one": {}, "two": {}}, {"workload": "json_line"}, sizes=("one_stored",)
    )
    timed = Writing.timed

    def forgetful(self, items):
        result = timed(self, items[1:])
        self.appended.count += 1
        self.appended.acknowledged.clear()
        return result

    monkeypatch.setattr(Writing, "timed", forgetful)
    outcome = variants.compare(_task(tmp_path, probe))
    assert outcome.finding.status == "failed"
    assert "entry 0 lost" in outcome.finding.detail


def test_frame_bytes_count_frames_and_not_what_is_backed_ahead(tmp_path):
    with cometlog.open(tmp_path) as client:
        client.append(STREAM, [b"x" * 1000])
        assert 1000 < frame_bytes(tmp_path) <= 1064
        client.append(STREAM, [b"x" * 1000])
        assert 2000 < frame_bytes(tmp_path) <= 2128


@pytest.mark.parametrize("kind", [ManyProcesses, ManyThreads])
def test_writers_dealt_out_to_shards_are_verified_on_each(tmp_path, kind):
    benchmark = raw("test.shards", ENGINE_SUBJECT, workload="json_shared", processes=3, config={"shards": 2})
    task = kind(benchmark, tmp_path, 1)
    assert task.seconds(100) > 0
    finding = task.finish()
    assert (finding.status, finding.entries_found) == ("ok", 300)
    with cometlog.open(tmp_path / "log", read_only=True) as client:
        assert [client.entry_count(stream) for stream in client.streams()] == [200, 100]


def test_an_entry_on_the_wrong_shard_is_found(tmp_path):
    benchmark = raw("test.shards", ENGINE_SUBJECT, workload="json_shared", processes=2, config={"shards": 2})
    task = ManyProcesses(benchmark, tmp_path, 1)
    task.seconds(10)
    with cometlog.open(tmp_path / "log") as client:
        client.append("bench:v1:shard:0001", [b"stranger"])
    finding = task.finish()
    assert finding.status == "failed"
    assert "bench:v1:shard:0001" in finding.detail


def test_a_handler_that_skips_an_entry_fails_the_probe(tmp_path, monkeypatch):
    def skipping(handle):
        _, finish = handlers._inside(handle)
        return lambda batch: [handle(entry.data) for entry in list(batch)[1:]] and None, finish

    monkeypatch.setitem(handlers.WAYS, "inside", skipping)
    outcome = handlers.slow_handler(_task(tmp_path, PROBES["F.handler"]))
    assert outcome.finding.status == "failed"
    assert outcome.finding.detail.startswith("inside: 98 handled of 100")


def test_only_the_queue_can_lose_what_it_acknowledged(tmp_path):
    threads = threading.active_count()
    outcome = handlers.slow_handler(_task(tmp_path, PROBES["F.handler"], 0.3))
    assert outcome.values["inside_lost"] == outcome.values["pooled_lost"] == 0
    assert 0 <= outcome.values["queued_lost"] <= 360
    assert threading.active_count() == threads


def test_a_far_node_is_measured_where_there_is_one(tmp_path, monkeypatch):
    nodes, tools = tmp_path / "nodes", tmp_path / "tools"
    for name in ("node0", "node1"):
        (nodes / name).mkdir(parents=True)
    tools.mkdir()
    (tools / "numactl").write_text('#!/bin/sh\necho "$1 $2" >> "$NUMACTL_LOG"\nshift 2\nexec "$@"\n')
    (tools / "numactl").chmod(0o700)
    monkeypatch.setattr(pages, "NODES", nodes)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NUMACTL_LOG", str(tmp_path / "log"))
    outcome = pages.numa(_task(tmp_path, PROBES["X.numa"]))
    assert set(outcome.values) == {"local", "remote"}
    assert (outcome.finding.status, outcome.finding.entries_found) == ("ok", 20_000)
    assert (tmp_path / "log").read_text() == "--cpunodebind=0 --membind=0\n--cpunodebind=0 --membind=1\n"


def test_a_mount_that_is_refused_says_which(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "_run", places._run)
    with pytest.raises(places.CannotMeasureError, match="mount -t tmpfs -o is refused here"):
        places.mount_tmpfs(tmp_path / "missing", "size=1m")


def test_variants_of_one_group_take_turns_and_groups_follow_one_another(tmp_path, monkeypatch):
    opened = []
    real = variants._open
    monkeypatch.setattr(variants, "_open", lambda own, *rest: opened.append(list(own)) or real(own, *rest))
    described = {"a": {"group": "1"}, "b": {"group": "2"}, "c": {"group": "1"}}
    probe = variants.variants_probe("x.groups", described, {"workload": "json_line"})
    assert set(variants.compare(_task(tmp_path, probe)).values) == {"a", "b", "c"}
    assert opened == [["a", "c"], ["b"]]


def test_a_dictionary_is_trained_on_other_entries_than_it_compresses():
    trained_on = workloads.build_pool("json_order", 100, engine._SAMPLES_SEED)
    assert not set(trained_on) & set(variants.pool_of("json_order", 100, 7))
    assert sys.getsizeof(engine._trained("json_order", 500)) <= engine.DICTIONARY_SIZE_BYTES + 64
