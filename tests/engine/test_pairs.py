"""A shard written by one path is read and continued by every other, also where the first was killed while it appended."""

import itertools
import random
import time
from pathlib import Path

import pytest

import cometlog
from support import KIB, PATHS, STREAM, Worker, make_config, owner_and_sequence, payload, read_all

PAIRS = list(itertools.product(PATHS, PATHS))
CONFIG = make_config(64 * KIB)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_what_one_path_wrote_another_reads_and_continues(root: Path, first: str, second: str) -> None:
    total = 0
    for turn, write_path in enumerate((first, second, first)):
        with cometlog.open(root, CONFIG, write_path=write_path) as client:
            assert client.entry_count(STREAM) == total
            for length in (20, 5000, 200):  # every turn crosses a rotation
                batch = [payload(turn, total + position, length) for position in range(5)]
                assert client.append(STREAM, batch) == range(total, total + 5)
                total += 5
            assert client.writer(STREAM).append(payload(turn, total, 20_000)) == total
            total += 1
            entries = list(client.scan(STREAM))
            assert [owner_and_sequence(entry.data)[1] for entry in entries] == list(range(total))
    assert [entry.number for entry in read_all(root)] == list(range(total))


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_what_was_acknowledged_before_a_kill_is_there_once(
    root: Path, rng: random.Random, start_worker: type[Worker], first: str, second: str
) -> None:
    acknowledged: dict[int, int] = {}
    for turn in range(3):
        worker = start_worker(
            "append_for_ever", root=str(root), write_path=first, owner=turn, seed=rng.randrange(1 << 30)
        )
        assert worker.hear() == "ready"
        worker.tell()
        acknowledged.update(dict(worker.hear()))
        time.sleep(rng.uniform(0, 0.03))  # where the kill falls is the test's only use of time
        worker.kill()
        for line in worker.hear_rest():
            acknowledged.update(dict(line))
        with cometlog.open(root, CONFIG, write_path=second) as client:
            found = {entry.number: owner_and_sequence(entry.data) for entry in client.scan(STREAM)}
            assert len(found) == client.entry_count(STREAM)
            numbers = client.append(STREAM, [payload(1000 + turn, 0), payload(1000 + turn, 1)])
            assert numbers[0] >= max(found, default=-1) + 1
            found |= {number: (1000 + turn, position) for position, number in enumerate(numbers)}
    read = read_all(root)
    assert {entry.number: owner_and_sequence(entry.data) for entry in read} == found
    assert [entry.number for entry in read] == sorted(found)
    assert acknowledged, "nothing was acknowledged before the kills"
    owners_of = {number: turn * 1_000_000 + sequence for number, (turn, sequence) in found.items()}
    assert {number: owners_of.get(number) for number in acknowledged} == acknowledged
    assert len(set(found.values())) == len(found), "an entry is there twice"
