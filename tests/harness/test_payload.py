"""A user's own entries: every line an entry, verified like any other, never a path in a result."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from faulty_experiments import raw

from cometbench import cli, workloads
from cometbench.cli.measuring import default_directory
from cometbench.errors import CannotMeasureError, SubjectError, UsageError
from cometbench.experiment import choose, load_experiments
from cometbench.payload import ENVIRONMENT_NAME, use_payload
from cometbench.profiling.catalogue import WORKS, with_entries
from cometbench.runner import Runner


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def use(text: bytes) -> str:
        file = tmp_path / f"entries-{len(text)}.jsonl"
        file.write_bytes(text)
        monkeypatch.setenv(ENVIRONMENT_NAME, "")
        return use_payload(file)

    return use


def test_lines_are_entries_over_and_over(use):
    workload = use(b'{"a":1}\n\n{"b":2}\r\n{"a":1}')
    assert workloads.build_pool(workload, 5, seed=1) == [
        b'{"a":1}',
        b'{"b":2}',
        b'{"a":1}',
        b'{"a":1}',
        b'{"b":2}',
    ]
    assert use(b'{"a":1}\n') != workload


def test_processes_share_no_line(use):
    workload = use(b"\n".join(b"%d" % (number % 20) for number in range(60)))
    pools = [set(workloads.build_pool(workload, 40, 1, process, 8)) for process in range(8)]
    assert sorted(entry for pool in pools for entry in pool) == sorted(b"%d" % number for number in range(20))
    with pytest.raises(CannotMeasureError, match="1 different entries; 2 processes"):
        workloads.build_pool(use(b"same\nsame\n"), 4, 1, 0, 2)


def test_bad_files_are_named_with_the_limit(use, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="holds no entry"):
        use(b"\n\n")
    with pytest.raises(UsageError, match="entry 2 has 1,048,577 bytes; at most 1,048,576"):
        use(b"a\n" + b"x" * (1 << 20) + b"x\n")
    monkeypatch.setattr("cometbench.payload.FILE_BYTES_MAX", 3)
    with pytest.raises(UsageError, match="has 4 bytes; at most 3"):
        use(b"abcd")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        use_payload(tmp_path / "missing")
    with pytest.raises(SubjectError, match="does not name the file"):
        workloads.build_pool("payload-000000000000", 1, 1)


def test_repeated_and_few_lines_are_measured_and_verified(use, stand):
    workload = use(
        b"\n".join([b'{"level":"INFO"}', b'{"level":"WARN"}', b'{"level":"INFO"}'] * 3 + [b"x", b"y"])
    )
    benchmarks = [
        raw("test.single", workload=workload),
        raw("test.batch", workload=workload, batch=100),
        raw("test.shared", workload=workload, processes=4),
        raw("test.many", workload=workload, processes=8),
        raw("test.faulty", "FaultyFile", workload=workload, config={"fault": "drop", "at": 0}),
    ]
    runner = Runner(
        benchmarks, stand.profile, stand.root, seed=1, progress=stand.progress, search_path=[stand.extra]
    )
    runner.run()
    found = {measurement.name: measurement for measurement in runner.measurements()}
    for name in ("test.single", "test.batch", "test.shared"):
        assert found[name].failure is None
        assert found[name].verification.status == "ok"
        assert found[name].workload == workload
        assert os.environ[ENVIRONMENT_NAME] not in found[name].model_dump_json()
    assert found["test.many"].failure == "the payload has 4 different entries; 8 processes need as many"
    assert runner.beyond_this_machine() == {"test.many"}
    assert "verification failed" in found["test.faulty"].failure


def test_every_benchmark_but_a_floor_takes_the_payload():
    here = Path(__file__).resolve().parents[2]
    for experiment in choose(load_experiments(here), []):
        changed = experiment.with_workload("payload-0")
        for before, after in zip(experiment.benchmarks, changed.benchmarks, strict=True):
            assert after.workload == (before.workload if before.workload == "none" else "payload-0")
        assert changed.measurement_names() == experiment.measurement_names()
    assert default_directory(here) == here / "build" / "bench"


@pytest.mark.parametrize("section", ["C", "F", "T", "Y"])
def test_probes_that_name_workloads_in_their_config_take_the_payload(section):
    experiment = load_experiments(Path(__file__).resolve().parents[2])[section]
    for before, after in zip(experiment.probes, experiment.with_workload("payload-0").probes, strict=True):
        named = {key for key in before.config if key.endswith("workload")}
        assert named == {key for key, value in after.config.items() if value == "payload-0"}
        appends = before.implementation.endswith((":compare", ":budgets", ":py_spy_profile", ":checklist"))
        assert named or not appends, before.name


def test_a_profiled_work_that_appends_takes_the_payload():
    assert with_entries(WORKS["batch10_mmap"], "payload-0") == {
        **WORKS["batch10_mmap"],
        "workload": "payload-0",
    }
    assert with_entries(WORKS["batch10_mmap"], "") is WORKS["batch10_mmap"]
    assert with_entries(WORKS["cold_map"], "payload-0") is WORKS["cold_map"]


def test_an_empty_payload_is_wrong_use(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    done = CliRunner().invoke(
        cli.build(), ["run", "--payload", str(tmp_path / "empty"), "--sections", "floors"]
    )
    assert done.exit_code == 2
    assert "holds no entry" in done.output
