"""A small closed log to damage, and the pool of processes that damage and judge it, over and over.

The log holds ten entries: two segments, singles, batches, a compressed frame, and a PAD where a killed writer had claimed. A judge is
a process (``damage_worker.py``); it says where it is before it begins, so one that dies or hangs convicts the very change it was at.
"""

import json
import os
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cometlog
from cometlog.kernel import layout
from cometlog.segment import Segment, byte_offset, list_segments, tail_parts
from support import KIB, SHARD, STREAM, Worker, directory_state, make_config, wait_until

WORKER = Path(__file__).with_name("damage_worker.py")
CONFIG = make_config(
    64 * KIB, 1, indexing={"boundary_interval_entries": 1}, compression={"threshold_bytes": 4096}
)
TRIMMED_BYTES = 8 * KIB
HIDDEN_UNITS = 64
"""Units behind the PAD: a tail with one bit flipped ends right behind it."""
JOB_CHANGES = 500
JUDGES = 2
JOB_TIMEOUT_S = 120.0
Change = list[list[Any]]
"""What is done to the files of a log: operations of ``damage_worker.py``, each a name and its arguments."""


@contextmanager
def memory_directory() -> Iterator[Path]:
    """A directory in memory where there is one: a million small logs are written."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="cometlog-damage-", dir=place) as directory:
        yield Path(directory)


def rotate(client: cometlog.Client) -> None:
    """Seal the active segment, as an append that does not fit does."""
    client._writers[STREAM].shard.segment.seal()


def die_while_copying(client: cometlog.Client, units: int, entries: int) -> None:
    """Leave what a writer killed between B6 and B9 leaves, and have it repaired."""
    segment = client._writers[STREAM].shard.segment
    tail = segment.tail()
    unit = tail_parts(tail)[1]
    assert segment.mapping.compare_and_swap(layout.SEGMENT_TAIL, tail, tail + (entries << 32) + units)
    claimed = layout.KIND_CLAIMED << layout.WORD_KIND_SHIFT | units
    assert segment.swap_word(unit, 0, claimed)
    segment.mapping.write(byte_offset(unit + 1), b"\xa5" * 8 * (units - 1))
    list(client.scan(STREAM))
    assert segment.word(unit) >> layout.WORD_KIND_SHIFT & 7 == layout.KIND_PAD


def build(root: Path, *, mark: str = "") -> list[tuple[int, bytes]]:
    """Write the log, close it cleanly and return its entries, number and bytes. ``mark`` makes another log's entries differ."""
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [b"first" + mark.encode()])
        client.append(STREAM, [b"a", b"", b"ccc"])
        rotate(client)
        client.append(STREAM, [b"x" * 53])
        die_while_copying(client, 4, 2)
        behind = tail_parts(client._writers[STREAM].shard.segment.tail())[1]
        client.append(STREAM, [b"compressed " * 500])
        client.append(STREAM, [b"one" + mark.encode(), b"two"])
        # The last two entries fill up to a distance that is one bit of the tail.
        used = tail_parts(client._writers[STREAM].shard.segment.tail())[1] - behind
        room = (HIDDEN_UNITS - used) * layout.UNIT_BYTES - layout.FRAME_HEADER_BYTES
        client.append(STREAM, [b"last" * 10, b"z" * (room - 12 - 40)])
        client.sync()
        truth = [(entry.number, entry.data) for entry in client.scan(STREAM)]
        wait_until(lambda: len(list((root / SHARD).glob("*.idx"))) == 2, "both indexes")
        wait_until(
            lambda: all(
                path.stat().st_size > layout.INDEX_HEADER_BYTES for path in (root / SHARD).glob("*.idx")
            ),
            "records in both indexes",
        )
    trim(root)
    assert len(truth) == 10
    assert behind & HIDDEN_UNITS == 0
    return truth


def trim(root: Path) -> None:
    """Make the files as short as a log that grew by small steps has them, so that each of their bits can be flipped."""
    for name in list_segments(root / SHARD):
        path = root / SHARD / name.file_name
        with path.open("r+b") as file:
            file.truncate(TRIMMED_BYTES)
            file.seek(layout.SEGMENT_BACKED)
            file.write(struct.pack("<Q", (TRIMMED_BYTES - layout.SEGMENT_HEADER_BYTES) // layout.UNIT_BYTES))


def frames_end(path: Path) -> int:
    """Byte behind the last frame of a segment."""
    segment = Segment(path, writable=False)
    end = byte_offset(tail_parts(segment.tail())[1])
    segment.close()
    return end


@dataclass
class Verdicts:
    """What came of many changes: how often which outcome, and what breaks the promise."""

    outcomes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.outcomes.values())


class Judges:
    """Processes that apply changes to a copy of the log and say what came of each."""

    def __init__(self, base: Path, pristine: Path, truth: list[tuple[int, bytes]], **options: Any) -> None:
        self._base = base
        self._arguments = {
            "pristine": str(pristine),
            "truth": [[number, data.hex()] for number, data in truth],
            "options": options,
        }
        self._started = 0

    def _start(self) -> tuple[Worker, Path]:
        self._started += 1
        place = self._base / f"judge-{self._started}"
        progress = self._base / f"progress-{self._started}"
        progress.write_bytes(bytes(8))
        judge = Worker("judge", script=WORKER, root=str(place), progress=str(progress), **self._arguments)
        return judge, progress

    def judge(self, mode: str, changes: Iterable[Change]) -> Verdicts:
        """Judge every change: ``read`` by a read-only client, ``attach`` by a writer, ``reboot`` by one on another boot."""
        verdicts = Verdicts()
        jobs = _jobs(changes)
        running = []
        for _ in range(JUDGES):
            if (job := next(jobs, None)) is not None:
                judge, progress = self._start()
                judge.tell([mode, job])
                running.append((judge, progress, job))
        while running:
            judge, progress, job = running.pop(0)
            deadline = time.monotonic() + JOB_TIMEOUT_S
            lines = (
                judge.hear_rest(JOB_TIMEOUT_S) if judge.process.poll() is not None else _hear(judge, deadline)
            )
            if lines:
                verdicts.outcomes.update(lines["outcomes"])
                verdicts.broken += lines["broken"]
                rest: list[Change] = []
            else:
                # The judge died at one change; what it had judged of this job is judged again.
                at = int.from_bytes(progress.read_bytes(), "little")
                verdicts.outcomes["broken"] += 1
                verdicts.broken.append(f"{mode} {job[at]}: the process ended with {judge.end()}")
                rest = job[:at] + job[at + 1 :]
                judge, progress = self._start()
            following = rest or next(jobs, None)
            if following:
                judge.tell([mode, following])
                running.append((judge, progress, following))
            else:
                judge.kill()
        return verdicts


def _hear(judge: Worker, deadline: float) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = judge.hear(deadline - time.monotonic())
    except AssertionError:
        assert judge.process.poll() is not None, "a judge outlived its own watchdog"
        return None
    return answer


def _jobs(changes: Iterable[Change]) -> Iterator[list[Change]]:
    job: list[Change] = []
    for change in changes:
        job.append(change)
        if len(job) == JOB_CHANGES:
            yield job
            job = []
    if job:
        yield job


def files_of(root: Path) -> dict[str, bytes]:
    """Every file of a log that has bytes, by its path below the root."""
    return {name: data for name, data in directory_state(root).items() if (root / name).is_file() and data}


def describe(verdicts: Verdicts) -> str:
    return json.dumps(
        {"outcomes": verdicts.outcomes, "broken": [text[:400] for text in verdicts.broken[:10]]}, indent=1
    )
