"""The results tree as frames: one row a measurement, value and claim, each naming machine and run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import made_up
from cometbench import frames
from cometbench.evaluate import evaluate_claims
from cometbench.store import RunStore, to_json_bytes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three runs of one machine: quick, then full, then a newer quick one that was interrupted."""
    for profile, minute, value, interrupted in (
        ("full", 0, 100.0, False),
        ("quick", 1, 50.0, False),
        ("quick", 2, 1.0, True),
    ):
        store = RunStore.create(tmp_path, made_up.MACHINE, profile, commit="0" * 40, dirty=False, seed=1,
                                started_utc=f"2025-01-31T12:0{minute}:00Z")  # fmt: skip
        store.put(
            [
                made_up.measurement("G.mmap.batch1", value),
                made_up.measurement("G.sync.batch1", 3 * value, subject="sync"),
            ]
        )
        store.put(made_up.floors())
        store.finish(evaluate_claims(store.run), interrupted=interrupted)
    return tmp_path


def test_the_newest_finished_run_stands_for_a_machine_full_before_quick(root):
    assert [run.started_utc for run in frames.load_runs(root)] == [
        f"2025-01-31T12:0{n}:00Z" for n in range(3)
    ]
    (latest,) = frames.latest_runs(root)
    assert (latest.profile, latest.started_utc) == ("full", "2025-01-31T12:00:00Z")
    assert frames.machine_labels(root) == {"made-up-0123abcd": "Made-up machine"}


def test_a_newer_run_of_other_sections_does_not_stand_for_its_machine(root):
    store = RunStore.create(root, made_up.MACHINE, "full", commit="0" * 40, dirty=False, seed=1,
                            started_utc="2025-02-28T12:00:00Z", environment={"sections": ["floors", "forward"]})  # fmt: skip
    store.put(made_up.floors())
    store.finish(evaluate_claims(store.run))
    (latest,) = frames.latest_runs(root)
    assert latest.started_utc == "2025-01-31T12:00:00Z"


def test_a_run_in_memory_is_a_place_of_its_own_and_stands_for_a_machine_only_where_there_is_none_on_a_disk(
    root,
):
    kept = {"environment": {"file_system": "tmpfs"}}
    store = RunStore.create(root, made_up.MACHINE, "full", commit="0" * 40, dirty=False, seed=1,
                            started_utc="2025-01-31T12:05:00Z", **kept)  # fmt: skip
    store.put([made_up.measurement("G.mmap.batch1", 10.0).model_copy(update={"file_system": "tmpfs"})])
    store.finish(evaluate_claims(store.run))
    (latest,) = frames.latest_runs(root)
    assert latest.started_utc == "2025-01-31T12:00:00Z"
    both = frames.latest_runs(root, by_file_system=True)
    assert sorted(frames.place_labels(both, root).values()) == ["Made-up machine", "Made-up machine, tmpfs"]
    for path in root.glob("*/*00-*"):
        if not path.name.startswith("20250131T120500Z"):
            shutil.rmtree(path)
    (only,) = frames.latest_runs(root)
    assert only.environment["file_system"] == "tmpfs"


def test_two_machines_of_one_make_have_names_of_their_own(root):
    twin = made_up.MACHINE.model_copy(update={"machine_id": "m-89abcdef"})
    (root / "m-89abcdef").mkdir()
    (root / "m-89abcdef" / "machine.json").write_bytes(to_json_bytes(twin))
    assert frames.machine_labels(root) == {
        "made-up-0123abcd": "Made-up machine (made)",
        "m-89abcdef": "Made-up machine (89ab)",
    }


def test_each_measurement_is_a_row_with_its_interval(root):
    frame = frames.measurements_frame(frames.load_runs(root)).set_index(["run", "name"])
    row = frame.loc[("20250131T120000Z-0000000-full", "G.mmap.batch1")]
    assert (row["value"], row["workers"], row["entries"], row["unit"]) == (100.0, 5, 1000, "ns")
    assert row["low"] < row["value"] < row["high"]
    assert len(frame) == 3 * (2 + len(made_up.floors()))


def test_each_value_and_each_claim_is_a_row(root):
    runs = frames.load_runs(root)
    values = frames.samples_frame(runs, "G.sync.batch1")
    assert len(values) == 3 * 5 * 3
    assert set(values["round"]) == set(range(5))
    claims = frames.claims_frame(runs).set_index(["run", "claim"])
    assert claims.loc[
        ("20250131T120000Z-0000000-full", "G-r.gain.sync_over_mmap"), "measured"
    ] == pytest.approx(3.0)
    assert frames.samples_frame(runs, "nothing").empty


def test_a_ratio_is_paired_in_rounds_and_absent_where_a_side_is(root):
    (latest,) = frames.latest_runs(root)
    assert frames.paired_ratio(latest, "G.sync.batch1", "G.mmap.batch1").value == pytest.approx(3.0)
    assert frames.paired_ratio(latest, "G.sync.batch1", "G.async.batch1") is None


def test_the_committed_tree_loads_and_holds_the_guide():
    runs = frames.latest_runs(frames.results_root(Path(__file__).parent))
    assert "guide-apple-m2" in {run.machine_id for run in runs}
    assert {"machine", "run", "name", "value"} <= set(frames.measurements_frame(runs).columns)
