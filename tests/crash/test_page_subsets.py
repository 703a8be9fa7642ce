"""Power loss without root: a run is recorded page by page, and every image is one disk that a power failure could have left.

An image is any instant of a run with any subset of what no sync had covered by then. It is opened under a new boot identity.
"""

import copy
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crash_images import MODELS, NOTHING_UNSYNCED, draw_image, draw_weather, write_image
from page_recorder import Recording, build_recorder, read_trace
from power_workers import identities
from promises import Found, Identity, Promise
from recording import Count
from support import DURABLE_PATHS, KIB, LIBC_PATHS, SHARED_PATHS, Worker
from tiers import Tier

SCRIPT = Path(__file__).with_name("power_workers.py")
WORLD = "world"
LOG = "srv/app/log"
IMAGES_PER_RUN = 12
RECOVERIES_PER_RUN = 2
IMAGES_PER_RECOVERY = 4
GOES_ON = 900
"""Owner of what is appended after an image was opened."""
STEPS = os.environ.get("COMETLOG_STEPS_PACKAGE")
STEP_NUMBERS = range(1, 15)
SIGKILL, SIGUSR1 = 9, 10


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: an image is written and thrown away in milliseconds."""
    shared_memory = Path("/dev/shm")
    if not os.access(shared_memory, os.W_OK):
        yield tmp_path
        return
    directory = Path(tempfile.mkdtemp(prefix="cometlog-", dir=shared_memory))
    yield directory
    shutil.rmtree(directory)


@dataclass
class Power:
    """The two workers, and where runs and images lie."""

    recorder: Worker
    opener: Worker
    place: Path
    kept: Path
    turn: int = 0

    def record(self, phases: list[dict[str, Any]], start: Path | None = None) -> Recording:
        """Make a run and return what it did; ``start``: an image that it goes on from."""
        self.turn += 1
        world, trace = self.place / f"{WORLD}{self.turn}", self.place / f"trace{self.turn}"
        if start is None:
            world.mkdir()
        else:
            start.rename(world)
        order = {"world": str(world), "root": str(world / LOG), "trace": str(trace), "phases": phases}
        self.recorder.tell(order)
        ends = self.recorder.hear()
        for phase, codes in zip(phases, ends, strict=True):
            assert set(codes) <= {0, -SIGKILL}, f"writers ended with {codes} in {phase}"
            for writer, code in zip(phase["writers"], codes, strict=True):
                assert code == 0 or "die_at" in writer or "step" in writer, f"{writer} ended with {code}"
        recording = read_trace(trace, world, durable_start=start is not None)
        trace.unlink()
        shutil.rmtree(world)
        return recording

    def open(
        self, image: Path, boot: int, write_path: str, *, looks_first: bool = False
    ) -> tuple[Found, int]:
        """Open an image and go on with it; return what was found and how many segments were set aside."""
        self.opener.tell(
            {
                "root": str(image / LOG), "boot": boot, "write_path": write_path, "owner": GOES_ON,
                "segment_size_bytes": 64 * KIB, "looks_first": looks_first,
            }
        )  # fmt: skip
        answer = self.opener.hear()
        assert "error" not in answer, answer["error"]
        return {number: Identity(*identity) for number, *identity in answer["found"]}, answer["discarded"]


@pytest.fixture
def power(tmp_path: Path, place: Path, start_worker: type[Worker]) -> Power:
    library = build_recorder(tmp_path)
    if library is None:
        pytest.skip("recording a run takes a C compiler (cc, or $CC)")
    recorder = start_worker(
        "record_runs", script=SCRIPT, package=Path(STEPS) if STEPS else None,
        environment={"LD_PRELOAD": str(library)},
    )  # fmt: skip
    return Power(recorder, start_worker("open_again", script=SCRIPT), place, tmp_path)


def promise_at(recording: Recording, time: int, before: Promise | None = None) -> Promise:
    """What had been promised at one instant of a run, which went on from an image that keeps ``before``."""
    promise = copy.deepcopy(before) if before is not None else Promise()
    for note in recording.notes:
        if note.time > time:
            break
        kind, *rest = note.said
        if kind == "append":
            first, owner, batch, lengths, durable = rest
            promise.acknowledge(first, identities(owner, batch, lengths), durable=durable)
        elif kind == "sync":
            promise.synced(rest[0])
        else:
            found = {number: Identity(*identity) for number, *identity in rest[0]}
            promise.check(found)
            promise.recovered(found)
    return promise


def draw_writer(rng: random.Random, owner: int, write_path: str, alone: bool) -> dict[str, Any]:
    """Draw one writer of a phase, and how it ends: closed, left open, or killed somewhere."""
    writer: dict[str, Any] = {
        "seed": rng.randrange(1 << 30), "owner": owner, "batches": rng.randint(3, 30),
        "sync_share": rng.choice([0.02, 0.1, 0.25]) if write_path not in DURABLE_PATHS else 0.05,
        "closes": rng.random() < 0.3,
    }  # fmt: skip
    if rng.random() < (0.4 if alone else 0.3):
        writer["die_at"] = rng.randint(2, 120)
    elif STEPS and rng.random() < 0.7:
        deadly = SIGKILL if rng.random() < 0.5 else SIGUSR1
        writer["step"] = f"{rng.choice(STEP_NUMBERS)}:{rng.randint(1, 15)}:{deadly}"
    return writer


def draw_phases(rng: random.Random) -> list[dict[str, Any]]:
    """Draw a run: up to three phases on the same boot, each with a write path and one or two writers."""
    phases = []
    for turn in range(rng.choice([1, 2, 2, 3])):
        write_path = rng.choice(LIBC_PATHS)
        writers = rng.choice([1, 1, 2]) if write_path in SHARED_PATHS else 1
        phases.append(
            {
                "write_path": write_path, "boot": 1, "segment_size_bytes": rng.choice([64, 64, 128]) * KIB,
                "writers": [
                    draw_writer(rng, 10 * turn + writer, write_path, writers == 1) for writer in range(writers)
                ],
            }
        )  # fmt: skip
    return phases


def draw_instant(rng: random.Random, recording: Recording) -> int:
    """Draw an instant, often the very moment of a note: then nothing has happened since the promise."""
    if recording.notes and rng.random() < 0.4:
        return rng.choice(recording.notes).time
    return rng.randrange(recording.end)


def damage_beside(rng: random.Random, image: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """What else a crash leaves of files that nothing durable depends on: gone, zeros, garbage, or torn."""
    changed = dict(image)
    for name, content in image.items():
        kind = name.rpartition("/")[2]
        if content is None or rng.random() > 0.15:
            continue
        if kind == "control":
            changed[name] = rng.choice(
                [None, bytes(len(content)), rng.randbytes(len(content)), content[:4096], b""]
            )
        elif kind == "durable":
            torn = rng.choice([0, 512])
            changed[name] = rng.choice(
                [None, content[:torn] + bytes(64) + content[torn + 64 :], bytes(576), b""]
            )
        elif kind.endswith(".idx") or ".tmp." in kind:
            place = rng.randrange(len(content) + 1)
            changed[name] = rng.choice(
                [None, content[:place], content[:place] + rng.randbytes(64), bytes(4096)]
            )
    gone = {name for name in changed if changed[name] is None and image[name] is not None}
    return {name: content for name, content in changed.items() if name not in gone}


@dataclass
class Crash:
    """One image of a run: the instant, what had been promised by then, and the disk."""

    recording: Recording
    time: int
    promise: Promise
    image: dict[str, bytes | None]
    told: str


def draw_crash(rng: random.Random, recording: Recording, before: Promise | None = None) -> Crash:
    """Draw an instant of a run and what the disk holds when the power fails there."""
    time, model, weather = draw_instant(rng, recording), rng.choice(MODELS), draw_weather(rng)
    image = damage_beside(rng, draw_image(rng, recording, time, weather, model))
    told = f"power failed at {time} of {recording.end}, {model}, {weather}"
    return Crash(recording, time, promise_at(recording, time, before), image, told)


def open_and_check(
    power: Power, crash: Crash, boot: int, write_path: str, count: Count, *, looks_first: bool = False
) -> Found:
    """Open an image and hold what is found against what was promised; a failing image is kept."""
    power.turn += 1
    path = power.place / f"image{power.turn}"
    write_image(crash.image, path)
    try:
        found, discarded = power.open(path, boot, write_path, looks_first=looks_first)
        crash.promise.check(found)
    except AssertionError as error:
        write_image(crash.image, power.kept / path.name)
        notes = [[note.time, note.said] for note in crash.recording.notes]
        (power.kept / f"{path.name}.json").write_text(json.dumps(notes))
        raise AssertionError(f"{crash.told}; kept in {power.kept / path.name}\n{error}") from error
    shutil.rmtree(path)
    count(
        images=1, durable_entries=len(crash.promise.must_be_there()), entries_found=len(found),
        segments_set_aside=discarded,
    )  # fmt: skip
    return found


def crash_again_during_recovery(power: Power, rng: random.Random, crash: Crash, count: Count) -> None:
    """Record the recovery of an image and what follows, killed somewhere at times, and draw images of that."""
    power.turn += 1
    start = power.place / f"image{power.turn}"
    write_image(crash.image, start)
    write_path = rng.choice(LIBC_PATHS)
    writer = draw_writer(rng, 100, write_path, alone=True) | {"batches": rng.randint(0, 6)}
    if rng.random() < 0.5:
        writer["die_at"] = rng.randint(2, 60)
    phase = {
        "write_path": write_path, "boot": 2, "segment_size_bytes": 64 * KIB, "recovers": True, "writers": [writer],
    }  # fmt: skip
    recording = power.record([phase], start)
    for _ in range(IMAGES_PER_RECOVERY):
        again = draw_crash(rng, recording, crash.promise)
        again.told = f"{crash.told}; then, in recovery by {phase}, {again.told}"
        open_and_check(power, again, 3, rng.choice(LIBC_PATHS), count)
        count(images_of_recoveries=1)


@pytest.mark.timeout(3600)
def test_every_image_keeps_what_was_promised(
    power: Power, tier: Tier, rng: random.Random, count: Count
) -> None:
    left = tier.pick(ci=250, full=1500, record=5000)
    while left > 0:
        recording = power.record(draw_phases(rng))
        count(runs=1)
        for turn in range(IMAGES_PER_RUN):
            crash = draw_crash(rng, recording)
            open_and_check(power, crash, 2, rng.choice(LIBC_PATHS), count, looks_first=turn == 0)
            left -= 1
            if turn < RECOVERIES_PER_RUN:
                crash_again_during_recovery(power, rng, crash, count)
                left -= IMAGES_PER_RECOVERY


@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_durable_means_durable_on_every_path(
    power: Power, rng: random.Random, count: Count, write_path: str
) -> None:
    """The table of write_paths/base.py: of a disk that got nothing but what was synced, exactly the promised part is left."""
    writer = {"seed": rng.randrange(1 << 30), "owner": 1, "batches": 25, "sync_share": 0.2, "closes": False}
    phase = {"write_path": write_path, "boot": 1, "segment_size_bytes": 64 * KIB, "writers": [writer]}
    recording = power.record([phase])
    gone = 0
    for note in recording.notes:
        promise = promise_at(recording, note.time)
        image = draw_image(rng, recording, note.time, NOTHING_UNSYNCED, "posix")
        crash = Crash(recording, note.time, promise, image, f"nothing but synced pages at {note.time}")
        found = open_and_check(power, crash, 2, write_path, count)
        gone += len(promise.acknowledged.keys() - found.keys())
    assert (gone == 0) == (write_path in DURABLE_PATHS), f"{gone} returned entries are gone"
