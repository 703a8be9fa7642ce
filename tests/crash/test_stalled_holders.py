"""Processes that stand still, alive, while they hold a lock of the shard: the others go on, or say in time who holds them up."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

import cometlog
from cometlog.control import Control
from cometlog.errors import ShardBusyError
from recording import Count
from stalls import (
    ALLOCATED,
    OTHER,
    PUBLISHED,
    SCRIPT,
    STALLED,
    STOP,
    TIMEOUT_S,
    WRITTEN,
    Others,
    go_on,
    leave,
    steps_package,
    stop,
)  # fmt: skip
from support import KIB, SHARD, STREAM, Worker, make_config, payload, wait_until

__all__ = ["steps_package", "stop"]


@pytest.mark.parametrize("place", ["sync", "mark"])
@pytest.mark.parametrize("end", ["continued", "killed"])
def test_stopped_syncer_is_named_and_nothing_is_called_durable_meanwhile(
    root: Path, stop: Any, place: str, end: str, count: Count
) -> None:
    others = Others(root, stall_timeout_s=TIMEOUT_S)
    worker = stop(root, others, place=place, operation="sync")
    others.append()
    control = Control(root / SHARD / "control", writable=False)
    durable = control.durable_entry
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(ShardBusyError, match=rf"process {worker.pid} .*stall_timeout_s"):
            others.client.sync()
        assert time.monotonic() - started >= TIMEOUT_S
        others.append()
        others.check()
    assert control.durable_entry == durable < len(others.acknowledged)
    if end == "killed":
        worker.kill()
    else:
        assert go_on(worker) is None
    others.client.sync()
    assert control.durable_entry == len(others.acknowledged)
    control.close()
    count(stalls=1)
    if end == "continued":
        leave(worker, others)
    else:
        others.check()
        others.client.close()


def test_sync_in_time_waits_for_one_that_stopped_for_a_moment(root: Path, stop: Any) -> None:
    others = Others(root, stall_timeout_s=30.0)
    worker = stop(root, others, place="sync", operation="sync")
    others.append()
    os.posix_spawn("/bin/sh", ["sh", "-c", f"sleep 0.3; kill -CONT {worker.pid}"], os.environ)
    others.client.sync()
    assert worker.hear() is None
    leave(worker, others)


def test_stopped_repairer_keeps_nobody_from_repairing(
    root: Path, stop: Any, start_worker: type[Worker], steps_package: Path, count: Count
) -> None:
    others = Others(root)
    repairer = start_worker(
        "stop_somewhere", script=SCRIPT, root=str(root), owner=3, place="repair", operation="read", warm_up=0
    )
    assert repairer.hear() == []
    victim = stop(root, others, step=f"{ALLOCATED}:2:{STOP}", package=steps_package)
    others.append()
    victim.kill()
    repairer.tell()
    wait_until(lambda: repairer.state() == "T", "the repairer to stop")
    others.check()  # byte 1 is held by the one that stopped
    others.client.sync()
    assert go_on(repairer) == sorted(others.acknowledged)
    count(stalls=1)
    leave(repairer, others)


@pytest.mark.parametrize("write_path", ["sync", "async"])
@pytest.mark.parametrize("step", [WRITTEN, PUBLISHED])
def test_stopped_holder_of_the_append_lock_is_named(
    root: Path, stop: Any, steps_package: Path, write_path: str, step: int, count: Count
) -> None:
    others = Others(root, write_path, stall_timeout_s=TIMEOUT_S)
    worker = stop(root, others, step=f"{step}:2:{STOP}", package=steps_package, write_path=write_path)
    before = others.read()
    assert before.items() - others.acknowledged.items() == (
        {(2, (STALLED, 1))} if step == PUBLISHED else set()
    )
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(
            ShardBusyError, match=rf"nothing was appended: process {worker.pid} .*stall_timeout_s"
        ):
            others.client.append(STREAM, [payload(OTHER, 99)])
        assert time.monotonic() - started >= TIMEOUT_S
        assert others.read() == before
    others.acknowledge(go_on(worker), STALLED, 1)
    others.append()
    count(stalls=1)
    leave(worker, others)


@pytest.mark.parametrize("write_path", ["mmap", "sync", "async"])
def test_process_stopped_while_it_recovers_is_named(
    root: Path, start_worker: type[Worker], write_path: str, count: Count
) -> None:
    others = Others(root, write_path)
    others.append()
    others.client.close()
    control = Control(root / SHARD / "control", writable=True)
    control.write_clean_record(None)
    control.close()
    worker = start_worker(
        "stop_somewhere", script=SCRIPT, root=str(root), owner=STALLED, write_path=write_path, place="recovery",
        warm_up=0,
    )  # fmt: skip
    assert worker.hear() == []
    worker.tell()
    wait_until(lambda: worker.state() == "T", "the worker to stop")
    client = cometlog.open(
        root, make_config(64 * KIB, concurrency={"attach_timeout_s": TIMEOUT_S}), write_path=write_path
    )
    started = time.monotonic()
    with pytest.raises(ShardBusyError, match=rf"process {worker.pid} .*attach_timeout_s"):
        client.writer(STREAM)
    assert time.monotonic() - started >= TIMEOUT_S
    others.client = client
    others.check()  # reading needs no writer
    others.acknowledge(go_on(worker), STALLED, 0)
    others.append()
    count(stalls=1)
    leave(worker, others)


def test_process_stopped_while_it_leaves_keeps_nobody_from_leaving(
    root: Path, stop: Any, count: Count
) -> None:
    others = Others(root, stall_timeout_s=TIMEOUT_S)
    worker = stop(root, others, place="leaving", operation="close")
    others.append()
    started = time.monotonic()
    others.client.close()
    assert time.monotonic() - started >= TIMEOUT_S
    assert go_on(worker) is None
    count(stalls=1)
    worker.tell()
    assert worker.hear() == "closed"
    others.client = cometlog.open(root, make_config(64 * KIB))
    others.append()
    others.check()
    others.client.close()
