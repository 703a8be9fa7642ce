"""Threads of one process on one client: appends, rotations, syncs, reads and close beside one another."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cometlog
from cometlog.errors import ClosedError
from cometlog.write_paths.mmap_lockfree import MmapPath
from support import DURABLE_PATHS, KIB, PATHS, STREAM, make_config, owner_and_sequence, payload, read_all


def run_threads(*bodies: Callable[[], Any]) -> None:
    """Run every body in a thread of its own, started together; raise what any of them raised."""
    barrier = threading.Barrier(len(bodies))
    errors: list[BaseException] = []

    def run(body: Callable[[], Any]) -> None:
        barrier.wait(30)
        try:
            body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    for error in errors:
        raise error


@pytest.mark.parametrize("write_path", PATHS)
def test_threads_share_a_writer(root: Path, write_path: str) -> None:
    each = 200 if write_path in DURABLE_PATHS else 5000
    acknowledged: list[dict[int, tuple[int, int]]] = [{} for _ in range(4)]
    with cometlog.open(root, make_config(64 * KIB), write_path=write_path) as client:

        def append(owner: int) -> None:
            writer = client.writer(STREAM)
            for sequence in range(each):
                if sequence % 10:
                    acknowledged[owner][writer.append(payload(owner, sequence))] = (owner, sequence)
                else:
                    numbers = client.append(
                        STREAM, [payload(owner, sequence), payload(owner + 100, sequence)]
                    )
                    acknowledged[owner] |= {
                        numbers[0]: (owner, sequence), numbers[1]: (owner + 100, sequence)
                    }  # fmt: skip

        run_threads(*[lambda owner=owner: append(owner) for owner in range(4)])
    together = {number: whose for mine in acknowledged for number, whose in mine.items()}
    assert sorted(together) == list(range(4 * each * 11 // 10))
    assert {entry.number: owner_and_sequence(entry.data) for entry in read_all(root)} == together


@pytest.mark.parametrize("write_path", PATHS)
def test_sync_in_one_thread_while_another_rotates(root: Path, write_path: str) -> None:
    total = 300 if write_path in DURABLE_PATHS else 8000
    finished = threading.Event()
    with cometlog.open(root, make_config(64 * KIB), write_path=write_path) as client:
        writer = client.writer(STREAM)

        def append() -> None:
            try:
                for sequence in range(total):
                    assert writer.append(payload(0, sequence, 3000)) == sequence
            finally:
                finished.set()

        def sync() -> None:
            while not finished.is_set():
                before = client.next_entry(STREAM)
                client.sync()
                assert client.stats()[STREAM].durable_entry >= before

        run_threads(append, sync, sync)
    assert len(read_all(root)) == total


@pytest.mark.parametrize("write_path", PATHS)
def test_close_while_other_threads_append_and_sync(root: Path, write_path: str) -> None:
    for turn in range(10):
        client = cometlog.open(root, make_config(64 * KIB), write_path=write_path)
        writer = client.writer(STREAM)
        acknowledged: list[int] = []
        enough = threading.Event()

        def append(
            writer: Any = writer,
            acknowledged: list[int] = acknowledged,
            enough: Any = enough,
            turn: int = turn,
        ) -> None:
            with pytest.raises(ClosedError):
                while True:
                    acknowledged.append(writer.append(payload(turn, len(acknowledged), 1000)))
                    if len(acknowledged) == 20:
                        enough.set()

        def sync(client: Any = client) -> None:
            with pytest.raises(ClosedError):
                while True:
                    client.sync(STREAM)

        def close(client: Any = client, enough: Any = enough) -> None:
            enough.wait(30)
            client.close()

        run_threads(append, sync, close)
        entries = {entry.number: owner_and_sequence(entry.data) for entry in read_all(root)}
        assert [entries[number] for number in acknowledged] == [
            (turn, position) for position in range(len(acknowledged))
        ]
        with cometlog.open(root, read_only=True) as reader:
            assert not reader.stats()[STREAM].poisoned


def test_two_threads_read_through_one_client(root: Path) -> None:
    with cometlog.open(root, make_config(64 * KIB)) as client:
        for sequence in range(3000):
            client.writer(STREAM).append(payload(0, sequence, 600))

        def scan() -> None:
            for _ in range(3):
                assert [owner_and_sequence(entry.data)[1] for entry in client.scan(STREAM)] == list(
                    range(3000)
                )

        def seek() -> None:
            for number in range(0, 3000, 7):
                assert client.read(STREAM, number, 1)[0].number == number

        run_threads(scan, scan, seek)


@pytest.mark.parametrize("change", ["longer", "shorter", "replaced", "not bytes"])
def test_list_changed_by_another_thread_during_an_append_changes_nothing_of_the_append(
    root: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Growth of the segment is where an append lets other threads run; the batch is what it was when it was measured."""
    batch = [payload(0, sequence, 1000) for sequence in range(3000)]
    given = list(batch)
    real = MmapPath._back

    def back(self: MmapPath, units: int) -> None:
        changed = {
            "longer": [*batch, *batch], "shorter": batch[:5], "replaced": [bytes(5000)] * 3000, "not bytes": [7] * 3000
        }[change]  # fmt: skip
        given[:] = changed  # type: ignore[assignment]
        real(self, units)

    with cometlog.open(root, make_config()) as client:
        writer = client.writer(STREAM)
        monkeypatch.setattr(MmapPath, "_back", back)
        assert writer.extend(given) == range(3000)
        assert given != batch, "the append did not have to wait for growth"
        monkeypatch.undo()
        assert writer.append(b"after") == 3000
        assert [entry.data for entry in client.scan(STREAM)] == [*batch, b"after"]


def test_list_changed_by_another_thread_during_compression_changes_nothing_of_the_append(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(compression={"threshold_bytes": 100})
    batch = [payload(0, sequence, 1000) for sequence in range(50)]
    given = list(batch)
    real = cometlog.compression.Compressor.compress

    def compress(self: Any, data: bytes) -> tuple[bytes, int]:
        given.append(b"late")
        return real(self, data)

    monkeypatch.setattr(cometlog.compression.Compressor, "compress", compress)
    with cometlog.open(root, config) as client:
        assert client.append(STREAM, given) == range(50)
        assert client.append(STREAM, [b"after"]) == range(50, 51)
        assert [entry.data for entry in client.scan(STREAM)] == [*batch, b"after"]
