"""Servers of a run: started once, answering, frozen while others are measured, and gone afterwards, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_services
from faulty_experiments import raw
from served import served

from cometbench.runner import Runner
from cometbench.services.service import ServiceError, first_bytes
from cometbench.services.shared import SharedServices
from test_cli_measuring import cometbench, only_run

TINY = "tiny_services:TinyServer"


def state(pid):
    """Return the kernel's letter for the state of a process, "gone" without one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def until(reached):
    """Wait for a condition that the kernel brings about, and fail where it does not."""
    limit = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < limit
        time.sleep(0.01)


def run(benchmarks, stand, given=None):
    """Run benchmarks with shared services; return the runner, its measurements, and the services."""
    with SharedServices(stand.root.path / "services", stand.progress.say, given) as services:
        runner = Runner(
            benchmarks, stand.profile, stand.root, seed=3, progress=stand.progress,
            search_path=[stand.extra], services=services,
        )  # fmt: skip
        runner.run()
    return runner, {measurement.name: measurement for measurement in runner.measurements()}


def test_a_server_is_used_without_benchmarks_and_comes_back_on_its_port_and_data(tmp_path):
    with tiny_services.TinyServer(tmp_path / "data") as server:
        first, port = server.pid, server.port
        assert server.address == f"127.0.0.1:{port}"
        assert first_bytes(port) == b"tiny"
        server.restart()
        assert state(first) == "gone"
        server.kill()
        server.start()
        assert (server.port, first_bytes(port)) == (port, b"tiny")
        last = server.pid
        assert (tmp_path / "data" / "pids").read_text().split()[::2] == [str(first), str(last)]
    assert state(last) == "gone"
    with pytest.raises(ServiceError, match="Tiny does not run"):
        _ = server.pid


def test_a_frozen_server_costs_nothing_and_still_stops(tmp_path):
    with tiny_services.TinyServer(tmp_path) as server:
        server.pause()
        until(lambda: state(server.pid) == "T")
        server.resume()
        assert first_bytes(server.port) == b"tiny"
        server.pause()
        pid = server.pid
    assert state(pid) == "gone"


def test_a_server_that_ends_while_it_starts_is_named_with_what_it_said(tmp_path):
    with pytest.raises(ServiceError, match="Tiny ended with code 3 while it started: no room for data"):
        tiny_services.EndsAtOnce(tmp_path).start()


def test_a_server_that_does_not_answer_is_ended(tmp_path):
    server = tiny_services.NeverAnswers(tmp_path)
    with pytest.raises(ServiceError, match="Tiny did not answer within 0 s"):
        server.start()
    with pytest.raises(ServiceError, match="does not run"):
        _ = server.pid


def test_a_server_dies_with_an_owner_that_is_killed(tmp_path, extra):
    script = (
        "import pathlib, sys, time; from tiny_services import TinyServer;"
        f"server = TinyServer(pathlib.Path({str(tmp_path)!r})).start(); print(server.pid, flush=True); time.sleep(60)"
    )
    environment = dict(os.environ, PYTHONPATH=str(extra))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    ) as owner:
        pid = int(owner.stdout.readline())
        assert state(pid) in "SR"
        owner.send_signal(signal.SIGKILL)
    until(lambda: state(pid) in ("gone", "Z"))


def test_a_run_starts_a_server_once_and_hands_over_its_address_and_version(stand, monkeypatch, tmp_path):
    monkeypatch.setenv("PIDS_FILE", str(tmp_path / "pid"))
    _, found = run([served("test.first"), served("test.second"), raw("test.plain")], stand)
    assert [m.failure for m in found.values()] == [None, None, None]
    assert stand.said().count("started Tiny 1 in ") == 1
    assert found["test.first"].extra["version"] == "Tiny 1 (client 2)"
    assert "version" not in found["test.plain"].extra
    assert found["test.first"].config == {}  # results are public: no address
    assert state((tmp_path / "pid").read_text()) == "gone"


def test_a_server_is_frozen_in_the_turns_of_others(stand, tmp_path, monkeypatch):
    with SharedServices(tmp_path, stand.progress.say) as services:
        monkeypatch.setenv("PIDS_FILE", str(tmp_path / "pid"))
        with services.serving(TINY) as served_by:
            pid = int((tmp_path / "pid").read_text())
            assert first_bytes(int(str(served_by["address"]).rpartition(":")[2])) == b"tiny"
            assert state(pid) in "SR"
        until(lambda: state(pid) == "T")
        with services.serving("") as nothing:
            assert nothing == {}
            assert state(pid) == "T"
        with services.serving(TINY):
            until(lambda: state(pid) in "SR")
    assert state(pid) == "gone"


def test_a_worker_that_dies_leaves_no_server_behind(stand, tmp_path, monkeypatch):
    monkeypatch.setenv("PIDS_FILE", str(tmp_path / "pid"))
    _, found = run([served("test.dies", "DyingClient"), served("test.sound")], stand)
    assert found["test.dies"].failure.startswith("exit code 3")
    assert found["test.sound"].failure is None
    assert state((tmp_path / "pid").read_text()) == "gone"


def test_ctrl_c_leaves_no_server_behind(tmp_path, extra, monkeypatch):
    monkeypatch.setenv("PIDS_FILE", str(tmp_path / "pid"))
    places = ["--results", tmp_path / "results", "--directory", tmp_path / "bench"]
    done = cometbench("run", "--extra", extra, *places, "--profile", "smoke", "--sections", "served")
    assert done.returncode == 130, done.stderr
    assert only_run(tmp_path).finished_utc is None
    assert state((tmp_path / "pid").read_text()) == "gone"
    assert list((tmp_path / "bench").iterdir()) == []


def test_a_server_that_runs_already_is_used_and_left_alone(stand, tmp_path):
    with tiny_services.TinyServer(tmp_path) as server:
        _, found = run([served("test.given")], stand, {TINY: server.address})
        assert found["test.given"].failure is None
        assert found["test.given"].extra["version"] == "a server that ran already (client 2)"
        assert "started" not in stand.said()
        assert state(server.pid) in "SR"


def test_a_broker_given_on_the_command_line_is_used(tmp_path, extra):
    places = ["--results", tmp_path / "results", "--directory", tmp_path / "bench", "--extra", extra]
    with tiny_services.TinyServer(tmp_path / "server") as server:
        done = cometbench(
            "run", *places, "--profile", "smoke", "--sections", "given", "--kafka", server.address
        )
    assert done.returncode == 0, done.stderr
    assert only_run(tmp_path).find("test.given").extra["version"] == "a server that ran already (client 2)"


def test_what_is_not_installed_is_a_row_with_the_command_and_fails_no_run(stand):
    benchmarks = [
        served("test.server", service="NotThere"),
        raw("test.package", "tiny_services:NeedsPackage"),
        served("test.broken", service="EndsAtOnce"),
    ]
    runner, found = run(benchmarks, stand)
    assert found["test.server"].failure == (
        "redis-server is not installed; install it with: "
        "apt-get update && apt-get install -y --no-install-recommends redis-server"
    )
    assert found["test.package"].failure == (
        "the Python package no_such_package_anywhere is not installed; install it with: pip install './harness[alternatives]'"
    )
    assert runner.beyond_this_machine() == {"test.server", "test.package"}
    assert "FAILED test.broken: Tiny ended with code 3" in stand.said()


def test_a_server_that_failed_is_not_started_again(tmp_path, stand):
    with SharedServices(tmp_path, stand.progress.say) as services:
        for _ in range(2):
            with (
                pytest.raises(ServiceError, match="ended with code 3"),
                services.serving("tiny_services:EndsAtOnce"),
            ):
                pass
    log = next(tmp_path.rglob("server.log"))
    assert log.read_text().splitlines() == ["no room for data"]
