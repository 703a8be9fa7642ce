"""The contract of ``write_paths/base.py``, over every path, segment size, checkpoint interval and batch shape."""

import os
import random
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

import cometlog
from support import (
    DURABLE_PATHS,
    KIB,
    MIB,
    PATHS,
    SHARD,
    STREAM,
    directory_state,
    make_config,
    owner_and_sequence,
    payload,
    read_all,
    segment_files,
)  # fmt: skip

SIZES = [64 * KIB, 1 * MIB, 64 * MIB]
INTERVALS = [1, 100]
SHAPES = ["single", "pairs", "hundreds", "mixed", "limit"]
CLOCK_SLACK_NS = 1_000_000_000


def batch_limit(segment_size_bytes: int) -> int:
    """Bytes of a batch, offsets included, that a segment takes (PROTOCOL, Limits)."""
    return min((segment_size_bytes - 4096) // 8 * 8 // 2, 128 * MIB)


def batches(shape: str, size: int, durable: bool, rng: random.Random) -> Iterator[list[bytes]]:
    """Batches of one shape. Small segments are crossed at least three times; paths that sync every append get fewer."""
    numbers = count()
    limit = batch_limit(size)
    if shape == "limit":
        for _ in range(4 if size < 64 * MIB else 1):
            half = (limit - 12) // 2
            yield [payload(0, next(numbers), half), payload(0, next(numbers), limit - 12 - half)]
            yield [payload(0, next(numbers), limit)]
        return
    entries = {"single": 1, "pairs": 2, "hundreds": 100, "mixed": 0}[shape]
    appends = 60 if durable else 400
    length = min(3 * size // appends, limit // 2) // (entries or 1) if size < 64 * MIB else 117
    for _ in range(appends):
        if shape == "mixed":
            sizes = [rng.choice([16, 17, 100, 4096, 50_000]) for _ in range(rng.randrange(3, 9))]
            while sum(sizes) + 4 * (len(sizes) + 1) > limit:
                sizes.pop(sizes.index(max(sizes)))
            yield [payload(0, next(numbers), item) for item in sizes or [16]]
        else:
            yield [payload(0, next(numbers), max(length, 16)) for _ in range(entries)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interval_ms", INTERVALS, ids=lambda value: f"{value}ms")
@pytest.mark.parametrize("size", SIZES, ids=["64K", "1M", "64M"])
@pytest.mark.parametrize("write_path", PATHS)
def test_contract(
    root: Path, rng: random.Random, write_path: str, size: int, interval_ms: int, shape: str
) -> None:
    config = make_config(size, interval_ms)
    written: list[bytes] = []
    started_ns = time.time_ns()
    plan = list(batches(shape, size, write_path in DURABLE_PATHS, rng))
    for part in (plan[: len(plan) // 2], plan[len(plan) // 2 :]):  # the second half after reopening
        with cometlog.open(root, config, write_path=write_path) as client:
            assert client.entry_count(STREAM) == client.next_entry(STREAM) == len(written)
            writer = client.writer(STREAM)
            for number, batch in enumerate(part):
                if len(batch) == 1:
                    assert writer.append(batch[0]) == len(written)
                else:
                    append = writer.extend if number % 2 else lambda items: client.append(STREAM, items)
                    assert append(batch) == range(len(written), len(written) + len(batch))
                written += batch
            client.sync()
            assert client.stats()[STREAM].durable_entry == len(written)
            check_reads(client, written, rng)
        check_files(root, size, interval_ms, len(written))
    entries = read_all(root)
    check_entries(entries, written)
    assert all(
        started_ns - CLOCK_SLACK_NS <= entry.timestamp_ns <= time.time_ns() + CLOCK_SLACK_NS
        for entry in entries
    )
    if size < 64 * MIB:
        assert len(segment_files(root)) >= 3


def check_entries(entries: list[cometlog.Entry], written: list[bytes]) -> None:
    assert [entry.number for entry in entries] == list(range(len(written)))
    assert [owner_and_sequence(entry.data)[1] for entry in entries] == list(range(len(written)))
    assert [entry.data for entry in entries] == written


def check_reads(client: cometlog.Client, written: list[bytes], rng: random.Random) -> None:
    """Scan, read, recent and the counts agree with one another and with what was written."""
    total = len(written)
    assert client.entry_count(STREAM) == client.next_entry(STREAM) == total
    assert client.first_entry(STREAM) == 0
    scanned = list(client.scan(STREAM))
    check_entries(scanned, written)
    for _ in range(5):
        start = rng.randrange(total)
        length = rng.randrange(1, 200)
        assert list(client.read(STREAM, start, length)) == scanned[start : start + length]
        assert list(client.scan(STREAM, start, start + length)) == scanned[start : start + length]
    for last in (1, 7, total, total + 5):
        assert list(client.recent(STREAM, last)) == scanned[max(0, total - last) :]


def check_files(root: Path, size: int, interval_ms: int, entries: int) -> None:
    """Right after close: nothing temporary, an index beside each segment, and no file beyond its size."""
    segments = segment_files(root)
    names = {path.name for path in (root / SHARD).iterdir()}
    indexes = {path.with_suffix(".idx").name for path in segments}
    assert names == {path.name for path in segments} | indexes | {"control", "lock", "durable", "statistics"}
    assert all(path.stat().st_size <= size for path in segments)
    bases = [int(path.name[11:31]) for path in segments]
    assert bases == sorted(bases)
    assert bases[-1] <= entries


@pytest.mark.parametrize("write_path", PATHS)
def test_index_on_disk_covers_every_entry_after_close(root: Path, write_path: str) -> None:
    config = make_config(1 * MIB, indexing={"boundary_interval_entries": 10})
    with cometlog.open(root, config, write_path=write_path) as client:
        for number in range(200):
            client.append(STREAM, [payload(0, number, 10_000)])
    covered = 0
    for path in segment_files(root):
        raw = path.with_suffix(".idx").read_bytes()
        boundaries, live = int.from_bytes(raw[32:36], "little"), int.from_bytes(raw[44:48], "little")
        assert len(raw) == 64 + 24 * boundaries
        assert boundaries == -(-live // 10)
        covered += live
    assert covered == 200


def written_bytes(root: Path) -> list[tuple[Path, bytes, bytes]]:
    """Tail and frames of every segment; how far the helper thread has allocated a file meanwhile is its own affair."""
    files = [(path, path.read_bytes()) for path in segment_files(root)]
    return [(path, raw[128:136], raw[4096:].rstrip(b"\0")) for path, raw in files]


@pytest.mark.parametrize("write_path", PATHS)
def test_empty_batch_gives_an_empty_range_and_writes_nothing(root: Path, write_path: str) -> None:
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        client.append(STREAM, [b"one", b"two"])
        before = written_bytes(root)
        for empty in ([], (), iter(())):
            assert client.append(STREAM, empty) == range(2, 2)
        assert client.writer(STREAM).extend([]) == range(2, 2)
        assert written_bytes(root) == before
        assert client.append(STREAM, [b"three"]) == range(2, 3)


@pytest.mark.parametrize("write_path", PATHS)
def test_empty_entries_are_entries(root: Path, write_path: str) -> None:
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        assert client.writer(STREAM).append(b"") == 0
        assert client.append(STREAM, [b""]) == range(1, 2)
        assert client.append(STREAM, [b"", b"x", b""]) == range(2, 5)
        assert client.append(STREAM, [b""] * 100) == range(5, 105)
    assert [entry.data for entry in read_all(root)] == [b"", b"", b"", b"x", b""] + [b""] * 100


@pytest.mark.parametrize("write_path", PATHS)
def test_buffers_are_accepted_and_copied(root: Path, write_path: str) -> None:
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        array = bytearray(b"array")
        every_second = memoryview(b"s-t-r-i-d-e")[::2]
        batch = [array, memoryview(array), every_second, b"bytes"]
        writer = client.writer(STREAM)
        assert writer.append(array) == 0
        assert writer.append(every_second) == 1
        assert writer.extend(batch) == range(2, 6)
        assert batch[0] is array
        array[:] = b"later"
    stored = [entry.data for entry in read_all(root)]
    assert stored == [b"array", b"stride", b"array", b"array", b"stride", b"bytes"]
    assert all(type(data) is bytes for data in stored)


@pytest.mark.parametrize("write_path", PATHS)
def test_any_iterable_is_a_batch_and_the_list_given_stays_as_it_was(root: Path, write_path: str) -> None:
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        mine = [b"a", bytearray(b"b")]
        assert client.append(STREAM, mine) == range(2)
        assert mine == [b"a", bytearray(b"b")]
        assert type(mine[1]) is bytearray
        assert client.append(STREAM, (b"c", b"d")) == range(2, 4)
        assert client.append(STREAM, (entry for entry in (b"e", b"f"))) == range(4, 6)
    assert [entry.data for entry in read_all(root)] == [b"a", b"b", b"c", b"d", b"e", b"f"]


@pytest.mark.parametrize("write_path", PATHS)
def test_streams_of_one_client_are_apart(root: Path, write_path: str) -> None:
    names = [
        "a:v1:shard:0000",
        "a:v1:shard:9999",
        "a:v2:shard:0000",
        "b:v1:shard:0000",
        "a.b-c_d:v1:shard:0000",
    ]
    with cometlog.open(root, make_config(64 * KIB), write_path=write_path) as client:
        for turn in range(3):
            for position, name in enumerate(names):
                assert client.append(name, [payload(position, turn)]) == range(turn, turn + 1)
        assert client.streams() == sorted(names)
        assert client.streams("a:v1:*") == ["a:v1:shard:0000", "a:v1:shard:9999"]
        for position, name in enumerate(names):
            assert [owner_and_sequence(entry.data) for entry in client.scan(name)] == [
                (position, t) for t in range(3)
            ]
            assert {entry.stream for entry in client.scan(name)} == {name}


@pytest.mark.parametrize("write_path", PATHS)
def test_compressed_and_plain_frames_follow_one_another(
    root: Path, rng: random.Random, write_path: str
) -> None:
    config = make_config(1 * MIB, compression={"threshold_bytes": 100})
    written: list[bytes] = []
    with cometlog.open(root, config, write_path=write_path) as client:
        for number in range(60):
            batch = rng.choice([[b"short"], [b"x" * 5000], [rng.randbytes(5000)], [b"y" * 300] * 50])
            assert client.append(STREAM, batch) == range(len(written), len(written) + len(batch)), number
            written += batch
    assert [entry.data for entry in read_all(root)] == written


@pytest.mark.parametrize("write_path", PATHS)
def test_opening_and_closing_without_appending_leaves_every_segment_as_it_was(
    root: Path, write_path: str
) -> None:
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        client.append(STREAM, [b"one"])
    before = {
        name: data
        for name, data in directory_state(root).items()
        if name.endswith((".seg", ".idx", "durable"))
    }
    for _ in range(3):
        with cometlog.open(root, make_config(), write_path=write_path) as client:
            client.writer(STREAM)
    after = {
        name: data
        for name, data in directory_state(root).items()
        if name.endswith((".seg", ".idx", "durable"))
    }
    assert after == before


@pytest.mark.parametrize("write_path", ["sync", "async"])
def test_name_of_a_new_segment_is_durable_before_an_append_into_it_returns(
    root: Path, monkeypatch: pytest.MonkeyPatch, write_path: str
) -> None:
    """A segment that power loss takes out of its directory takes synced entries with it."""
    synced: list[set[str]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        target = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if target == root / SHARD:
            synced.append({path.name for path in target.glob("*.seg")})

    monkeypatch.setattr(os, "fsync", fsync)
    with cometlog.open(root, make_config(64 * KIB), write_path=write_path) as client:
        for sequence in range(20):
            client.append(STREAM, [payload(0, sequence, 20_000)])
            assert {path.name for path in segment_files(root)} <= set().union(*synced)


def test_marker_of_the_log_and_the_names_that_lead_to_it_are_durable_before_open_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(os, "fsync", fsync)
    root = tmp_path / "made" / "with" / "log"
    cometlog.open(root).close()
    assert [Path(path).name.partition(".")[0] for path in (synced[0], synced[-1])] == ["FORMAT", "log"]
    assert synced[1:4] == [str(root.parents[depth]) for depth in range(3)]
