"""Compression of frames: which batches, kept when, done where, by how many threads, and across a fork."""

import os
import random
import signal
from pathlib import Path

import pytest

import cometlog
from cometlog import Config
from cometlog.compression import Compressor
from support import KIB, MIB, PATHS, SHARED_PATHS, STREAM, read_all

TEXT = b"the same again, "


def config_of(**compression: object) -> Config:
    return Config.default().with_changes(compression={"threshold_bytes": KIB} | compression)


@pytest.fixture
def noise() -> bytes:
    return random.Random(7).randbytes(4 * MIB)


def stored_bytes(client: cometlog.Client, batch: list[bytes]) -> int:
    """Append a batch and return how many bytes its payload took."""
    before = client.stats()[STREAM].bytes if client.streams() else 0
    client.append(STREAM, batch)
    return client.stats()[STREAM].bytes - before


def test_the_mean_entry_decides_whether_a_batch_is_compressed(root: Path) -> None:
    large, small = TEXT * 128, TEXT
    with cometlog.open(root, config_of()) as client:
        assert stored_bytes(client, [large] * 10) < len(large)
        assert stored_bytes(client, [small] * 100) > 100 * len(small)
        assert stored_bytes(client, [large] + [small] * 9) > len(large), "the mean is below the threshold"
        assert stored_bytes(client, [large] * 6 + [small] * 4) < len(large), "the mean is above the threshold"
        assert stored_bytes(client, [b"x" * KIB]) < KIB, "a single entry at the threshold"
        assert stored_bytes(client, [b"x" * (KIB - 1)]) >= KIB - 1, "a single entry below it"


@pytest.mark.parametrize("saved_percent", [5, 8, 12, 30])
def test_what_saves_less_than_a_tenth_is_kept_as_it_was(root: Path, noise: bytes, saved_percent: int) -> None:
    text_bytes = 100 * KIB * saved_percent // 100
    entry = noise[: 100 * KIB - text_bytes] + b"x" * text_bytes
    with cometlog.open(root, config_of()) as client:
        stored = stored_bytes(client, [entry])
        assert (stored < len(entry)) == (saved_percent >= 10)
    assert [found.data for found in read_all(root)] == [entry]


@pytest.mark.parametrize("write_path", SHARED_PATHS)
def test_while_a_batch_is_compressed_others_append_and_come_first(
    root: Path, write_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress = Compressor.compress
    numbers: list[int] = []

    def compress_slowly(self: Compressor, batch: bytes) -> tuple[bytes, int]:
        if not numbers:
            numbers.append(other.append(STREAM, [b"small"])[0])
            numbers.append(len(other.read(STREAM, 0, 10)))
        return compress(self, batch)

    monkeypatch.setattr(Compressor, "compress", compress_slowly)
    with (
        cometlog.open(root, config_of(), write_path=write_path) as client,
        cometlog.open(root, config_of(), write_path=write_path) as other,
    ):
        client.append(STREAM, [b"attached"])
        assert client.append(STREAM, [TEXT * 100]) == range(2, 3)
    assert numbers == [1, 2], "a number was claimed, or a lock held, before the batch was compressed"


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize(
    ("workers", "size_bytes", "more"), [(1, 2 * MIB, 0), (3, 2 * MIB, 3), (3, 900 * KIB, 0)]
)
def test_batches_of_a_mebibyte_and_more_are_compressed_by_so_many_threads(
    root: Path, noise: bytes, monkeypatch: pytest.MonkeyPatch, workers: int, size_bytes: int, more: int
) -> None:
    new_context = Compressor._new_context
    seen: list[int] = []

    class Counting:
        """A zstd context that notes how many threads there are once it has compressed."""

        def __init__(self, context: object) -> None:
            self._context = context

        def compress(self, batch: bytes) -> bytes:
            before = threads()
            compressed = self._context.compress(batch)
            seen.append(threads() - before)
            return compressed

    monkeypatch.setattr(
        Compressor, "_new_context", lambda *arguments, **named: Counting(new_context(*arguments, **named))
    )
    with cometlog.open(root, config_of(workers=workers)) as client:
        client.append(STREAM, [b"attached"])
        seen.clear()
        client.append(STREAM, [TEXT * (size_bytes // len(TEXT))])
        assert seen == [more]
    assert len(read_all(root)[1].data) == size_bytes // len(TEXT) * len(TEXT)


@pytest.mark.parametrize("write_path", PATHS)
def test_a_forked_child_compresses_large_batches_also_after_its_parent_did(
    root: Path, write_path: str
) -> None:
    batch = [TEXT * 1000] * 200
    client = cometlog.open(root, config_of(workers=4), write_path=write_path)
    client.append(STREAM, batch)
    if write_path == "buffered":  # of one process: the child writes a log of its own
        client.close()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a child that waits for threads of its parent is ended, and fails the test
        mine = (
            cometlog.open(root.with_name("child"), config_of(workers=4))
            if write_path == "buffered"
            else client
        )
        mine.append(STREAM, batch)
        mine.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.close()
    found = [
        entry.data for path in (root, root.with_name("child")) if path.exists() for entry in read_all(path)
    ]
    assert found == 2 * batch
