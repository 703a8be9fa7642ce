"""Processes that come by fork, spawn or forkserver beside a parent that appends in two threads; interpreters that end meanwhile."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from kill_scene import Scene, is_gone, steps_package
from recording import Count
from support import PATHS, SHARED_PATHS, Worker, wait_until
from tiers import Tier

CHILDREN = 4
WAYS = [
    *[(write_path, "os.fork") for write_path in SHARED_PATHS],
    *[("mmap", way) for way in ("libc.fork", "clone", "spawn", "forkserver")],
    ("sync", "libc.fork"),
    ("async", "clone"),
]


def pid_of_child(scene: Scene, owner: int) -> int:
    """Pid of a child that the parent started: it writes it down before it appends."""
    file = scene.pipe.with_name(f"{scene.pipe.name}.{owner}")
    return int(wait_until(lambda: file.exists() and file.read_text(), f"child {owner} to start"))


@pytest.mark.parametrize(("write_path", "way"), WAYS)
def test_children_go_on_when_their_parent_is_killed(
    tmp_path: Path, rng: random.Random, count: Count, start_worker: type[Worker], write_path: str, way: str
) -> None:
    """The parent appends in two threads while it starts four children; then it dies, then the children one after the other."""
    scene = Scene(tmp_path)
    parent = scene.start("prefork", write_path, owners=2 + CHILDREN, way=way, children=CHILDREN)
    owners = range(parent.owner + 2, parent.owner + 2 + CHILDREN)
    pids = {owner: pid_of_child(scene, owner) for owner in owners}
    try:
        for owner in (parent.owner, parent.owner + 1, *owners):
            scene.wait_for_appends(owner, 1)
        time.sleep(rng.uniform(0, 0.02))  # where the kill falls is the test's only use of time
        parent.kill()
        for owner in owners:
            scene.wait_for_appends(owner, 10)
        scene.check(write_path, attach=False, quiet=False)
        for owner in rng.sample(list(owners), CHILDREN):
            gone = pids.pop(owner)
            os.kill(gone, signal.SIGKILL)
            for survivor in pids:
                scene.wait_for_appends(survivor, 5)
            wait_until(lambda: is_gone(gone), "a killed child to end")  # noqa: B023
    finally:
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(map(is_gone, pids.values())), "the last child to end")
    found = scene.check(write_path)
    assert found["read"] >= found["acknowledged"] > CHILDREN * 10
    count(kills=1 + CHILDREN, acknowledged_entries=found["acknowledged"], entries_read=found["read"])


@pytest.mark.parametrize("way", ["os.fork", "libc.fork", "clone"])
def test_child_does_not_make_its_dead_parent_look_alive(
    tmp_path: Path, count: Count, start_worker: type[Worker], way: str
) -> None:
    """The parent dies between claim and marker, where only its lock says that it lives; what lies behind is readable at once."""
    scene = Scene(tmp_path, steps_package())
    die = {
        "COMETLOG_STEP": f"2:60:{int(signal.SIGKILL)}"
    }  # the tail is past the range; the child stays below 60 appends
    parent = scene.start("fork_and_die", "mmap", owners=2, way=way, environment=die)
    child = pid_of_child(scene, parent.owner + 1)
    try:
        wait_until(lambda: scene.appends_of(parent.owner + 1) == 10, "the child to append")
        parent.signal(signal.SIGUSR1)
        assert parent.end() == -signal.SIGKILL
        assert scene.start("append_some", "mmap", appends=20).end() == 0
        assert not is_gone(child)
        found = scene.check("mmap", attach=False)
    finally:
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: is_gone(child), "the child to end")
    assert scene.check("mmap")["read"] == found["read"]
    count(kills=2, acknowledged_entries=found["acknowledged"], entries_read=found["read"])


@pytest.mark.parametrize("write_path", PATHS)
def test_interpreter_that_ends_while_a_daemon_thread_appends(
    tmp_path: Path, tier: Tier, rng: random.Random, count: Count, start_worker: type[Worker], write_path: str
) -> None:
    """Exit code 0, in time, nothing lost; the next finds a shard that nobody closed."""
    scene = Scene(tmp_path)
    for _ in range(tier.pick(ci=20, full=50, record=200)):
        child = scene.start(
            "append_in_daemon_thread", write_path, finalize=True, seconds=rng.uniform(0.002, 0.02)
        )
        assert child.end() == 0
        count(rounds=1)
    found = scene.check(write_path)
    count(acknowledged_entries=found["acknowledged"], entries_read=found["read"])
    assert found["acknowledged"] > 0


@pytest.mark.parametrize("write_path", PATHS)
def test_close_while_threads_append(
    tmp_path: Path, tier: Tier, rng: random.Random, count: Count, start_worker: type[Worker], write_path: str
) -> None:
    scene = Scene(tmp_path)
    for _ in range(tier.pick(ci=10, full=30, record=200)):
        child = scene.start(
            "close_beside_appends", write_path, owners=3, threads=3, seconds=rng.uniform(0.001, 0.01)
        )
        assert child.end() == 0
        count(rounds=1)
    found = scene.check(write_path)
    count(acknowledged_entries=found["acknowledged"], entries_read=found["read"])
    assert found["read"] == found["acknowledged"] > 0, "an append that raised ClosedError is in the log"
