"""The command line of the measuring side, as real processes: exit codes, messages, what is kept."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cometbench.store import load_run


def cometbench(*arguments, env=None):
    command = [sys.executable, "-c", "from cometbench.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)


@pytest.fixture
def run_arguments(tmp_path, extra):
    return [
        "run",
        "--extra",
        extra,
        "--results",
        tmp_path / "results",
        "--directory",
        tmp_path / "bench",
        "--seed",
        "5",
    ]


def only_run(tmp_path):
    (path,) = (tmp_path / "results").glob("*/*/run.json")
    return load_run(path)


def test_an_unknown_profile_is_named_with_those_that_exist(run_arguments):
    done = cometbench(*run_arguments, "--profile", "heroic")
    assert done.returncode == 2
    assert "unknown profile 'heroic'; allowed: smoke, quick, full" in done.stderr


def test_an_unknown_section_is_named_with_those_that_exist(run_arguments, tmp_path):
    done = cometbench(*run_arguments, "--sections", "Q,Zed")
    assert done.returncode == 2
    assert "unknown section 'Zed'; allowed: floors, A, G, goals, Q" in " ".join(done.stderr.split())
    assert not (tmp_path / "results").exists()


def test_a_bench_directory_that_is_a_file_is_wrong_use(run_arguments, tmp_path):
    (tmp_path / "bench").write_text("")
    done = cometbench(*run_arguments, "--profile", "smoke", "--sections", "losing")
    assert done.returncode == 2
    assert "bench directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_run_that_lost_an_entry_fails_and_names_it(run_arguments, tmp_path):
    done = cometbench(*run_arguments, "--profile", "smoke", "--sections", "losing")
    assert done.returncode == 1
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    assert "FAILED test.drops: verification failed: stream bench:v1:shard:0000: entry 37 lost" in errors[0]
    assert (
        "FAILED test.alters: verification failed: stream bench:v1:shard:0000: entry 41 altered" in errors[1]
    )
    run = only_run(tmp_path)
    assert run.find("test.sound").verification.status == "ok"
    assert run.find("test.drops").verification.status == "failed"
    assert run.find("floor.cas").samples
    assert run.finished_utc is not None
    assert list((tmp_path / "bench").iterdir()) == []


def test_ctrl_c_keeps_what_finished_and_says_so(run_arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENINGS_FILE", str(tmp_path / "openings"))
    done = cometbench(*run_arguments, "--profile", "quick", "--sections", "interrupted")
    assert done.returncode == 130, done.stderr
    assert "Interrupted: the 10 measurements that have values are kept" in done.stderr
    run = only_run(tmp_path)
    assert run.finished_utc is None
    assert {measurement.name for measurement in run.measurements} == {"test.plain", "test.interrupts"}
    assert len(run.find("test.interrupts").samples) == 1
    assert list((tmp_path / "bench").iterdir()) == []


def test_list_says_question_method_and_limitations():
    done = cometbench("list")
    assert done.returncode == 0
    for section in ("floors", "A", "G", "Q", "goals"):
        assert f"\n{section}: " in "\n" + done.stdout
    assert done.stdout.count("limitations:") == done.stdout.count("question:") == done.stdout.count("method:")


def test_machine_prints_all_that_is_stored():
    text, stored = cometbench("machine"), cometbench("machine", "--json")
    assert text.returncode == stored.returncode == 0
    assert text.stdout.split(":")[0] in stored.stdout


def test_doctor_names_what_is_missing(tmp_path):
    done = cometbench("doctor", "--directory", tmp_path / "bench")
    assert "bench directory: " in done.stdout
    (tmp_path / "file").write_text("")
    refused = cometbench("doctor", "--directory", tmp_path / "file")
    assert refused.returncode == 1
    assert "missing  bench directory" in refused.stdout
