"""The run store: atomic, append-only, immutable once finished, and free of private metadata."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_up
from cometbench.errors import CometbenchError
from cometbench.model import Machine
from cometbench.store import ResultsError, RunStore, load_latency, load_machine, load_run, write_atomically
from cometbench.validate import validate_tree


def _create(root: Path, **changes: Any) -> RunStore:
    arguments: dict[str, Any] = {
        "commit": "0123abc4567",
        "dirty": False,
        "seed": 7,
        "started_utc": "2025-01-31T12:00:00Z",
    }
    return RunStore.create(root, made_up.MACHINE, "smoke", **{**arguments, **changes})


def test_a_new_run_is_on_disk_at_once_and_unfinished(tmp_path: Path) -> None:
    store = _create(tmp_path)
    assert store.path == tmp_path / "made-up-0123abcd" / "20250131T120000Z-0123abc-smoke"
    assert load_run(store.path).finished_utc is None
    assert load_machine(store.path.parent) == made_up.MACHINE


def test_each_measurement_is_on_disk_when_add_returns(tmp_path: Path) -> None:
    store = _create(tmp_path)
    store.put([made_up.floors()[0]])
    store.put([made_up.measurement("Q.batch1.mmap.processes1", 100.0)])
    stored = load_run(store.path)
    assert [m.name for m in stored.floors] == ["floor.clock_read"]
    assert [m.name for m in stored.measurements] == ["Q.batch1.mmap.processes1"]
    assert stored == store.run


def _add_until_killed(root: Path, connection: Any) -> None:
    store = _create(root)
    for number in range(10_000):
        store.put([made_up.measurement(f"made.up{number}", 1.0 + number)])
        connection.send(number)


def test_what_was_added_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_add_until_killed, args=(tmp_path, there))
    process.start()
    there.close()
    acknowledged = -1
    while acknowledged < 20:
        acknowledged = here.recv()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    try:
        while True:
            acknowledged = here.recv()
    except EOFError:
        pass
    names = [
        m.name
        for m in load_run(tmp_path / "made-up-0123abcd" / "20250131T120000Z-0123abc-smoke").measurements
    ]
    assert names[: acknowledged + 1] == [f"made.up{number}" for number in range(acknowledged + 1)]
    assert len(names) <= acknowledged + 2


def test_what_is_put_again_takes_its_place(tmp_path: Path) -> None:
    store = _create(tmp_path)
    store.put([made_up.floors()[0], made_up.measurement("a.b", 1.0), made_up.measurement("a.c", 2.0)])
    store.put([made_up.measurement("a.b", 3.0)])
    stored = load_run(store.path)
    assert [m.name for m in stored.all_measurements()] == ["floor.clock_read", "a.b", "a.c"]
    assert stored.find("a.b").samples[0].values == [3.0 * made_up.SPREAD[0]] * 3


def test_an_interrupted_run_is_opened_again_with_its_samples_and_a_finished_one_is_not(
    tmp_path: Path,
) -> None:
    store = _create(tmp_path)
    store.put([made_up.measurement("a.b", 1.0)])
    store.add_latency("a.b", [1, 2])
    store.finish([], interrupted=True)
    again = RunStore.resume(store.path)
    again.put([made_up.measurement("a.c", 1.0)])
    again.add_latency("a.c", [3])
    assert [m.name for m in load_run(store.path).measurements] == ["a.b", "a.c"]
    assert sorted(load_latency(store.path)) == ["a.b", "a.c"]
    again.finish([])
    with pytest.raises(ResultsError, match="finished and immutable"):
        RunStore.resume(store.path)


def test_a_finished_run_is_immutable(tmp_path: Path) -> None:
    store = _create(tmp_path)
    store.finish([])
    with pytest.raises(ResultsError, match="finished and immutable"):
        store.put([made_up.measurement("a.b", 1.0)])
    with pytest.raises(ResultsError, match="finished and immutable"):
        store.finish([])
    with pytest.raises(ResultsError, match="finished and immutable"):
        store.add_latency("a", [1])
    with pytest.raises(ResultsError, match="finished and immutable"):
        store.attach_pyperf(_Suite())


def test_an_interrupted_run_keeps_what_it_has_and_stays_unfinished(tmp_path: Path) -> None:
    store = _create(tmp_path)
    store.put([made_up.measurement("a.b", 1.0)])
    store.finish([], interrupted=True)
    stored = load_run(store.path)
    assert stored.finished_utc is None
    assert len(stored.measurements) == 1


def test_a_run_directory_is_never_taken_twice(tmp_path: Path) -> None:
    _create(tmp_path)
    with pytest.raises(ResultsError, match="runs are never overwritten"):
        _create(tmp_path)


def test_another_machine_under_the_same_id_is_refused(tmp_path: Path) -> None:
    _create(tmp_path)
    other = Machine(machine_id=made_up.MACHINE.machine_id, label="other", hardware={"cpu": "another"})
    with pytest.raises(ResultsError, match="other hardware"):
        RunStore.create(tmp_path, other, "smoke", commit="fffffff", dirty=False, seed=1)


class _Suite:
    """Stands in for pyperf.BenchmarkSuite: the same method, a document with private metadata."""

    def dump(self, file: Any, **_: bool) -> None:
        metadata = {"hostname": "secret", "python_executable": "/opt/secret", "loops": 4}
        run = {"metadata": dict(metadata), "values": [1.0, 2.0]}
        json.dump(
            {"metadata": dict(metadata), "benchmarks": [{"metadata": dict(metadata), "runs": [run]}]}, file
        )


def test_the_pyperf_suite_is_stored_without_private_metadata(tmp_path: Path) -> None:
    store = _create(tmp_path)
    store.attach_pyperf(_Suite())
    text = gzip.decompress((store.path / "pyperf.json.gz").read_bytes()).decode()
    assert "secret" not in text
    assert json.loads(text)["benchmarks"][0]["runs"][0] == {"metadata": {"loops": 4}, "values": [1.0, 2.0]}


def test_latency_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    store = _create(tmp_path)
    store.add_latency("G.mmap", np.arange(5, dtype=np.int64))
    store.add_latency("G.sync", [2.5, 3.5])
    stored = load_latency(store.path)
    assert sorted(stored) == ["G.mmap", "G.sync"]
    assert stored["G.mmap"].tolist() == [0, 1, 2, 3, 4]


def test_loading_names_the_file_and_the_field(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"run\.json does not exist"):
        load_run(tmp_path / "run.json")
    store = _create(tmp_path)
    document = json.loads((store.path / "run.json").read_text())
    document["seed"] = "seven"
    (store.path / "run.json").write_text(json.dumps(document))
    with pytest.raises(CometbenchError, match=r"run\.json: seed: "):
        load_run(store.path)
    (store.path / "run.json").write_text("{")
    with pytest.raises(ResultsError, match=r"run\.json"):
        load_run(store.path)


def test_an_atomic_write_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_flame_graphs_lie_in_a_folder_of_their_own_and_the_newest_stays(tmp_path: Path) -> None:
    store = _create(tmp_path)
    store.add_flame_graph("Y.a.txt", "a;b 1\n")
    store.add_flame_graph("Y.a.txt", "a;b 2\n")
    assert (store.path / "flamegraphs" / "Y.a.txt").read_text() == "a;b 2\n"
    assert validate_tree(tmp_path) == []
