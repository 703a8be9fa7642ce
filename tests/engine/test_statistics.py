"""Statistics that every process sees: what recoveries did, and which writer stands still."""

import random
from pathlib import Path

import pytest

import cometlog
from cometlog.control import NO_BOOT, Control
from cometlog.kernel import layout
from cometlog.segment import Segment, byte_offset, tail_parts
from cometlog.statistics import ShardStatistics
from support import KIB, PATHS, SHARD, STREAM, Worker, make_config, payload, segment_files
from test_holes import claim_and_vanish
from test_processes import BATCH_EVERY, stop_while_it_copies

CONFIG = make_config(64 * KIB, 3_600_000)


def recoveries_seen(root: Path) -> tuple[int, int, int, int]:
    """What a client that may not write reads: recoveries, words, segments set aside, torn appends sealed."""
    with cometlog.open(root, CONFIG, read_only=True) as client:
        found = client.stats()[STREAM]
    return found.recoveries, found.recovered_words, found.set_aside, found.sealed_torn


def leave_unclean(root: Path) -> None:
    """Take the clean record away, as a process that is killed leaves the shard."""
    control = Control(root / SHARD / "control", writable=True)
    control.write_clean_record(None)
    control.close()


def test_new_shard_and_clean_reopening_count_no_recovery(root: Path) -> None:
    for turn in range(3):
        with cometlog.open(root, CONFIG) as client:
            client.append(STREAM, [payload(0, turn)])
        assert recoveries_seen(root) == (0, 0, 0, 0)


@pytest.mark.parametrize("write_path", ["mmap", "sync"])
def test_words_that_a_recovery_turned_into_gaps_are_counted_once(root: Path, write_path: str) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [payload(0, 0)])
    claim_and_vanish(root, entries=1, units=8)
    for turn in range(2):
        leave_unclean(root)
        with cometlog.open(root, CONFIG, write_path=write_path) as client:
            client.append(STREAM, [payload(0, 2)])
            assert client.stats()[STREAM].recoveries == turn + 1
        assert recoveries_seen(root) == (turn + 1, 1, 0, 0)


def test_words_that_a_sync_turned_into_gaps_are_counted(root: Path) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [payload(0, 0)])
        claim_and_vanish(root, entries=1, units=8)
        client.sync()
        assert recoveries_seen(root) == (0, 1, 0, 0)
        claim_and_vanish(root, entries=1, units=8)
        assert [entry.number for entry in client.scan(STREAM)] == [0]
        assert client.stats()[STREAM].repairs == 1


def test_segments_that_a_recovery_set_aside_are_counted(root: Path) -> None:
    with cometlog.open(root, CONFIG) as client:
        for sequence in range(200):
            client.append(STREAM, [payload(0, sequence, 1000)])
    (root / SHARD / "durable").unlink()
    first, *later = segment_files(root)
    assert len(later) == 3
    raw = bytearray(first.read_bytes())
    raw[byte_offset(500)] ^= 1
    first.write_bytes(raw)
    control = Control(root / SHARD / "control", writable=True)
    control.stored_boot_identity = NO_BOOT
    control.close()
    with cometlog.open(root, CONFIG) as client:
        client.writer(STREAM)
    assert recoveries_seen(root) == (1, 0, 3, 0)
    assert len(list((root / SHARD).glob("*.discarded"))) == 3


@pytest.mark.parametrize(
    ("write_path", "alone"), [*((path, True) for path in PATHS), ("sync", False), ("async", False)]
)  # alone: by a recovery; else by the next holder of the lock
def test_torn_append_that_was_sealed_is_counted(root: Path, write_path: str, alone: bool) -> None:
    """A frame that a pwrite path put behind the tail and did not commit: its process died between the two."""
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        client.append(STREAM, [payload(0, 0)])
        segment = Segment(segment_files(root)[0], writable=True)
        units = tail_parts(segment.tail())[1]
        segment.mapping.store_release(byte_offset(units), layout.KIND_DATA << layout.WORD_KIND_SHIFT | 9)
        segment.close()
        if not alone:
            client.append(STREAM, [payload(0, 1)])
    if alone:
        leave_unclean(root)
        with cometlog.open(root, CONFIG, write_path=write_path) as client:
            client.append(STREAM, [payload(0, 1)])
    assert recoveries_seen(root) == (int(alone), 0, 0, 1)
    with cometlog.open(root, CONFIG, read_only=True) as client:
        assert [entry.data for entry in client.scan(STREAM)] == [payload(0, 0), payload(0, 1)]


def test_stalled_writer_is_named_while_it_stands_still(
    root: Path, rng: random.Random, start_worker: type[Worker]
) -> None:
    victim = start_worker(
        "append_singles", root=str(root), owner=0, count=200_000, batch_every=BATCH_EVERY, batch_entries=5000
    )
    assert victim.hear() == "ready"
    victim.tell()
    stop_while_it_copies(victim, root, rng)
    with cometlog.open(root, read_only=True) as client:
        (stalled,) = client.stalled_writers(look_s=0.05)
        start_time = int(Path(f"/proc/{victim.pid}/stat").read_text().rpartition(") ")[2].split()[19])
        assert (stalled.stream, stalled.state, stalled.pid) == (STREAM, "MARKED", victim.pid)
        assert (stalled.start_time, stalled.alive) == (start_time, True)
        path = next(path for path in segment_files(root) if int(path.name[:10]) == stalled.segment)
        segment = Segment(path, writable=False)
        assert stalled.unit is not None
        assert segment.word(stalled.unit) >> layout.WORD_KIND_SHIFT & 7 == layout.KIND_CLAIMED
        segment.close()
        victim.kill()
        (dead,) = client.stalled_writers(look_s=0.0)
        assert (dead.pid, dead.alive, dead.unit) == (victim.pid, False, stalled.unit)
    with cometlog.open(root, make_config()) as client:
        client.writer(STREAM)
        assert client.stalled_writers(look_s=0.0) == []
        assert client.stats()[STREAM].recovered_words == 1


def test_writers_that_work_and_writers_that_rest_are_not_named(
    root: Path, start_worker: type[Worker]
) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [payload(9, 0)])
        working = start_worker("append_for_ever", root=str(root), write_path="mmap", owner=0, seed=1)
        assert working.hear() == "ready"
        working.tell()
        for _ in range(5):
            working.hear()
            assert client.stalled_writers(look_s=0.05) == []
        working.kill()


def test_counters_of_a_shard_without_the_files_that_hold_them_are_zero(root: Path) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [payload(0, 0)])
    (root / SHARD / "control").unlink()
    (root / SHARD / "statistics").unlink()
    with cometlog.open(root, CONFIG, read_only=True) as client:
        assert client.stats() == {STREAM: ShardStatistics()}
        assert client.stalled_writers(look_s=0.0) == []
