"""Retention: what goes, what stays, and that readers, groups and other processes never lose more than that."""

import threading
import time
from pathlib import Path

import pytest

import cometlog
from cometlog import Config, EntryNotFoundError
from cometlog.config import RetentionConfig
from cometlog.control import Control
from cometlog.retention import Kept, choose
from cometlog.segment import SegmentName, list_segments
from support import (
    KIB,
    PATHS,
    SHARD,
    SHARED_PATHS,
    STREAM,
    Worker,
    make_config,
    payload,
    read_all,
    wait_until,
)

ENTRY_BYTES = 4000
OTHER = "events:v1:shard:0001"


def limited(**retention: float) -> Config:
    return make_config(64 * KIB, retention={"interval_s": 0.0} | retention)


def fill(client: cometlog.Client, segments: int, stream: str = STREAM) -> int:
    """Append until a stream has so many segments; return the number of the next entry."""
    directory = client.path / SHARD.parent / stream[-4:]
    sequence = client.next_entry(stream)
    while len(list_segments(directory)) < segments:
        client.append(stream, [payload(0, sequence, ENTRY_BYTES)])
        sequence += 1
    return sequence


def numbers(root: Path) -> list[int]:
    return [name.number for name in list_segments(root / SHARD)]


def kept(*sizes: int) -> list[Kept]:
    """Segments of ten entries each that ended at 1 s, 2 s, ... after 1970, the last one not yet."""
    last = len(sizes) - 1
    return [
        Kept(
            SegmentName(i + 1, 10 * i),
            size,
            None if i == last else (i + 1) * 10**9,
            None if i == last else 10 * (i + 1),
        )
        for i, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("limits", "unconsumed", "excess", "expected"),
    [
        ({}, None, 0, []),
        ({"max_age_s": 2.5}, None, 0, [(1, "age"), (2, "age")]),
        ({"max_age_s": 0.5, "min_segments": 4}, None, 0, [(1, "age")]),
        ({"max_age_s": 0.5, "min_segments": 1}, None, 0, [(1, "age"), (2, "age"), (3, "age"), (4, "age")]),
        ({"max_shard_bytes": 300}, None, 0, [(1, "shard size"), (2, "shard size")]),
        ({"max_shard_bytes": 1}, None, 0, [(1, "shard size"), (2, "shard size"), (3, "shard size")]),
        ({"max_shard_bytes": 300}, 10, 0, [(1, "shard size")]),
        ({"max_shard_bytes": 300}, 9, 0, []),
        ({"max_shard_bytes": 300, "protect_unconsumed": False}, 0, 0, [(1, "shard size"), (2, "shard size")]),
        ({"max_shard_bytes": 300, "forced_shard_bytes": 400}, 0, 0, [(1, "forced")]),
        ({"forced_shard_bytes": 300}, 0, 0, [(1, "forced"), (2, "forced")]),
        ({}, None, 150, [(1, "total size"), (2, "total size")]),
    ],
)
def test_what_the_limits_condemn(limits: dict, unconsumed: int | None, excess: int, expected: list) -> None:
    config = RetentionConfig(**limits)
    condemned = choose(
        kept(100, 100, 100, 100, 100), config, now_ns=5 * 10**9, unconsumed=unconsumed, excess_bytes=excess
    )
    assert [(segment.name.number, reason) for segment, reason in condemned] == expected


@pytest.mark.parametrize("write_path", PATHS)
def test_the_oldest_segments_go_and_the_rest_is_read_as_before(root: Path, write_path: str) -> None:
    with cometlog.open(root, limited(max_shard_bytes=200 * KIB), write_path=write_path) as client:
        following = fill(client, 6)
        before = {entry.number: entry.data for entry in client.scan(STREAM)}
        removed = client.retain()
        assert [item.reason for item in removed] == ["shard size"] * len(removed)
        first = removed[-1].next_entry
        assert numbers(root) == list(range(removed[-1].number + 1, 7))
        assert sum(path.stat().st_size for path in (root / SHARD).glob("*.seg")) <= 200 * KIB
        assert [entry.number for entry in client.scan(STREAM)] == list(range(first, following))
        assert all(entry.data == before[entry.number] for entry in client.scan(STREAM))
        assert client.first_entry(STREAM) == first
        with pytest.raises(EntryNotFoundError, match=f"the first kept entry is {first}"):
            client.read(STREAM, first - 1)
        assert client.retain() == []
    assert [entry.number for entry in read_all(root)] == list(range(first, following))
    leftover = {path.stem for path in (root / SHARD).glob("*.idx")} - {
        path.stem for path in (root / SHARD).glob("*.seg")
    }
    assert leftover == set()


def test_the_active_segment_and_the_least_number_always_stay(root: Path) -> None:
    with cometlog.open(root, limited(max_shard_bytes=1, min_segments=1)) as client:
        fill(client, 4)
        client.retain()
        assert numbers(root) == [4]
    with cometlog.open(root, limited(max_shard_bytes=1, min_segments=3)) as client:
        fill(client, 3)
        assert numbers(root) == [4, 5, 6]
        assert client.retain() == []


def test_age_counts_from_the_newest_entry_of_a_segment(root: Path) -> None:
    with cometlog.open(root, limited(max_age_s=3600.0, min_segments=1)) as client:
        fill(client, 4)
        assert client.retain() == []
    with cometlog.open(root, limited(max_age_s=0.001, min_segments=1)) as client:
        time.sleep(0.002)
        assert [item.reason for item in client.retain()] == ["age"] * 3


def test_what_a_group_has_not_acknowledged_stays_until_the_forced_limit(root: Path) -> None:
    with cometlog.open(root, limited(max_shard_bytes=1, min_segments=1)) as client:
        fill(client, 5)
        consumer = client.consumer("slow")
        bases = {name.number: name.base for name in list_segments(root / SHARD)}
        consumer.ack(STREAM, range(bases[3] + 1))
        assert [item.number for item in client.retain()] == [1, 2]
    with cometlog.open(root, limited(forced_shard_bytes=1, min_segments=1)) as client:
        assert [(item.number, item.reason) for item in client.retain()] == [(3, "forced"), (4, "forced")]
        batch = client.consumer("slow").read(STREAM, 1)[0]
        assert batch.start == bases[5], "the group goes on behind what it lost"


def test_a_limit_on_the_whole_log_takes_from_the_shard_with_the_oldest_segments(root: Path) -> None:
    with cometlog.open(root, limited(max_total_bytes=500 * KIB, min_segments=1)) as client:
        fill(client, 6)
        fill(client, 4, OTHER)
        removed = client.retain()
        assert {item.stream for item in removed} == {STREAM}
        assert sum(path.stat().st_size for path in root.rglob("*.seg")) <= 500 * KIB
        assert len(list_segments(root / "events/v1/0001")) == 4


def test_only_what_a_sync_covers_goes_and_retention_sees_to_it(root: Path) -> None:
    with cometlog.open(root, limited(max_shard_bytes=1)) as client:
        fill(client, 5)
        assert client.stats()[STREAM].durable_entry < client.next_entry(STREAM)
        assert len(client.retain()) == 3
        assert client.stats()[STREAM].durable_entry == client.next_entry(STREAM)


def test_a_live_rotator_keeps_what_its_successor_could_be_given_again(root: Path) -> None:
    with cometlog.open(root, limited(max_shard_bytes=1)) as client, cometlog.open(root, limited()) as other:
        fill(client, 5)
        other.append(STREAM, [b"attached"])
        control = Control(root / SHARD / "control", writable=True)
        slot = other._write_path(STREAM).shard.rotation_slot
        control.mark_rotating(slot, 1)
        assert [item.number for item in client.retain()] == [1]
        control.mark_idle(slot)
        assert [item.number for item in client.retain()] == [2, 3]
        control.close()


def test_a_reader_inside_a_removed_segment_finishes_and_then_sees_the_gap(root: Path) -> None:
    with (
        cometlog.open(root, limited(max_shard_bytes=1)) as client,
        cometlog.open(root, read_only=True) as reader,
    ):
        following = fill(client, 5)
        scan = reader.scan(STREAM)
        read = [next(scan).number for _ in range(3)]
        batch = reader.read(STREAM, 0, 10)
        views = batch.memoryviews()
        first = client.retain()[-1].next_entry
        assert [bytes(view) for view in views] == [payload(0, number, ENTRY_BYTES) for number in range(10)]
        read += [entry.number for entry in scan]
        assert read[:3] == [0, 1, 2]
        assert read == sorted(set(read))
        assert set(range(first, following)) <= set(read)


@pytest.mark.parametrize("write_path", SHARED_PATHS)
def test_several_processes_retain_at_once_while_all_append(
    root: Path, write_path: str, start_worker: type[Worker]
) -> None:
    script = Path(__file__).with_name("consumer_workers.py")
    workers = [
        start_worker(
            "append_and_retain",
            script=script,
            root=str(root),
            write_path=write_path,
            owner=owner,
            entries=300,
        )
        for owner in range(4)
    ]
    for worker in workers:
        assert worker.hear() == "ready"
    for worker in workers:
        worker.tell()
    said = [worker.hear() for worker in workers]
    assert [worker.end() for worker in workers] == [0] * 4
    acknowledged = {
        number: (owner, sequence)
        for owner, item in enumerate(said)
        for sequence, number in enumerate(item[0])
    }
    removed = [number for item in said for number in item[1]]
    assert len(acknowledged) == 1200
    assert sorted(removed) == list(range(1, len(removed) + 1)), "each segment is removed once, oldest first"
    assert len(removed) > 5
    entries = read_all(root)
    assert [entry.number for entry in entries] == list(range(entries[0].number, 1200))
    assert all(entry.data == payload(*acknowledged[entry.number], ENTRY_BYTES) for entry in entries)


def test_a_group_behind_a_cut_goes_on_with_what_is_kept_and_its_position_follows(root: Path) -> None:
    with cometlog.open(root, limited(forced_shard_bytes=1, min_segments=1)) as client:
        following = fill(client, 4)
        consumer = client.consumer("slow")
        consumer.ack(STREAM, range(3))
        first = client.retain()[-1].next_entry
        assert consumer.lag(STREAM) == following - 3
        consumer.ack(STREAM, 2)
        consumer.ack(STREAM, range(3, first))
        assert consumer.lag(STREAM) == following - first, "entries past the cut are acknowledged like others"
        consumer.reset(STREAM, 1)
        batch = consumer.read(STREAM, 10_000)[0]
        assert batch.numbers == list(range(first, following))
        assert consumer.lag(STREAM) == following - first, "what is gone is settled when it is passed"
        consumer.ack(batch)
        assert consumer.lag(STREAM) == 0


def test_processes_that_retain_a_whole_log_at_once_remove_no_more_than_one_would(
    root: Path, start_worker: type[Worker]
) -> None:
    script = Path(__file__).with_name("consumer_workers.py")
    with cometlog.open(root, limited()) as client:
        for stream in (STREAM, OTHER):
            fill(client, 12, stream)
        client.sync()
    sizes = [path.stat().st_size for path in root.rglob("*.seg")]
    limit = sum(sizes) // 2
    workers = [
        start_worker("retain_to_a_total", script=script, root=str(root), max_total_bytes=limit)
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.hear() == "ready"
    for worker in workers:
        worker.tell()
    removed = [tuple(item) for worker in workers for item in worker.hear()]
    assert [worker.end() for worker in workers] == [0] * 4
    assert len(set(removed)) == len(removed), "a segment was removed twice"
    left = sum(path.stat().st_size for path in root.rglob("*.seg"))
    assert limit - max(sizes) < left <= limit, f"{len(removed)} segments went"


def test_the_background_thread_retains_and_ends_with_its_client(root: Path) -> None:
    with cometlog.open(root, limited(max_shard_bytes=1, interval_s=0.02)) as client:
        client.append(STREAM, [b"begins the thread"])
        threads = [thread for thread in threading.enumerate() if thread.name == "cometlog-retention"]
        assert len(threads) == 1
        while client.next_entry(STREAM) < 100:
            client.append(STREAM, [payload(0, 0, ENTRY_BYTES)])
        wait_until(lambda: len(numbers(root)) == 2, "the thread to remove all but two segments")
    threads[0].join(30)
    assert not threads[0].is_alive()


def test_a_torn_removal_leaves_an_index_that_nobody_minds(root: Path) -> None:
    with cometlog.open(root, limited(max_shard_bytes=1)) as client:
        fill(client, 5)
        assert len(client.retain()) == 3
    (root / SHARD / SegmentName(1, 0).index_name).write_bytes(b"left by a process that was killed")
    with cometlog.open(root, limited()) as client:
        assert client.entry_count(STREAM) == len(list(client.scan(STREAM)))
