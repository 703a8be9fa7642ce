"""Readers that look entries up by number while the index is written: by the engine's own checkpoints, and by a process that tears it.

The writer of the shard brings its index up to date every millisecond. In the second half a further process takes the index file and
writes it anew in pieces without end: cut to nothing, half of it, then the rest, so that a reader may find it empty, short, or older
than what the engine has written since. Every lookup opens the log anew, so that it reads the index file. Values: `violations` per
lookup (an error, a wrong entry, or more than 3 tries at the index), `own_again` and `torn_again` (share of the lookups that read
the index more than once), `tries_max`. Config: the engine subject's keys.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

import cometlog
from cometbench.benchmark import STREAM
from cometbench.crew import Crew
from cometbench.probe import Outcome, Probe, Task
from cometbench.subjects.engine import chunks_of, engine_config
from cometbench.verification import Appended, verify_entries
from cometbench.workloads import build_pool
from cometlog import index as engine_index

TRIES_MAX = 3
READERS = 2
_SECONDS_MAX = 0.6
ENTRIES = 10_000
_BATCH = 50
_APPENDS_PER_SECOND = 400


class Lookups(NamedTuple):
    """What one reader saw: how many lookups, how many of them read the index again, most tries, and what went wrong."""

    lookups: int = 0
    again: int = 0
    tries_max: int = 0
    violations: int = 0
    first: str = ""


def measure(task: Task) -> Outcome:
    """Look entries up in both halves, then read the log back."""
    seconds = min(task.seconds, _SECONDS_MAX) / 2
    root, pool = task.directory / "log", build_pool(task.probe.workload, ENTRIES, task.seed)
    reading = [partial(Reader, root, pool, f"{task.seed}/{process}") for process in range(READERS)]
    crew = Crew([partial(_Writer, root, pool, task.probe), partial(Tearer, root), *reading])
    answers = []
    for tears in (False, True):
        calls: list[tuple[str, tuple[Any, ...]]] = [
            ("append", (seconds,)),
            ("tear", (seconds if tears else 0.0,)),
        ]
        answers.append(crew.call_each([*calls, *[("look_up", (seconds,))] * READERS])[2:])
    appended = crew.finish()[0]
    with cometlog.open(root, read_only=True) as client:
        finding = verify_entries(STREAM, [appended], chunks_of(client, STREAM))
    own, torn = (_together(half) for half in answers)
    both = _together([own, torn])
    values = {
        "violations": both.violations / max(both.lookups, 1),
        "own_again": own.again / max(own.lookups, 1),
        "torn_again": torn.again / max(torn.lookups, 1),
        "tries_max": float(both.tries_max),
    }
    extra: dict[str, float | str] = {"trials": float(both.lookups), "own_lookups": float(own.lookups)}
    return Outcome(values, finding, extra | ({"first_violation": both.first} if both.first else {}))


def _together(parts: list[Lookups]) -> Lookups:
    return Lookups(
        sum(one.lookups for one in parts), sum(one.again for one in parts), max(one.tries_max for one in parts),
        sum(one.violations for one in parts), next((one.first for one in parts if one.first), ""),
    )  # fmt: skip


def index_file(root: Path) -> Path:
    """Return the index file of the shard's newest segment. Raises FileNotFoundError where there is none yet."""
    found = sorted((root / "bench" / "v1" / "0000").glob("*.idx"))
    if not found:
        raise FileNotFoundError(f"{root}: no index yet")
    return found[-1]


class _Writer:
    """Appends steadily; the engine's helper thread keeps the index up to date meanwhile."""

    def __init__(self, root: Path, pool: list[bytes], probe: Probe) -> None:
        self._client = cometlog.open(root, engine_config(probe.config))
        self._appended = Appended(pool)
        self._writer = self._client.writer(STREAM)
        self._extend(len(pool))

    def append(self, seconds: float) -> None:
        until = perf_counter() + seconds
        while perf_counter() < until:
            self._extend(_BATCH)
            sleep(1 / _APPENDS_PER_SECOND)

    def _extend(self, count: int) -> None:
        one = self._appended
        start = one.count % len(one.pool)
        self._writer.extend(one.pool[start : start + count])
        one.count += count

    def close(self) -> Appended:
        self._client.close()
        return self._appended


class Tearer:
    """Rewrites the index file in pieces, over and over: by a name that the engine goes on writing to."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def tear(self, seconds: float) -> int:
        """Rewrite for so long; how often."""
        times = 0
        until = perf_counter() + seconds
        while perf_counter() < until:
            with suppress(FileNotFoundError):
                self.tear_once(index_file(self._root))
                times += 1
        return times

    @staticmethod
    def tear_once(path: Path) -> None:
        """Cut the file to nothing and write what it held in two pieces."""
        whole = path.read_bytes()
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.pwrite(fd, whole[: len(whole) // 2], 0)
            sleep(0.0002)
            os.pwrite(fd, whole[len(whole) // 2 :], len(whole) // 2)
        finally:
            os.close(fd)
        sleep(0.0005)

    def close(self) -> None:
        """Nothing is held."""


class Reader:
    """Looks up the entries that the shard begins with: the pool."""

    def __init__(self, root: Path, pool: list[bytes], seed: str) -> None:
        self._root, self._pool, self._source = root, pool, random.Random(seed)

    def look_up(self, seconds: float) -> Lookups:
        """Look up for so long."""
        seen = Lookups()
        until = perf_counter() + seconds
        with counted_tries() as tries:
            while perf_counter() < until:
                number = self._source.randrange(1, len(self._pool))
                tries[0] = 0
                wrong = self._wrong(number)
                if not wrong and tries[0] > TRIES_MAX:
                    wrong = f"entry {number}: the index was read {tries[0]} times"
                seen = Lookups(
                    seen.lookups + 1, seen.again + (tries[0] > 1), max(seen.tries_max, tries[0]),
                    seen.violations + bool(wrong), seen.first or wrong,
                )  # fmt: skip
        return seen

    def _wrong(self, number: int) -> str:
        """Look one entry up with a client of its own; what was wrong."""
        try:
            with cometlog.open(self._root, read_only=True) as client:
                batch = client.read(STREAM, start=number, count=1)
        except (cometlog.CometlogError, OSError) as error:
            return f"entry {number}: {type(error).__name__}: {error}"
        if batch.payloads() != [self._pool[number]]:
            return f"entry {number} is not what was appended"
        return ""

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def counted_tries() -> Iterator[list[int]]:
    """Count how often the engine's reader reads an index file. It says nowhere else, because a caller need not know."""
    once, tries = engine_index._read_once, [0]

    def counting(*arguments: Any) -> Any:
        tries[0] += 1
        return once(*arguments)

    engine_index._read_once = counting  # type: ignore[assignment]
    try:
        yield tries
    finally:
        engine_index._read_once = once
