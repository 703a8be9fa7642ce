"""The fork server: real processes, each a group of its own, and nothing left of them or of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cometbench.forking import ForkServer
from cometbench.processes import WorkerFailedError


@pytest.fixture
def server(extra):
    fork_server = ForkServer([extra])
    yield fork_server
    fork_server.close()


def run(server, tmp_path, *arguments, limit_seconds=30.0, pools=()):
    return server.run("forked_module", arguments, limit_seconds, tmp_path, pools)


def gone(pid):
    """Whether a process has ended; what is left of it may wait for its parent."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def facts(finished):
    return dict(line.split("=", 1) for line in finished.stdout.splitlines())


def test_processes_of_one_server_are_its_children_and_lead_groups_of_their_own(server, tmp_path):
    first, second = (facts(run(server, tmp_path, "facts")) for _ in range(2))
    assert first["parent"] == second["parent"]
    assert first["pid"] != second["pid"]
    for one in (first, second):
        assert one["group"] == one["pid"]
        assert one["arguments"] == "forked_module facts"
        assert one["imported_before"] == "True"
        assert one["stdin"] == ""
        assert one["hash_seed"] == "0"


def test_a_new_server_has_a_memory_layout_of_its_own(server, tmp_path):
    layouts = []
    for _ in range(3):
        layouts.append({facts(run(server, tmp_path, "facts"))["address"] for _ in range(2)})
        server.close()
    assert [len(addresses) for addresses in layouts] == [1, 1, 1]
    if Path("/proc/sys/kernel/randomize_va_space").read_text().strip() == "2":
        assert len(set.union(*layouts)) == 3


def test_a_pool_is_built_once_for_all_processes_of_a_server(server, tmp_path):
    pool = ("json_line", 50, 7, 0, 1)
    built = facts(run(server, tmp_path, "pool"))
    shared = facts(run(server, tmp_path, "pool", pools=[pool]))
    assert built["shared"] == "False"
    assert shared["shared"] == "True"
    assert shared["entries"] == built["entries"]


def test_what_cannot_be_built_is_left_to_the_process_that_needs_it(server, tmp_path):
    assert facts(run(server, tmp_path, "facts", pools=[("no_workload", 1, 1, 0, 1)]))["pid"]


def test_a_process_that_fails_says_why_and_the_server_goes_on(server, tmp_path):
    before = facts(run(server, tmp_path, "facts"))
    with pytest.raises(WorkerFailedError, match=r"exit code 1: .*ValueError: on purpose"):
        run(server, tmp_path, "raise")
    with pytest.raises(WorkerFailedError, match="exit code -9: no message"):
        run(server, tmp_path, "kill")
    assert facts(run(server, tmp_path, "facts"))["parent"] == before["parent"]


def test_a_process_that_hangs_is_ended_with_its_children(server, tmp_path):
    with pytest.raises(WorkerFailedError, match="ran longer than 3 s and was ended"):
        run(server, tmp_path, "hang", str(tmp_path / "pids"), limit_seconds=3.0)
    child, grandchild = (tmp_path / "pids").read_text().split()
    assert gone(child)
    assert gone(grandchild)
    assert facts(run(server, tmp_path, "facts"))["pid"]


def test_a_server_that_was_killed_fails_one_process_and_is_replaced(server, tmp_path):
    parent = int(facts(run(server, tmp_path, "facts"))["parent"])
    with pytest.raises(WorkerFailedError, match="the fork server ended: exit code -9"):
        run(server, tmp_path, "kill_server")
    assert gone(parent)
    assert int(facts(run(server, tmp_path, "facts"))["parent"]) not in {parent, os.getpid()}


def test_nothing_is_left_of_a_server_that_was_closed(server, tmp_path):
    parent = facts(run(server, tmp_path, "facts"))["parent"]
    server.close()
    assert gone(parent)
