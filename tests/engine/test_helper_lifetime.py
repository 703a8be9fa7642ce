"""The helper thread looks at memory that clients own: it must have let go of it before it goes, however it goes."""

from pathlib import Path

import pytest
from support import KIB, MIB, PATHS, Worker, owner_and_sequence, read_all


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
    "sizes", [(1 * MIB, 16 * MIB, 256 * KIB), (16 * MIB, 1 * MIB, 16 * MIB)], ids=["1M-16M-256K", "16M-1M-16M"]
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
