"""Kill storms: writers that are killed at random instants, an oracle that heard every acknowledgement, a reader that looked on."""

import random
import signal
import time
from pathlib import Path

import pytest

from kill_scene import Child, Scene
from recording import Count
from support import KIB, PATHS, Worker
from tiers import Tier

WORKERS = Path(__file__).with_name("kill_workers.py")


def kill(victims: list[Child]) -> None:
    """Kill all, then wait for all, so that they die within microseconds of each other."""
    for victim in victims:
        victim.signal(signal.SIGKILL)
    for victim in victims:
        assert victim.end() == -signal.SIGKILL, "a writer ended before it was killed"


@pytest.mark.parametrize("write_path", PATHS)
def test_writers_killed_again_and_again(
    tmp_path: Path, tier: Tier, rng: random.Random, count: Count, start_worker: type[Worker], write_path: str
) -> None:
    """Three of four die in each round, and every third time all of them; the survivor goes on before anybody is replaced."""
    scene = Scene(tmp_path)
    reader = start_worker("follow", script=WORKERS, root=str(scene.root))
    writers = 1 if write_path == "buffered" else 4
    live: list[Child] = []
    for turn in range(tier.pick(ci=15, full=25, record=60)):
        while len(live) < writers:
            live.append(
                scene.start(
                    "append_until_stopped", write_path, segment_size_bytes=256 * KIB, appends_in_a_row=4
                )
            )
        time.sleep(rng.uniform(0.060, 0.210))  # where the kills fall is the test's only use of time
        rng.shuffle(live)
        spared = 1 if writers > 1 and turn % 3 != 2 else 0
        victims, live = live[spared:], live[:spared]
        kill(victims)
        for survivor in live:
            scene.wait_for_appends(survivor.owner, 20)
        scene.check(write_path, attach=not live, quiet=not live, whole=False)
        count(rounds=1, kills=len(victims))
    kill(live)
    count(kills=len(live))
    for position, delete in enumerate(
        (True, False, True)
    ):  # the first time nobody has recovered what the kills left
        if delete:
            scene.delete_derived()
        found = scene.check(write_path)
        if position == 0:
            count(acknowledged_entries=found["acknowledged"], entries_read=found["read"])
    reader.tell()
    delivered, digest = reader.hear()
    assert scene.check(write_path, digest_until=delivered)["digest"] == digest, (
        "what a reader was given has changed"
    )
    count(entries_of_the_live_reader=delivered)
    assert found["acknowledged"] > 0
    assert delivered > 0
