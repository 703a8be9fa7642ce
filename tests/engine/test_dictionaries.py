"""Trained dictionaries: better on small entries, named in the frame, rotated, damaged and missing ones reported."""

import json
import random
import threading
from pathlib import Path

import pytest

import cometlog
from cometlog import Config, CorruptionError, DictionaryError
from cometlog.dictionaries import list_dictionaries, load_dictionary, store_dictionary
from support import KIB, PATHS, SHARD, STREAM, read_all


def config_of(**compression: object) -> Config:
    return Config.default().with_changes(
        compression={"threshold_bytes": 64} | compression, storage={"segment_size_bytes": 64 * KIB}
    )


def order(number: int) -> bytes:
    rng = random.Random(number)
    return json.dumps(
        {"trace_id": f"{rng.getrandbits(64):016x}", "service": "checkout", "operation": "create_order", "status": "ok",
         "customer": {"id": rng.randrange(10**6), "country": rng.choice(["DE", "FR", "IT"])}, "total": rng.randrange(10**5)}
    ).encode()  # fmt: skip


def append_orders(client: cometlog.Client, numbers: range) -> None:
    """Append in batches that fit the small segments of these tests."""
    for start in range(numbers.start, numbers.stop, 100):
        client.append(STREAM, [order(number) for number in range(start, min(start + 100, numbers.stop))])


@pytest.mark.parametrize("write_path", PATHS)
def test_a_dictionary_is_taken_up_at_the_next_segment_and_all_is_read_back(
    root: Path, write_path: str
) -> None:
    with cometlog.open(root, config_of(), write_path=write_path) as client:
        for number in range(600):
            client.append(STREAM, [order(number)])
        dictionary_id = client.train_dictionary(STREAM, size_bytes=4 * KIB)
        assert list_dictionaries(root / SHARD) == [dictionary_id] == [32768]
        for number in range(600, 2000):
            client.append(STREAM, [order(number)])
        client.append(STREAM, [order(number) for number in range(2000, 2100)])
    assert [entry.data for entry in read_all(root)] == [order(number) for number in range(2100)]


def test_small_entries_need_less_room_with_a_dictionary(root: Path) -> None:
    lengths = {}
    for use in (False, True):
        path = root / str(use)
        with cometlog.open(path, config_of()) as client:
            append_orders(client, range(2000))
            client.train_dictionary(STREAM, size_bytes=4 * KIB)
        with cometlog.open(path, config_of(use_dictionary=use)) as client:
            before = client.stats()[STREAM].bytes
            for number in range(1000):
                client.append(STREAM, [order(10_000 + number)])
            lengths[use] = client.stats()[STREAM].bytes - before
        assert len(read_all(path)) == 3000
    assert lengths[True] < 0.75 * lengths[False], lengths


def test_a_second_dictionary_replaces_the_first_for_new_frames_only(root: Path) -> None:
    for turn in range(3):
        with cometlog.open(root, config_of()) as client:
            append_orders(client, range(turn * 1000, turn * 1000 + 500))
            for number in range(50):
                client.append(STREAM, [order(turn * 1000 + 500 + number)])
            assert client.train_dictionary(STREAM, samples=500, size_bytes=2 * KIB) == 32768 + turn
    expected = [order(turn * 1000 + number) for turn in range(3) for number in range(550)]
    assert [entry.data for entry in read_all(root)] == expected


def test_processes_that_store_at_once_get_ids_of_their_own(tmp_path: Path) -> None:
    with cometlog.open(tmp_path / "log", config_of()) as client:
        append_orders(client, range(500))
        client.train_dictionary(STREAM, size_bytes=2 * KIB)
    shard = tmp_path / "log" / SHARD
    trained = load_dictionary(shard, 32768)
    ids: list[int] = []
    threads = [
        threading.Thread(target=lambda: ids.append(store_dictionary(shard, trained, 0o600))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(ids) <= set(list_dictionaries(shard))
    assert all(load_dictionary(shard, identity)[4:8] == identity.to_bytes(4, "little") for identity in ids)


def test_a_missing_or_damaged_dictionary_is_corruption_naming_the_entry(root: Path) -> None:
    with cometlog.open(root, config_of()) as client:
        append_orders(client, range(500))
        client.train_dictionary(STREAM, size_bytes=2 * KIB)
    with cometlog.open(root, config_of()) as client:
        client.append(STREAM, [order(1000)])
    path = root / SHARD / "dictionary-0000032768.zdict"
    whole = path.read_bytes()
    for damaged in (None, b"", whole[:-1], whole[:100] + b"X" + whole[101:], b"X" + whole[1:]):
        path.unlink(missing_ok=True)
        if damaged is not None:
            path.write_bytes(damaged)
        with cometlog.open(root, read_only=True) as client:
            assert [entry.data for entry in client.read(STREAM, 0, 500)] == [order(n) for n in range(500)]
            with pytest.raises(CorruptionError, match="needs dictionary 32768") as caught:
                list(client.read(STREAM, 500, 1))
            assert caught.value.entry == 500
    path.write_bytes(whole)
    assert read_all(root)[-1].data == order(1000)


def test_too_little_to_learn_from_is_an_error_that_says_so(root: Path) -> None:
    with cometlog.open(root, config_of()) as client:
        client.append(STREAM, [b"few"] * 5)
        with pytest.raises(DictionaryError, match="at least 20 entries, there are 5"):
            client.train_dictionary(STREAM)
        client.append(STREAM, [b""] * 50)
        with pytest.raises(DictionaryError, match="do not make a dictionary of 8 bytes"):
            client.train_dictionary(STREAM, size_bytes=8)


def test_a_large_batch_is_shared_by_workers_and_read_back(root: Path) -> None:
    batch = [order(number) for number in range(20_000)]
    config = Config.default().with_changes(compression={"threshold_bytes": 64, "workers": 2})
    with cometlog.open(root, config) as client:
        assert sum(map(len, batch)) > 2 << 20
        client.append(STREAM, batch)
        assert [entry.data for entry in client.scan(STREAM)] == batch


def test_threads_read_compressed_frames_at_the_same_time(root: Path) -> None:
    batch = [order(number) for number in range(5000)]
    with cometlog.open(
        root, config_of(threshold_bytes=64).with_changes(storage={"segment_size_bytes": 16 << 20})
    ) as client:
        for _ in range(8):
            client.append(STREAM, batch)
    wrong: list[int] = []

    def read() -> None:
        with cometlog.open(root, read_only=True) as client:
            for start in range(0, 40_000, 5000):
                if client.read(STREAM, start, 5000).payloads() != batch:
                    wrong.append(start)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
