"""cometlog as a subject: every write path, batch shape and number of processes, verified entry by entry."""

from __future__ import annotations

import shutil

import pytest
from faulty_experiments import raw

import cometlog
from cometbench.benchmark import ENGINE_SUBJECT
from cometbench.many_processes import ManyProcesses
from cometbench.measuring import OneProcess
from cometbench.subjects.engine import engine_config
from cometbench.syscalls import count_syscalls


def engine(**changes):
    config = {"write_path": "mmap", "preset": "default", **changes.pop("config", {})}
    return raw("test.engine", ENGINE_SUBJECT, config=config, **changes)


@pytest.mark.parametrize("batch", [1, 10, 1000])
@pytest.mark.parametrize("write_path", ["mmap", "buffered", "sync", "async"])
def test_every_path_and_batch_is_measured_and_read_back(tmp_path, write_path, batch):
    durability = "survives_power_loss" if write_path in ("sync", "async") else "survives_process_crash"
    task = OneProcess(
        engine(batch=batch, durability=durability, config={"write_path": write_path}), tmp_path, 1
    )
    assert task.seconds(3) > 0
    assert task.seconds(5) > 0
    finding = task.finish()
    assert (finding.status, finding.entries_found, finding.detail) == ("ok", 8 * batch, "")


@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("via", ["writer", "client"])
def test_both_handles_append_the_same(tmp_path, via, batch):
    task = OneProcess(engine(batch=batch, config={"via": via}), tmp_path, 1)
    task.seconds(50)
    finding = task.finish()
    assert (finding.status, finding.entries_found) == ("ok", 50 * batch)


def test_rotation_is_part_of_what_is_verified(tmp_path):
    task = OneProcess(engine(batch=100, config={"segment_size_bytes": 1 << 20}), tmp_path, 1)
    task.seconds(400)
    assert len(list((tmp_path / "log").rglob("*.seg"))) >= 4
    finding = task.finish()
    assert (finding.status, finding.entries_found) == ("ok", 40_000)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_on_one_shard_lose_nothing(tmp_path, processes):
    preset = {"preset": "multi_process"}
    task = ManyProcesses(engine(workload="json_shared", processes=processes, config=preset), tmp_path, 1)
    task.seconds(500)
    task.seconds(2000)
    finding = task.finish()
    assert (finding.status, finding.entries_found, finding.detail) == ("ok", processes * 2500, "")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_sync_calls_for_the_disk_on_every_append_and_mmap_never(tiny, root, extra):
    counted = {}
    for write_path in ("sync", "mmap"):
        benchmark = engine(config={"write_path": write_path}, durability="survives_power_loss")
        counted[write_path] = count_syscalls(benchmark, tiny, root, 1, [extra])
    assert counted["sync"].samples[0].values[0] >= 2
    assert "fdatasync" in counted["sync"].extra["appending_thread_names"]
    assert counted["mmap"].extra["appends"] == 2000
    assert "write" not in counted["mmap"].extra["appending_thread_names"]
    assert "sync" not in counted["mmap"].extra["appending_thread_names"]


def test_a_benchmark_sets_any_field_of_the_engines_configuration_over_a_preset():
    settings = {"preset": "ultra_low_latency", "write_path": "mmap", "storage.checkpoint_interval_ms": 30_000,
                "segment_size_bytes": 1 << 20, "retention.interval_s": 1.0, "loads": "50"}  # fmt: skip
    config = engine_config(settings)
    preset = cometlog.Config.ultra_low_latency()
    assert (config.storage.checkpoint_interval_ms, config.storage.segment_size_bytes) == (30_000, 1 << 20)
    assert config.retention.interval_s == 1.0
    assert config.compression == preset.compression


def test_a_field_that_the_engine_does_not_have_is_named():
    with pytest.raises(cometlog.ConfigurationError, match=r"unknown field storage\.checkpoint"):
        engine_config({"storage.checkpoint": 5})
