"""Writers that stand still, alive, anywhere in an append, a growth or a rotation: the others go on, past them where that is possible.

Whoever stopped is continued in the end. Its append then succeeds or raises, and what it was given up on is never written into.
"""

import random
import time
from pathlib import Path
from typing import Any

import pytest

from cometlog import repair
from cometlog.control import Control
from cometlog.errors import StalledWriterError
from cometlog.kernel import layout
from recording import Count
from stalls import (
    ALLOCATED,
    BACKED,
    BUSY,
    CLAIMED,
    COMMITTED,
    FILE_LONGER,
    FINISHED,
    IDLE,
    MARKED,
    PAGES_THERE,
    SCRIPT,
    SEALED,
    STALLED,
    STOP,
    TIMEOUT_S,
    Others,
    go_on,
    leave,
    steps_package,
    stop,
)  # fmt: skip
from support import KIB, MIB, SHARD, STREAM, Worker, segment_files
from test_processes import shard_end
from tiers import Tier

__all__ = ["steps_package", "stop"]


@pytest.mark.parametrize("step", range(BUSY, IDLE + 1))
def test_writer_stopped_at_a_step_of_its_append(
    root: Path, stop: Any, steps_package: Path, step: int, count: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the claim is in the frame's word it is fenced after a second; with the word still zero it is reported by name."""
    others = Others(root, stall_timeout_s=TIMEOUT_S if step == ALLOCATED else 10.0)
    worker = stop(root, others, step=f"{step}:2:{STOP}", package=steps_package)
    before = dict(others.acknowledged)
    others.append()
    started = time.monotonic()
    if step == ALLOCATED:
        with pytest.raises(StalledWriterError, match=rf"process {worker.pid} "):
            others.client.sync()
        assert time.monotonic() - started >= TIMEOUT_S
        assert others.read() == before
        others.append()
    elif CLAIMED <= step <= FINISHED:
        others.check()
        assert time.monotonic() - started >= repair.FENCE_AFTER_S, "given up before its time"
        others.client.sync()
        count(fenced=1)
    else:
        monkeypatch.setattr(repair, "FENCE_AFTER_S", 3600.0)  # nobody is in the way
        found = others.read()
        in_flight = found.items() - others.acknowledged.items()
        assert [entry for _, entry in in_flight] == ([(STALLED, 1)] if step >= COMMITTED else [])
        others.client.sync()
    reached = shard_end(root)
    numbers = go_on(worker)
    if step == BUSY or CLAIMED <= step <= FINISHED:
        assert numbers == [reached], "the append was done again behind everything else"
    else:
        assert numbers == [len(before)], "the append kept its place"
    others.acknowledge(numbers, STALLED, 1)
    count(stalls=1)
    leave(worker, others)


@pytest.mark.parametrize("step", [ALLOCATED, MARKED, SEALED])
def test_rotation_goes_on_around_a_writer_stopped_in_an_old_segment(
    root: Path, stop: Any, steps_package: Path, step: int, count: Count
) -> None:
    others = Others(root, stall_timeout_s=TIMEOUT_S if step == ALLOCATED else 10.0)
    nth = 1 if step == SEALED else 2
    worker = stop(
        root, others, step=f"{step}:{nth}:{STOP}", package=steps_package, entry_bytes=20_000, count=4 if step == SEALED else 1
    )  # fmt: skip
    before = others.read() if step == SEALED else dict(others.acknowledged)
    others.append(150, 1000)
    assert len(segment_files(root)) >= 3
    if step == ALLOCATED:
        with pytest.raises(StalledWriterError):
            others.client.sync()
        assert others.read() == before
    elif step == MARKED:
        others.check()
    numbers = go_on(worker)
    others.acknowledge(numbers, STALLED, 1)
    assert (numbers[-1] < 150) == (step == ALLOCATED)
    count(stalls=1, rotations=len(segment_files(root)) - 1)
    leave(worker, others)


@pytest.mark.parametrize(
    "step", [FILE_LONGER, PAGES_THERE, BACKED], ids=["file is longer", "pages are there", "backed says so"]
)
def test_keeper_stopped_while_it_grows_the_file(
    root: Path, stop: Any, steps_package: Path, step: int, count: Count
) -> None:
    """It holds byte 5, so nobody else is the keeper: the others grow and rotate by themselves."""
    nth = 1 if step == FILE_LONGER else 8  # pages of the first MiB are made ready without growing the file
    others = Others(root, size=4 * MIB)
    worker = stop(
        root, others, step=f"{step}:{nth}:{STOP}", package=steps_package, entry_bytes=20_000, count=100,
        segment_size_bytes=4 * MIB,
    )  # fmt: skip
    others.append(450, 20_000)
    assert len(segment_files(root)) >= 3
    numbers = go_on(worker)
    others.acknowledge(numbers, STALLED, 1)
    count(stalls=1)
    leave(worker, others)


def test_keeper_stopped_while_it_does_nothing(root: Path, stop: Any, start_worker: type[Worker]) -> None:
    others = Others(root, size=4 * MIB)
    worker = start_worker(
        "stop_somewhere", script=SCRIPT, root=str(root), owner=STALLED, segment_size_bytes=4 * MIB
    )
    others.acknowledge(worker.hear())
    worker.stop()
    others.append(450, 20_000)
    assert len(segment_files(root)) >= 3
    others.check()
    others.client.sync()
    worker.go_on()
    worker.tell()
    others.acknowledge(worker.hear(), STALLED, 1)
    leave(worker, others)


ROTATION_PLACES = [
    "rotating is said", "file is made", "before the link", "after the link", "before the active number",
    "after the active number",
]  # fmt: skip


@pytest.mark.parametrize("place", ROTATION_PLACES)
def test_rotator_stopped_at_each_step_of_its_rotation(
    root: Path, stop: Any, place: str, count: Count
) -> None:
    others = Others(root)
    worker = stop(root, others, place=place, entry_bytes=20_000, count=8)
    before = others.read()
    others.append(150, 1000)
    assert len(segment_files(root)) >= 3
    found = others.read()
    assert before.items() | others.acknowledged.items() <= found.items()
    others.client.sync()
    others.acknowledge(go_on(worker), STALLED, 1)
    count(stalls=1, rotations=len(segment_files(root)) - 1)
    leave(worker, others)
    assert not list((root / SHARD).glob("*.tmp.*"))


def test_busy_writers_stopped_again_and_again(
    root: Path, start_worker: type[Worker], rng: random.Random, tier: Tier, count: Count
) -> None:
    """Two writers of large and small frames over small segments, one of them stopped at random instants."""
    workers = [
        start_worker(
            "append_without_end", script=SCRIPT, root=str(root), owner=owner, segment_size_bytes=64 * KIB
        )
        for owner in (STALLED, 3)
    ]
    others = Others(root)
    for worker in workers:
        assert worker.hear() == "ready"
    rounds = tier.pick(ci=10, full=60, record=300)
    for _ in range(rounds):
        victim = rng.choice(workers)
        time.sleep(rng.uniform(0, 0.02))  # where the stop falls is the test's only use of time
        victim.stop()
        others.append()
        last = max(others.acknowledged)
        in_front = [entry.number for entry in others.client.scan(STREAM, last - 2)]
        assert in_front[:3] == [last - 2, last - 1, last] or control_says_busy(root, victim)
        victim.go_on()
    for worker in workers:
        worker.tell()
    for owner, worker in zip((STALLED, 3), workers, strict=True):
        for number, sequence in worker.hear():
            others.acknowledge([number], owner, sequence)
        assert worker.end() == 0
    others.check()
    count(stalls=rounds, entries=len(others.acknowledged))
    others.client.close()


def control_says_busy(root: Path, worker: Worker) -> bool:
    """Whether a process stands between its claim and its marker, the one place that blocks readers for as long as it lasts."""
    control = Control(root / SHARD / "control", writable=False)
    try:
        return any(
            control.look_at_slot(index).state == layout.STATE_BUSY
            and control.slot_owner_pid(index) == worker.pid
            for index in range(layout.SLOT_COUNT)
        )
    finally:
        control.close()
