"""The command line of the measuring side, as real processes: exit codes, messages, what is kept."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from cometbench.cli import build, main
from cometbench.environment import mount_of
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
    assert "unknown section 'Zed'; allowed: floors, A, C, F, forward, G," in " ".join(done.stderr.split())
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


def test_ctrl_c_keeps_what_finished_and_a_resumed_run_goes_on_with_it(run_arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENINGS_FILE", str(tmp_path / "openings"))
    done = cometbench(*run_arguments, "--profile", "quick", "--sections", "interrupted")
    assert done.returncode == 130, done.stderr
    assert "Interrupted: the 15 measurements that have values are kept" in done.stderr
    run = only_run(tmp_path)
    assert run.finished_utc is None
    own = {measurement.name for measurement in run.measurements if measurement.experiment != "control"}
    assert own == {"test.plain", "test.interrupts"}
    before = run.find("test.interrupts").samples
    assert [sample.round for sample in before] == [0, 1]
    assert list((tmp_path / "bench").iterdir()) == []

    (path,) = (tmp_path / "results").glob("*/*-quick")
    refused = cometbench("run", "--resume", path, "--directory", tmp_path / "bench")
    assert refused.returncode == 2
    assert "unknown section 'interrupted'" in refused.stderr
    if mount_of(Path("/dev/shm")).is_memory and not mount_of(tmp_path).is_memory:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            elsewhere = cometbench(*run_arguments, "--resume", path, "--directory", memory)
        assert elsewhere.returncode == 2
        assert f"was begun with file system {run.environment['file_system']}, this is tmpfs" in " ".join(
            elsewhere.stderr.split()
        )
    resumed = cometbench(*run_arguments, "--resume", path)
    assert resumed.returncode == 0, resumed.stderr
    run = only_run(tmp_path)
    assert run.finished_utc is not None
    assert run.find("test.interrupts").samples[:2] == before
    for measurement in run.all_measurements():
        assert [sample.round for sample in measurement.samples] == list(range(5)), measurement.name
        assert measurement.verification.entries_expected == measurement.verification.entries_found
    again = cometbench(*run_arguments, "--resume", path)
    assert again.returncode == 1
    assert "is finished and immutable" in again.stderr


def test_list_says_question_method_and_limitations():
    done = cometbench("list")
    assert done.returncode == 0
    for section in ("floors", "A", "G", "Q", "goals"):
        assert f"\n{section}: " in "\n" + done.stdout
    assert done.stdout.count("limitations:") == done.stdout.count("question:") == done.stdout.count("method:")


def test_list_as_json_names_every_benchmark_and_what_each_probe_yields():
    listed = {one["section"]: one for one in json.loads(cometbench("list", "--json").stdout)}
    assert {"floors", "A", "G", "Q", "goals"} <= set(listed)
    assert "G.mmap.batch1" in listed["G"]["benchmarks"]
    assert all(values for one in listed.values() for values in one["probes"].values())
    assert all(one["question"] and one["method"] and one["limitations"] for one in listed.values())


def test_results_that_cannot_be_written_are_said_in_one_line_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    done = cometbench("run", "--sections", "floors", "--profile", "smoke", "--directory", tmp_path / "bench",
                      "--results", tmp_path / "file" / "results")  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        == f"Error: results tree {tmp_path / 'file' / 'results'} cannot be written: Not a directory"
    )
    assert "round 1" not in done.stdout
    assert list((tmp_path / "bench").iterdir()) == []


def test_an_address_that_is_none_is_wrong_use(run_arguments):
    done = cometbench(*run_arguments, "--kafka", "nonsense", "--profile", "smoke")
    assert done.returncode == 2
    assert "--kafka is HOST:PORT, such as 127.0.0.1:9092, got 'nonsense'" in done.stderr


def test_a_run_in_memory_is_told_as_such(tmp_path):
    if not mount_of(Path("/dev/shm")).is_memory:
        pytest.skip("/dev/shm is no tmpfs here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as bench:
        done = cometbench("run", "--sections", "floors", "--profile", "smoke", "--directory", bench,
                          "--results", tmp_path / "results")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "logs on tmpfs (memory, not a disk)" in done.stdout
    run = only_run(tmp_path)
    assert run.environment["file_system"] == "tmpfs"
    assert run.find("floor.fdatasync_128").survives == "survives_process_crash"


@pytest.mark.parametrize("command", sorted(build().commands))
def test_the_help_of_every_command_says_its_exit_codes(command):
    shown = " ".join(CliRunner().invoke(build(), [command, "--help"]).output.split())
    if command not in {"list", "machine", "guide-numbers"}:
        assert re.search(r"Exit codes: 0 .*, 2 wrong use", shown)
    short = build().commands[command].get_short_help_str(60)
    assert not short.endswith("...")


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
    found = json.loads(cometbench("doctor", "--directory", tmp_path / "file", "--json").stdout)
    assert [one["what"] for one in found if one["state"] == "missing" and one["required"]] == [
        "bench directory"
    ]


@pytest.mark.parametrize(
    ("command", "begun"),
    [
        (["latency", "--seconds", "20"], "round 1 of 3"),
        (["profile", "--seconds", "20"], "two looks of 20 s each"),
    ],
)
def test_ctrl_c_ends_a_command_that_stores_nothing_with_130_and_leaves_nothing(command, begun, tmp_path):
    program = [
        sys.executable,
        "-c",
        "from cometbench.cli import main; main()",
        *command,
        "--directory",
        str(tmp_path / "bench"),
    ]
    with subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if begun in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, said
    assert said[-1] == "Interrupted.\n"
    assert list((tmp_path / "bench").iterdir()) == []


def test_ctrl_c_while_modules_load_is_130_too(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("cometbench.cli.build", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted.\n"
