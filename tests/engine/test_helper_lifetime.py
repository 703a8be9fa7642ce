"""The helper thread: it lets go of what clients own before that goes, however it goes, and it does its work after an idle time."""

import gc
import time
from pathlib import Path

import pytest

import cometlog
from support import (
    KIB,
    MIB,
    PATHS,
    STREAM,
    Worker,
    make_config,
    owner_and_sequence,
    payload,
    read_all,
    segment_files,
    wait_until,
)  # fmt: skip


@pytest.mark.parametrize("write_path", PATHS)
def test_process_that_never_closes_its_client_exits_normally(
    root: Path, start_worker: type[Worker], write_path: str
) -> None:
    worker = start_worker("leave_open", root=str(root), write_path=write_path)
    assert worker.hear() == "appended"
    assert worker.end() == 0
    assert [entry.data for entry in read_all(root, write_path="mmap")] == [b"left open"]


@pytest.mark.parametrize("write_path", PATHS)
def test_client_lost_to_the_garbage_collector_does_not_take_the_process_down(
    root: Path, start_worker: type[Worker], write_path: str
) -> None:
    worker = start_worker("drop_client", root=str(root), write_path=write_path)
    assert worker.hear() == "alive"
    assert worker.end() == 0


@pytest.mark.parametrize(
    "sizes",
    [(1 * MIB, 16 * MIB, 256 * KIB), (16 * MIB, 1 * MIB, 16 * MIB)],
    ids=["1M-16M-256K", "16M-1M-16M"],
)
def test_segment_prepared_under_another_size_is_not_mistaken_for_this_one(
    root: Path, start_worker: type[Worker], sizes: tuple[int, ...]
) -> None:
    worker = start_worker("cross_segment_sizes", root=str(root), sizes=sizes, entry_bytes=50_000)
    count = worker.hear()
    assert worker.end() == 0
    entries = read_all(root)
    assert [entry.number for entry in entries] == list(range(count))
    assert [owner_and_sequence(entry.data) for entry in entries] == [(0, number) for number in range(count)]


@pytest.mark.parametrize("write_path", PATHS)
def test_index_follows_appends_that_come_after_an_idle_time(root: Path, write_path: str) -> None:
    """After 100 ms without an append the helper sleeps; whatever comes then still reaches the index while the client is open."""
    config = make_config(checkpoint_interval_ms=20, indexing={"boundary_interval_entries": 10})

    def live_entries_in_index() -> int:
        index = segment_files(root)[0].with_suffix(".idx")
        return int.from_bytes(index.read_bytes()[44:48], "little") if index.exists() else 0

    with cometlog.open(root, config, write_path=write_path) as client:
        writer = client.writer(STREAM)
        for turn in range(3):
            for sequence in range(20):
                writer.append(payload(turn, sequence))
            covered = 20 * (turn + 1)
            wait_until(lambda: live_entries_in_index() == covered, "the index to follow", 10)  # noqa: B023
            time.sleep(0.25)  # the idle time that this is about


def test_client_lost_to_the_garbage_collector_lets_go_of_the_shard(root: Path) -> None:
    lost = cometlog.open(root, make_config(), write_path="buffered")
    lost.append(STREAM, [b"one"])
    del lost
    gc.collect()
    with cometlog.open(root, make_config(), write_path="buffered") as client:
        assert client.append(STREAM, [b"two"]) == range(1, 2)
