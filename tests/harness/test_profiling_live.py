"""Profiling for real: known shares come back, works are verified, py-spy attaches or its refusal is said, one profile by command."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cometbench import doctor
from cometbench.errors import CannotMeasureError, UsageError
from cometbench.probe import Probe, Task
from cometbench.probes import checklist, profile
from cometbench.probes.profile import KNOWN_PERCENTS
from cometbench.profiling import py_spy
from cometbench.profiling.catalogue import WORKS, append
from cometbench.profiling.hot_process import HotProcess
from cometbench.profiling.measure import hot_cpu, take_budget
from cometbench.profiling.system_calls import count_calls, not_stat
from cometbench.profiling.time_budget import CLASSES
from cometbench.profiling.work import make_work

MAY_ATTACH = not py_spy.why_not()
needs_py_spy = pytest.mark.skipif(not MAY_ATTACH, reason="py-spy may not attach here")


def task_of(function, values, directory, seconds, **config):
    probe = Probe(
        name="test.profile", experiment="test", subject="test", implementation=f"cometbench.probes.profile:{function}",
        values=dict.fromkeys(values, "%"), config=config,
    )  # fmt: skip
    return Task(probe, directory, 5, seconds)


@pytest.fixture
def process():
    with HotProcess(cpu=hot_cpu(), seed=3) as hot:
        yield hot


def test_the_known_ratios_of_the_calibrator_come_back_from_rusage(process, tmp_path):
    found = []
    for percent in KNOWN_PERCENTS:
        (tmp_path / str(percent)).mkdir()
        process.open(tmp_path / str(percent), {"kind": "spin_and_write", "kernel_percent": percent})
        taken = take_budget(process, 0.4)
        process.close_work()
        # Ticks are a sample: twice their interval, and as much as neighbours change a write's own cost.
        assert abs(taken.budget.in_syscalls - percent) < 2 * taken.tick_half_width + 10, percent
        # This loop waits for nothing, so what is blocked here is time that an account has not caught up with.
        assert taken.budget.percent("blocked") < 4, percent
        found.append(taken.budget.in_syscalls)
    assert found == sorted(found)


def test_budgets_hold_five_classes_of_every_work_and_what_was_appended_is_verified(tmp_path):
    works = ("batch100_mmap", "read_views", "wait")
    values = [f"{work}_{name}" for work in works for name in CLASSES]
    outcome = profile.budgets(task_of("budgets", values, tmp_path, 0.05, works=" ".join(works)))
    assert set(outcome.values) == set(values)
    for work in works:
        assert sum(outcome.values[f"{work}_{name}"] for name in CLASSES) == pytest.approx(100)
    assert outcome.finding.status == "ok"
    assert outcome.finding.entries_found == outcome.finding.entries_expected > 1000
    assert outcome.values["wait_blocked"] > outcome.values["wait_user"]
    assert list(tmp_path.iterdir()) == []


def test_the_hot_thread_is_pinned_and_its_helpers_are_not(process, tmp_path):
    process.open(tmp_path, WORKS["batch1_mmap"])
    pinned = {
        int(task.name): os.sched_getaffinity(int(task.name))
        for task in Path(f"/proc/{process.pid}/task").iterdir()
    }
    process.close_work()
    assert pinned.pop(process.thread) == {hot_cpu()}
    assert pinned
    assert all(cpus == os.sched_getaffinity(0) for cpus in pinned.values())


def test_a_mapped_file_that_is_cold_is_kernel_time_in_faults_without_a_system_call(process, tmp_path):
    process.open(tmp_path, WORKS["cold_map"])
    taken = take_budget(process, 0.3)
    process.close_work()
    assert taken.spent.accounts.faults >= taken.spent.calls  # a fault brings one page or a large folio
    assert taken.budget.faults > taken.budget.syscalls


def test_a_long_loop_keeps_the_newest_segments_and_verifies_them(tmp_path, monkeypatch):
    monkeypatch.setattr("cometbench.profiling.work.KEPT_BYTES", 1 << 20)
    work = make_work(tmp_path, append("buffered", 1000, segment_size_bytes=1 << 18), 7, 0)
    for _ in range(30):
        work.run(work.prepare(2))
    finding = work.finish()
    assert finding.status == "ok", finding.detail
    assert 0 < finding.entries_found == finding.entries_expected < 60_000


def test_a_log_that_lost_an_entry_fails_its_verification(tmp_path):
    work = make_work(tmp_path, append("buffered", 10), 7, 0)
    work.run(work.prepare(3))
    work._appended += 1
    assert work.finish().detail == "30 entries read back, 31 are kept of 31"


def test_an_unknown_kind_of_work_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match="unknown kind of work 'dance'; allowed: append"):
        make_work(tmp_path, {"kind": "dance"}, 1, 0)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_system_calls_between_the_marks_are_counted_exactly(process, tmp_path):
    process.open(tmp_path, WORKS["batch1_buffered"])
    counted = count_calls(process, 50)
    process.close_work()
    assert counted["pwrite64"] == 50
    assert not_stat(counted) == counted.total() == 50


@needs_py_spy
def test_one_profile_for_real_keeps_the_hot_loop_alone_and_draws_it(tmp_path):
    values = ("in_syscalls", "rusage_in_syscalls", "allocator", "collector")
    outcome = profile.py_spy_profile(
        task_of("py_spy_profile", values, tmp_path, 1.0, works="batch1_buffered")
    )
    assert outcome.finding.status == "ok"
    assert outcome.finding.entries_found > 0
    assert outcome.extra["samples"] >= py_spy.SAMPLES_MIN
    assert 0 < outcome.values["in_syscalls"] < 100
    stacks = py_spy.parse_collapsed(outcome.flame_graphs["test.profile.txt"])
    assert all(frames[0].startswith("marked_hot_loop ") for frames, _ in stacks)
    assert sum(count for _, count in stacks) == outcome.extra["samples"]
    assert any(frames[-1] == "pwrite64 (libc.so.6)" for frames, _ in stacks)
    assert outcome.flame_graphs["test.profile.svg"].count("<svg") == 1


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Put a py-spy in front that runs as a user who may not trace this process (or, without root, one that is refused)."""
    if os.geteuid() == 0 and shutil.which("setpriv"):
        script = f'exec setpriv --reuid=65534 --clear-groups "{py_spy.find_py_spy()}" "$@"'
    else:
        script = 'echo "Error: Permission Denied: Try running again with elevated permissions" >&2; exit 1'
    front = tmp_path / "front"
    front.mkdir()
    program = front / "py-spy"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXOTH)
    monkeypatch.setenv("PATH", f"{front}{os.pathsep}{os.environ['PATH']}")


def test_without_ptrace_a_profile_says_why_and_rusage_goes_on(refused, tmp_path):
    (tmp_path / "log").mkdir()
    task = task_of("py_spy_profile", ("in_syscalls",), tmp_path / "log", 1.0, works="batch1_buffered")
    with pytest.raises(
        CannotMeasureError, match=r"(?i)py-spy cannot attach: .*(denied|permission|permitted)"
    ):
        profile.py_spy_profile(task)


def test_without_ptrace_doctor_and_the_command_say_so(refused, tmp_path):
    finding = doctor._py_spy()
    assert finding.state == "limited"
    assert "profiles degrade to rusage, which the report says" in finding.detail
    asked = [
        sys.executable,
        "-m",
        "cometbench",
        "profile",
        "--seconds",
        "1",
        "--directory",
        str(tmp_path / "bench"),
    ]
    done = subprocess.run(
        [*asked, "--output", str(tmp_path / "graphs"), "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["in_syscalls"]["py_spy"] is None
    assert said["agreement"].startswith("rusage alone, without py-spy: py-spy cannot attach")
    assert sum(said["percent"].values()) == pytest.approx(100)
    assert said["files"] == []


def test_a_py_spy_that_is_missing_is_said_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert py_spy.why_not() == "py-spy is not installed (pip install py-spy)"


def test_doctor_says_what_a_run_would_lack(monkeypatch):
    monkeypatch.setenv("PATH", "")
    perf, valgrind = doctor._perf(), doctor._valgrind()
    assert (perf.state, valgrind.state) == ("limited", "limited")
    assert "perf is not installed" in perf.detail
    assert "kernel time is divided by counting page faults" in perf.detail
    assert "apt-get install valgrind" in valgrind.detail


def test_doctor_names_the_room_that_a_full_run_needs():
    enough, short = doctor._free_space(8 << 30), doctor._free_space(7 << 30)
    assert (enough.state, short.state) == ("ok", "limited")
    assert short.detail == "7.0 GiB; 2 GiB wanted, 8 GiB for profile full and section K"


def test_less_than_a_second_is_more_than_py_spy_can_be_asked_for():
    with pytest.raises(CannotMeasureError, match=r"samples for 1 s at least, and 0\.2 s were asked for"):
        py_spy.record(1, 0, 0.2)


def test_the_checklist_runs_its_cases_and_counts_the_wrong_names(tmp_path, monkeypatch):
    cases = {name: checklist.CASES[name] for name in ("small_appends", "writers")}
    monkeypatch.setattr(checklist, "CASES", cases)
    outcome = checklist.checklist(task_of("checklist", ("wrong",), tmp_path, 0.1))
    named = [outcome.extra[f"{case}_named"] for case in cases]
    wrong = sum(name != case.expected for name, case in zip(named, cases.values(), strict=True))
    assert outcome.values == {"wrong": wrong / 2}
    assert outcome.extra["trials"] == 2
    assert named[0] == "CPU"
    assert list(tmp_path.iterdir()) == []


def test_the_profile_in_memory_leaves_nothing_there(tmp_path, monkeypatch):
    memory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    monkeypatch.setattr(profile, "MEMORY_DIRECTORY", memory)
    outcome = profile.budgets(
        task_of("budgets", ("cold_map_user",), tmp_path, 0.05, works="cold_map", memory=True)
    )
    assert outcome.file_system == "tmpfs"
    assert list(memory.iterdir()) == []
    memory.rmdir()
