"""Holes that dead writers leave below the tail, each made on purpose: a kill at a random instant leaves one too rarely to rely on."""

import random
from pathlib import Path

import pytest

import cometlog
from cometlog.control import Control
from cometlog.kernel import layout
from cometlog.segment import Segment
from support import (
    BATCH_OWNERS,
    SHARD,
    SHARED_PATHS,
    STREAM,
    Worker,
    make_config,
    owner_and_sequence,
    payload,
    read_all,
    segment_files,
)  # fmt: skip
from test_processes import BATCH_ENTRIES, BATCH_EVERY, shard_end, stop_while_it_copies


def claim_and_vanish(root: Path, entries: int, units: int) -> int:
    """Do what a writer does that dies right after its claim: move the tail, write nothing. Returns the first number burnt."""
    segment = Segment(segment_files(root)[-1], writable=True)
    tail = segment.tail()
    moved = tail + (entries << layout.TAIL_ENTRIES_SHIFT) + units
    assert segment.mapping.compare_and_swap(layout.SEGMENT_TAIL, tail, moved)
    first = segment.base + (tail >> layout.TAIL_ENTRIES_SHIFT)
    segment.close()
    return first


@pytest.mark.parametrize("live", [True, False], ids=["other writers live", "nobody lives"])
@pytest.mark.parametrize("behind", [0, 3])
def test_claim_without_a_word_is_padded_up_to_the_next_frame_or_the_tail(
    root: Path, live: bool, behind: int
) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [payload(0, 0), payload(0, 1)])
        assert claim_and_vanish(root, entries=5, units=100) == 2
        for sequence in range(behind):
            assert client.append(STREAM, [payload(0, 7 + sequence)]) == range(7 + sequence, 8 + sequence)
        with cometlog.open(root, read_only=True) as reader:  # may not repair: passes the hole by
            assert [entry.number for entry in reader.scan(STREAM)] == [0, 1, *range(7, 7 + behind)]
            assert reader.entry_count(STREAM) == 2 + behind
        if not live:
            control = Control(root / SHARD / "control", writable=True)
            control.write_clean_record(None)
            control.close()
    expected = [0, 1, *range(7, 7 + behind)]
    if not live:
        with cometlog.open(root, make_config()) as client:
            client.writer(STREAM)
        assert [entry.number for entry in read_all(root)] == expected
    with cometlog.open(root, make_config()) as client:
        client.writer(STREAM)
        if live:
            assert claim_and_vanish(root, entries=1, units=4) == 7 + behind
            assert client.append(STREAM, [payload(0, 8 + behind)]) == range(8 + behind, 9 + behind)
            expected.append(8 + behind)
        entries = list(client.scan(STREAM))
        assert [entry.number for entry in entries] == expected
        assert [owner_and_sequence(entry.data)[1] for entry in entries] == expected
        assert client.entry_count(STREAM) == len(expected)
        client.sync()
    assert [entry.number for entry in read_all(root)] == expected


@pytest.mark.parametrize("readers", ["scan", "sync", "reopen"])
def test_writer_killed_in_the_middle_of_its_copy_burns_its_batch_and_nothing_else(
    root: Path, rng: random.Random, start_worker: type[Worker], readers: str
) -> None:
    victim = start_worker(
        "append_singles",
        root=str(root),
        owner=0,
        count=50_000,
        batch_every=BATCH_EVERY,
        batch_entries=BATCH_ENTRIES,
    )
    assert victim.hear() == "ready"
    survivor = cometlog.open(root, make_config())
    survivor.writer(STREAM)
    victim.tell()
    stop_while_it_copies(victim, root, rng)
    end = shard_end(root)
    victim.kill()
    assert survivor.append(STREAM, [payload(5, 0)]) == range(end, end + 1)
    if readers == "sync":
        survivor.sync()
    if readers == "reopen":
        survivor.close()
        survivor = cometlog.open(root, make_config())
        survivor.writer(STREAM)
    singles, large, others = [], 0, []
    numbers = set()
    for entry in survivor.scan(STREAM):
        owner, sequence = owner_and_sequence(entry.data)
        numbers.add(entry.number)
        if owner == BATCH_OWNERS:
            large += 1
        elif owner == 0:
            singles.append(sequence)
        else:
            others.append((entry.number, owner, sequence))
    survivor.close()
    assert singles == list(range(len(singles)))
    burnt = sorted(set(range(end + 1)) - numbers)
    # Stopped in its copy: of a large batch, hardly ever of a single. Either is burnt as a whole and ends where the survivor went on.
    assert len(burnt) in (BATCH_ENTRIES, 1)
    assert burnt == list(range(end - len(burnt), end))
    assert large % BATCH_ENTRIES == 0
    assert others == [(end, 5, 0)]


@pytest.mark.parametrize("write_path", SHARED_PATHS)
def test_hole_left_by_the_mmap_path_is_passed_by_whoever_opens_next(root: Path, write_path: str) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [payload(0, 0)])
    claim_and_vanish(root, entries=2, units=10)  # behind a clean record that no longer holds
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        assert client.append(STREAM, [payload(0, 3)]) == range(3, 4)
        assert [entry.number for entry in client.scan(STREAM)] == [0, 3]
