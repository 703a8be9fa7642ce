"""The wall clock is set back, forward by decades, to 1970, and stands still: entries keep their order and their numbers.

Timestamps say what the clock said; nothing else depends on it: appends, rotation, recovery, syncs, statistics and the index go by
numbers and by the monotonic clock, which nobody can set. (A monotonic clock that stands still is no machine that exists, and every
wait with a limit rests on it; that case is not played.)
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import cometlog
from clock_workers import ENTRIES, ENTRY_BYTES
from cometlog.index import load_index
from cometlog.segment import Segment, parse_segment_name
from recording import Count
from support import LIBC_PATHS, SHARD, Worker, owner_and_sequence, read_all, segment_files

SCRIPT = Path(__file__).with_name("clock_workers.py")
YEAR_NS = 365 * 86_400 * 1_000_000_000
SAMPLE_AGE_NS = 10_000_000
"""A timestamp is at most this far from the clock: the age of a sample of it that may still be used."""
FROZEN_AT_NS = 1_700_000_000 * 1_000_000_000

MOVES = [(0, 0), (-10 * YEAR_NS, 0), (30 * YEAR_NS, 0), (0, 1_000_000_000), (0, FROZEN_AT_NS), (-YEAR_NS, 0)]

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="the clock is moved by a C library: no gcc"
)


@pytest.fixture
def start(tmp_path: Path, start_worker: type[Worker]) -> Callable[..., Worker]:
    """Start a function of ``clock_workers.py`` with a clock of its own."""
    library, order = tmp_path / "moved_clock.so", tmp_path / "order"
    order.write_bytes(bytes(16))
    source = Path(__file__).with_name("moved_clock.c")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    environment = {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(order)}
    return lambda name, **arguments: start_worker(name, script=SCRIPT, environment=environment, **arguments)


def check_entries(entries: list[cometlog.Entry], told: list[dict[str, object]]) -> None:
    """Every entry is where it was acknowledged, in order of appending, with the time of the clock it was appended under."""
    assert [entry.number for entry in entries] == list(range(len(told) * ENTRIES))
    for place, entry in enumerate(entries):
        line = told[place // ENTRIES]
        assert owner_and_sequence(entry.data) == (line["turn"], place % ENTRIES)
        assert len(entry.data) == ENTRY_BYTES
        since, until = line["since"], line["until"]
        assert isinstance(since, int)
        assert isinstance(until, int)
        assert since - SAMPLE_AGE_NS <= entry.timestamp_ns <= until + SAMPLE_AGE_NS, (line["turn"], place)


def check_indexes(root: Path, entries: list[cometlog.Entry]) -> int:
    """Each index is true, and leads by time to a place before which no boundary is as late; return how many were looked at."""
    for path in segment_files(root):
        name = parse_segment_name(path.name)
        assert name is not None
        segment = Segment(path, writable=False)
        index = load_index(root / SHARD / name.index_name, segment.header.uuid, segment.tail())
        assert len(index)
        times = sorted({entry.timestamp_ns for entry in entries})
        for timestamp_ns in [0, *times[:: len(times) // 50], 1 << 63]:
            found = index.at_or_before_time(timestamp_ns)
            before = [entry for entry in entries if name.base <= entry.number < name.base + found.entry]
            boundaries = before[
                :: index.interval_entries
            ]  # each entry is a frame of its own, and none is missing
            assert all(entry.timestamp_ns < timestamp_ns for entry in boundaries)
        segment.close()
    return len(segment_files(root))


@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_moved_clock_changes_timestamps_and_nothing_else(
    root: Path, start: Callable[..., Worker], count: Count, write_path: str
) -> None:
    worker = start("append_while_clock_moves", root=str(root), write_path=write_path, moves=MOVES)
    told = [worker.hear() for _ in MOVES]
    assert worker.end() == -9
    check_entries(read_all(root), told)
    for turn, add_ns in ((len(MOVES), -20 * YEAR_NS), (len(MOVES) + 1, 5 * YEAR_NS)):
        worker = start("recover_under", root=str(root), write_path=write_path, turn=turn, add_ns=add_ns)
        told.append(worker.hear())
        assert worker.end() == 0
    entries = read_all(root)
    check_entries(entries, told)
    count(clocks=len(told), entries=len(entries), segments=check_indexes(root, entries))
    assert os.environ.get("LD_PRELOAD") is None
