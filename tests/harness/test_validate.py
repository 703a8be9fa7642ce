"""The validator finds each kind of damage in a results tree and says where."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import made_up
from cometbench import cli
from cometbench.evaluate import evaluate_claims
from cometbench.guide import write_guide
from cometbench.report import write_report
from cometbench.store import RunStore
from cometbench.validate import validate_tree

RUN = "made-up-0123abcd/20250131T120000Z-0123abc-quick"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_guide(tmp_path)
    store = RunStore.create(
        tmp_path,
        made_up.MACHINE,
        "quick",
        commit="0123abc4567",
        dirty=False,
        seed=7,
        started_utc="2025-01-31T12:00:00Z",
    )
    for measurement in made_up.section_g():
        store.put([measurement])
        if measurement.latency is not None:
            store.add_latency(measurement.latency.key, [1, 2, 3])
    store.finish(evaluate_claims(store.run))
    write_report(store.path)
    return tmp_path


def _edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_a_tree_the_harness_wrote_is_valid(tree: Path) -> None:
    assert validate_tree(tree) == []


@pytest.mark.parametrize(
    ("file", "change", "place", "message"),
    [
        (f"{RUN}/run.json", lambda d: d.pop("seed"), f"{RUN}/run.json", "seed"),
        (f"{RUN}/run.json", lambda d: d.update(surprise=1), f"{RUN}/run.json", "surprise"),
        (f"{RUN}/run.json", lambda d: d.update(run_id="other"), RUN, "the folder holds run other"),
        (f"{RUN}/run.json", lambda d: d.update(machine_id="other"), RUN, "the run names machine other"),
        (f"{RUN}/run.json", lambda d: d["measurements"].pop(0), RUN, "rests on G.buffered.batch1"),
        (f"{RUN}/run.json", lambda d: d.update(claims=[]), RUN, "finished but holds no claims"),
        (
            f"{RUN}/run.json",
            lambda d: d["measurements"].append(d["measurements"][0]),
            f"{RUN}/run.json",
            "appears twice",
        ),
        (
            f"{RUN}/run.json",
            lambda d: d["measurements"][0].update(samples=[]),
            f"{RUN}/run.json",
            "neither samples nor",
        ),
        (
            f"{RUN}/run.json",
            lambda d: d["claims"][0].update(verdict="fine"),
            f"{RUN}/run.json",
            "claims.0.verdict",
        ),
        (
            f"{RUN}/run.json",
            lambda d: d["environment"].update(cwd="/home/someone"),
            f"{RUN}/run.json",
            "private text",
        ),
        (
            "made-up-0123abcd/machine.json",
            lambda d: d.update(machine_id="another"),
            "made-up-0123abcd",
            "machine another",
        ),
        (
            "guide-apple-m2/published/run.json",
            lambda d: d.update(seed=1),
            "guide-apple-m2/published",
            "differs from",
        ),
    ],
)
def test_damage_to_a_record_is_named(
    tree: Path, file: str, change: Callable[[dict[str, Any]], object], place: str, message: str
) -> None:
    _edit(tree / file, change)
    assert [p.place for p in validate_tree(tree) if message in p.message][:1] == [place]


def test_foreign_files_and_folders_are_named(tree: Path) -> None:
    (tree / "notes.txt").write_text("x")
    (tree / "made-up-0123abcd" / "scratch.json").write_text("{}")
    (tree / RUN / "core").write_text("x")
    (tree / RUN).rename(tree / "made-up-0123abcd" / "my-best-run")
    messages = [f"{p.place}: {p.message}" for p in validate_tree(tree)]
    assert "notes.txt: only machine folders and .md pages belong here" in messages
    assert "made-up-0123abcd/scratch.json: only machine.json and run folders belong here" in messages
    assert "made-up-0123abcd/my-best-run: core does not belong in a run" in messages
    assert "made-up-0123abcd/my-best-run: the folder is not named <UTC time>-<commit7>-<profile>" in messages


def test_missing_latency_samples_and_damaged_archives_are_named(tree: Path) -> None:
    (tree / RUN / "latency.npz").unlink()
    assert [p.message for p in validate_tree(tree)] == [
        f"lacks the samples G.{path}.latency" for path in ("async", "buffered", "mmap", "sync")
    ]
    (tree / RUN / "latency.npz").write_bytes(b"PK not a zip")
    assert [p.place for p in validate_tree(tree)] == [f"{RUN}/latency.npz"]


def test_pyperf_file_with_a_host_name_or_damage_is_named(tree: Path) -> None:
    file = tree / RUN / "pyperf.json.gz"
    file.write_bytes(gzip.compress(json.dumps({"metadata": {"hostname": "h"}, "benchmarks": []}).encode()))
    assert [p.message for p in validate_tree(tree)] == ["holds private metadata: hostname"]
    file.write_bytes(file.read_bytes()[:-9])
    assert [p.place for p in validate_tree(tree)] == [f"{RUN}/pyperf.json.gz"]


def test_the_command_prints_problems_and_exits_1(tree: Path) -> None:
    sound = CliRunner().invoke(cli.build(), ["validate", str(tree)])
    assert (sound.exit_code, sound.output) == (0, "results are valid: 2 machines, 2 runs\n")
    no_tree = CliRunner().invoke(cli.build(), ["validate", str(tree / RUN)])
    assert no_tree.exit_code == 2
    assert "holds no machine's folder: give a results tree" in no_tree.output
    (tree / RUN / "core").write_text("x")
    outcome = CliRunner().invoke(cli.build(), ["validate", str(tree)])
    assert outcome.exit_code == 1
    assert f"{RUN}: core does not belong in a run" in outcome.output
    listed = json.loads(CliRunner().invoke(cli.build(), ["validate", str(tree), "--json"]).output)
    assert listed == [{"place": RUN, "message": "core does not belong in a run"}]
