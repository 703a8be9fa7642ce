"""Kills at every numbered step of an append, a rotation and a growth, while another process appends; and in the middle of an append
before another path opens the shard.
"""

import itertools
import random
import signal
from pathlib import Path

import pytest

from kill_scene import Child, Scene, steps_package
from recording import Count
from support import KIB, LIBC_PATHS, MIB, PATHS, Worker
from tiers import Tier

# Numbers of kernel/step.pxd. Growth happens only in segments that are longer than what a new file is given.
APPEND_STEPS = {
    "mmap": (1, 2, 3, 4, 5, 6, 7, 8),
    "buffered": (13, 14),
    "sync": (13, 14),
    "async": (13, 14),
    "uring": (13, 14),
}
MIDDLE_STEPS = {"mmap": (1, 2, 3, 4, 5, 6, 7), "buffered": (13,), "sync": (13,), "async": (13,)}
SEALED_STEP = 9
GROWTH_STEPS = (10, 11, 12)
BESIDE = 6
"""Appends of the survivor after the kill, before anybody recovers anything."""


def start_victim(
    scene: Scene, write_path: str, step: int, nth: int, appends: int, segment_bytes: int = 64 * KIB, wait: bool = False
) -> Child:  # fmt: skip
    """Start a process that appends and kills itself when it reaches a step for the ``nth`` time."""
    return scene.start(
        "append_some", write_path, appends=appends, segment_size_bytes=segment_bytes, wait=wait,
        environment={"COMETLOG_STEP": f"{step}:{nth}:{int(signal.SIGKILL)}"},
    )  # fmt: skip


def places(rng: random.Random, write_path: str, more: int) -> list[tuple[int, int, int, int]]:
    """(step, nth, appends, segment size): the first append, ones soon after, ones behind rotations, and each growth."""
    found = []
    for step in APPEND_STEPS[write_path]:
        for nth in [1, 2, *(rng.randrange(3, 150) for _ in range(more))]:
            found.append((step, nth, 400, 64 * KIB))
    if write_path == "mmap":
        found += [(SEALED_STEP, nth, 1000, 64 * KIB) for nth in range(1, 2 + more)]
    found += [(step, nth, 4000, 16 * MIB) for step in GROWTH_STEPS for nth in range(1, 2 + more)]
    return found


@pytest.mark.parametrize("write_path", PATHS)
def test_killed_at_every_step(
    tmp_path: Path, tier: Tier, rng: random.Random, count: Count, start_worker: type[Worker], write_path: str
) -> None:
    """A survivor appends before, while and after the victim does, but on the path that allows none; every other time a writer
    repairs while it lives, else index, control and marks are deleted before anybody does.
    """
    scene = Scene(tmp_path, steps_package())
    for step, nth, appends, segment_bytes in places(rng, write_path, tier.pick(ci=1, full=6, record=40)):
        survivor = victim = None
        if step in GROWTH_STEPS:  # the first to attach grows the file for all
            victim = start_victim(scene, write_path, step, nth, appends, segment_bytes, wait=True)
            scene.wait_for_first_append(victim)
        if write_path != "buffered":
            survivor = scene.start(
                "append_until_stopped", write_path, segment_size_bytes=segment_bytes, appends_in_a_row=1
            )
            scene.wait_for_first_append(survivor)
        if victim is None:
            victim = start_victim(scene, write_path, step, nth, appends, segment_bytes)
        else:
            victim.signal(signal.SIGUSR1)
        assert victim.end() == -signal.SIGKILL, f"step {step} was not reached {nth} times"
        if survivor is not None:
            scene.wait_for_appends(survivor.owner, BESIDE)
            if nth % 2:
                scene.check(write_path, attach=False, quiet=False)
            survivor.kill()
        if (
            nth % 2 == 0
        ):  # what the victim left lies before what the survivor appended, and nobody has repaired it
            scene.delete_derived()
        found = scene.check(write_path)
        count(steps_killed_at=1, kills=1 + (survivor is not None), acknowledged_entries=found["acknowledged"])
        count(entries_read=found["read"])
        scene.new_log()


@pytest.mark.parametrize(("first", "second"), list(itertools.product(LIBC_PATHS, LIBC_PATHS)))
def test_second_path_opens_what_the_first_left_in_the_middle_of_an_append(
    tmp_path: Path,
    rng: random.Random,
    tier: Tier,
    count: Count,
    start_worker: type[Worker],
    first: str,
    second: str,
) -> None:
    scene = Scene(tmp_path, steps_package())
    steps = MIDDLE_STEPS[first]
    for _ in range(tier.pick(ci=7, full=14, record=140) // len(steps)):
        for step in steps:
            victim = start_victim(scene, first, step, rng.choice([1, 2, rng.randrange(3, 100)]), 300)
            assert victim.end() == -signal.SIGKILL
            follower = scene.start("append_some", second, appends=20)
            assert follower.end() == 0
            found = scene.check(first)
            count(kills=1, acknowledged_entries=found["acknowledged"], entries_read=found["read"])
            scene.new_log()
