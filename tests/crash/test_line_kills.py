"""Kills at every line of Python that attaching, rotating, syncing, repairing, recovering and closing execute, and in recovery."""

import json
import random
import signal
from pathlib import Path

import pytest

from kill_scene import Child, Scene
from recording import Count
from support import LIBC_PATHS, Worker
from tiers import Tier

ALONE = "alone"
BESIDE = "beside a live writer"
PLACES = [("mmap", ALONE), ("mmap", BESIDE), ("sync", ALONE), ("async", BESIDE), ("buffered", ALONE)]


def prepare(scene: Scene, write_path: str, place: str) -> Child | None:
    """Start a writer that appends; unless somebody is to live, kill it, so that there is something to recover."""
    writer = scene.start("append_until_stopped", write_path, appends_in_a_row=2)
    scene.wait_for_appends(writer.owner, 20)
    if place == BESIDE:
        return writer
    writer.kill()
    return None


def lines_of(scene: Scene, write_path: str, scenario: str, place: str) -> dict[str, int]:
    """Every line of the engine that a run executes in such a place, with how often."""
    survivor = prepare(scene, write_path, place)
    report = scene.pipe.with_suffix(".lines")
    traced = scene.start("run_traced", write_path, scenario=scenario, trace={"report": str(report)})
    assert traced.end() == 0
    if survivor is not None:
        survivor.kill()
    scene.new_log()
    lines: dict[str, int] = json.loads(report.read_text())
    return lines


def killed_at(scene: Scene, write_path: str, scenario: str, line: str, occurrence: int) -> bool:
    """Run until a line's execution; False where this run did not execute it so often, and ended by itself."""
    trace = {"die_at": line, "occurrence": occurrence}
    code = scene.start("run_traced", write_path, scenario=scenario, trace=trace).end()
    assert code in (0, -signal.SIGKILL), f"the run to {line} ended with code {code}"
    return code != 0


def kill_once(
    scene: Scene, write_path: str, place: str, line: str, occurrence: int, again: str, count: Count
) -> bool:
    """One run that dies at a line, one that dies while it recovers that, a check. Returns whether the first one died there."""
    survivor = prepare(scene, write_path, place)
    died = killed_at(scene, write_path, "everything", line, occurrence)
    count(kills=int(died) + 1)
    if survivor is not None:
        scene.wait_for_appends(survivor.owner, 5)
        scene.check(write_path, attach=False, quiet=False)
        survivor.kill()
    count(recoveries_killed=int(killed_at(scene, write_path, "attach", again, 1)))
    found = scene.check(write_path)
    count(acknowledged_entries=found["acknowledged"], entries_read=found["read"])
    scene.new_log()
    return died


@pytest.mark.parametrize(("write_path", "place"), PLACES)
def test_killed_at_every_line(
    tmp_path: Path,
    tier: Tier,
    rng: random.Random,
    count: Count,
    start_worker: type[Worker],
    write_path: str,
    place: str,
) -> None:
    scene = Scene(tmp_path)
    lines = lines_of(scene, write_path, "everything", place)
    in_recovery = sorted(lines_of(scene, write_path, "attach", ALONE))
    assert len(lines) > 200, "the run did not go where it should"
    every = [(line, 1) for line in sorted(lines)]
    every += [(line, rng.randrange(2, times + 1)) for line, times in sorted(lines.items()) if times > 1]
    chosen = rng.sample(every, min(len(every), tier.pick(ci=14, full=110, record=len(every))))
    missed = 0
    for line, occurrence in chosen:
        died = kill_once(scene, write_path, place, line, occurrence, rng.choice(in_recovery), count)
        missed += not died
    count(lines_killed_at=len(chosen) - missed, lines_of_the_engine=len(lines))
    # Beside a live writer some lines depend on who is faster; alone, only the loops that wait do.
    assert missed <= len(chosen) // 2, f"{missed} of {len(chosen)} runs did not get to their line"


def test_every_shared_path_is_killed_beside_a_live_writer_or_alone() -> None:
    assert {write_path for write_path, _ in PLACES} == {*LIBC_PATHS}
