"""Many real processes on one shard: nothing lost, nothing doubled, nobody waits for a process that stopped or died."""

import multiprocessing
import random
import threading
import time
from pathlib import Path

import pytest

import cometlog
from cometlog.control import Control
from cometlog.errors import WritePathConflictError
from cometlog.kernel import layout
from cometlog.segment import Segment, list_segments, tail_parts
from support import (
    BATCH_OWNERS,
    MIB,
    SHARD,
    SHARED_PATHS,
    STREAM,
    Worker,
    make_config,
    owner_and_sequence,
    payload,
    read_all,
    wait_until,
)  # fmt: skip

ROTATION_WORKERS = Path(__file__).with_name("rotation_workers.py")
APPENDS = 50_000
STOPPED_S = 5.0
BATCH_EVERY = 1000
BATCH_ENTRIES = 5000


def shard_end(root: Path) -> int:
    """Entry number that comes next, from the words alone: no client, no repair."""
    control = Control(root / SHARD / "control", writable=False)
    active = control.active
    name = next(name for name in list_segments(root / SHARD) if name.number == active)
    segment = Segment(root / SHARD / name.file_name, writable=False)
    try:
        return segment.base + tail_parts(segment.tail())[0]
    finally:
        segment.close()
        control.close()


def is_in_its_copy(control: Control, root: Path, pid: int) -> bool:
    """Whether a process stands between its marker and its commit: a slot of its says MARKED and the word there CLAIMED."""
    for index in range(layout.SLOT_COUNT):
        slot = control.look_at_slot(index)
        if control.slot_owner_pid(index) != pid or slot.state != layout.STATE_MARKED:
            continue
        name = next(name for name in list_segments(root / SHARD) if name.number == slot.segment)
        segment = Segment(root / SHARD / name.file_name, writable=False)
        try:
            return segment.word(slot.claim) >> layout.WORD_KIND_SHIFT & 7 == layout.KIND_CLAIMED
        finally:
            segment.close()
    return False


def stop_while_it_copies(worker: Worker, root: Path, rng: random.Random) -> None:
    """Stop the process at seeded instants until it was stopped between its marker and its commit."""
    control = Control(root / SHARD / "control", writable=False)
    deadline = time.monotonic() + 60
    try:
        while True:
            assert time.monotonic() < deadline, "never stopped in the middle of a copy"
            assert worker.process.poll() is None, "ended before it could be stopped in a copy"
            time.sleep(rng.uniform(0, 0.004))
            worker.stop()
            if is_in_its_copy(control, root, worker.pid):
                return
            worker.go_on()
    finally:
        control.close()


def test_four_processes_and_one_of_them_stopped_in_the_middle_of_its_copy(
    root: Path, rng: random.Random, start_worker: type[Worker]
) -> None:
    workers = [
        start_worker(
            "append_singles", root=str(root), owner=owner, count=APPENDS,
            batch_every=BATCH_EVERY if owner == 0 else 0, batch_entries=BATCH_ENTRIES if owner == 0 else 0,
        )
        for owner in range(4)
    ]  # fmt: skip
    first, others = workers[0], workers[1:]
    for worker in workers:
        assert worker.hear() == "ready"
    for worker in workers:
        worker.tell()
    for worker in others:
        assert worker.hear() == "half"
    stop_while_it_copies(first, root, rng)
    stopped_at, before = time.monotonic(), shard_end(root)
    for worker in others:
        worker.tell()
    for worker in others:  # they get to their end while the first stands still
        assert worker.hear() == "done"
        assert worker.end() == 0
    assert shard_end(root) == before + 3 * APPENDS // 2
    time.sleep(max(0.0, STOPPED_S - (time.monotonic() - stopped_at)))
    assert first.state() == "T"
    control = Control(root / SHARD / "control", writable=False)
    assert is_in_its_copy(control, root, first.pid)
    control.close()
    assert shard_end(root) == before + 3 * APPENDS // 2
    first.go_on()
    assert first.hear() == "done"
    assert first.end() == 0
    check_singles_and_batches(root)


def check_singles_and_batches(root: Path) -> None:
    """Every entry is there once, numbers have no gap, each process's own order is kept, each batch lies in one piece."""
    batches = APPENDS // BATCH_EVERY
    singles: list[list[int]] = [[] for _ in range(4)]
    large: list[int] = []
    expected = 0
    with cometlog.open(root, read_only=True) as client:
        for entry in client.scan(STREAM):
            assert entry.number == expected
            expected += 1
            owner, sequence = owner_and_sequence(entry.data)
            if owner == BATCH_OWNERS:
                large.append(sequence)
                assert sequence == 0 or last == (BATCH_OWNERS, sequence - 1)  # noqa: F821 - set by the turn before
            else:
                singles[owner].append(sequence)
            last = (owner, sequence)  # noqa: F841
        assert client.entry_count(STREAM) == expected == 4 * APPENDS + batches * BATCH_ENTRIES
    assert singles == [list(range(APPENDS))] * 4
    assert large == list(range(BATCH_ENTRIES)) * batches


@pytest.mark.parametrize("threads", [1, 2])
def test_survivors_go_on_when_one_of_four_is_killed(
    root: Path, rng: random.Random, start_worker: type[Worker], threads: int
) -> None:
    """Four times: kill one of four at a random instant, let a reader that may write get past what it left, replace it."""
    acknowledged: dict[int, tuple[int, int]] = {}
    survivors = [
        start_worker(
            "append_until_told", root=str(root), owner=owner, threads=threads, seed=rng.randrange(1 << 30),
            segment_size_bytes=1 * MIB,
        )
        for owner in range(3)
    ]  # fmt: skip
    for worker in survivors:
        assert worker.hear() == "ready"
        worker.tell()
    victims = [10, 11, 12, 13]
    config = make_config(1 * MIB)
    seen = 0
    with cometlog.open(root, config) as reader:
        for owner in victims:
            victim = start_worker(
                "append_until_told", root=str(root), owner=owner, threads=threads, seed=rng.randrange(1 << 30),
                segment_size_bytes=1 * MIB,
            )  # fmt: skip
            assert victim.hear() == "ready"
            victim.tell()
            time.sleep(rng.uniform(0.001, 0.05))  # where the kill falls is the test's only use of time
            victim.kill()
            goal = shard_end(root) + 1000
            wait_until(lambda: shard_end(root) >= goal, "survivors to go on")  # noqa: B023
            last = max(entry.number for entry in reader.scan(STREAM, seen, goal))
            assert last >= goal - 3, "the reader did not get past what the victim left"
            seen = last
    for worker in survivors:
        worker.tell()
    for worker in survivors:
        for number, whose, sequence in worker.hear():
            assert number not in acknowledged
            acknowledged[number] = (whose, sequence)
        assert worker.end() == 0
    found = {entry.number: owner_and_sequence(entry.data) for entry in read_all(root)}
    assert acknowledged.items() <= found.items()
    assert len(set(found.values())) == len(found)
    # What no survivor was acknowledged for, a victim wrote: whole sequences from 0 on, and burnt numbers only where one died.
    theirs: dict[int, list[int]] = {}
    for number in sorted(found.keys() - acknowledged.keys()):
        whose, sequence = found[number]
        assert whose // 10 in victims
        theirs.setdefault(whose, []).append(sequence)
    assert all(sequences == list(range(len(sequences))) for sequences in theirs.values())
    burnt = set(range(max(found) + 1)) - found.keys()
    assert len(burnt) <= 2 * len(victims) * threads


@pytest.mark.parametrize("end", ["close", "_exit"])
def test_fork_while_another_thread_appends(root: Path, start_worker: type[Worker], end: str) -> None:
    children = 3
    worker = start_worker("fork_in_the_middle", root=str(root), owner=100, children=children, end=end)
    said = [worker.hear() for _ in range(children + 1)]
    assert worker.end() == 0
    assert next(item["codes"] for item in said if "codes" in item) == [0] * children
    slots = [index for item in said for index in item["slot"]]
    assert len(slots) == len(set(slots)) == 2 * (children + 1)
    acknowledged = [
        (number, whose, sequence) for item in said for number, whose, sequence in item["acknowledged"]
    ]
    assert sum(1 for _, whose, _ in acknowledged if whose > 100) == 3000 * children
    together = {number: (whose, sequence) for number, whose, sequence in acknowledged}
    assert len(together) == len(acknowledged)
    found = {entry.number: owner_and_sequence(entry.data) for entry in read_all(root)}
    assert found == together
    assert sorted(found) == list(range(len(found)))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("write_path", SHARED_PATHS)
def test_pool_of_processes_started_by_multiprocessing(root: Path, method: str, write_path: str) -> None:
    """The parent appends before, while and after its children do; forked ones inherit its open client and use it."""
    context = multiprocessing.get_context(method)
    client = cometlog.open(root, make_config(1 * MIB), write_path=write_path)
    try:
        assert client.append(STREAM, [payload(99, 0)]) == range(1)
        inherited = client if method == "fork" else None
        children = [
            context.Process(target=append_in_child, args=(inherited, str(root), write_path, owner))
            for owner in range(3)
        ]
        for child in children:
            child.start()
        for sequence in range(1, 50):
            client.append(STREAM, [payload(99, sequence)])
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        assert client.append(STREAM, [payload(99, 50)])[0] == 50 + 3 * 50
    finally:
        client.close()
    found = [owner_and_sequence(entry.data) for entry in read_all(root)]
    assert sorted(found) == [(owner, sequence) for owner in range(3) for sequence in range(50)] + [
        (99, sequence) for sequence in range(51)
    ]


def append_in_child(client: cometlog.Client | None, root: str, write_path: str, owner: int) -> None:
    """What each process of the pool runs."""
    if client is None:
        client = cometlog.open(root, make_config(1 * MIB), write_path=write_path)
    for sequence in range(50):
        client.append(STREAM, [payload(owner, sequence)])
    assert len(list(client.scan(STREAM))) >= 50
    client.sync()
    client.close()


def test_forked_child_of_a_buffered_client_is_refused_while_the_parent_goes_on(root: Path) -> None:
    context = multiprocessing.get_context("fork")
    with cometlog.open(root, make_config(), write_path="buffered") as client:
        client.append(STREAM, [b"parent"])
        child = context.Process(target=append_in_refused_child, args=(client,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert client.append(STREAM, [b"parent"]) == range(1, 2)


def append_in_refused_child(client: cometlog.Client) -> None:
    """Body of the forked child: one process owns a buffered shard, and it is the parent, now and on the next try."""
    for _ in range(2):
        with pytest.raises(WritePathConflictError, match="buffered"):
            client.append(STREAM, [b"child"])
    assert client.entry_count(STREAM) == 1
    client.close()


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_of_a_forked_child_use_the_inherited_client_at_once(root: Path, threads: int) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(10):
        with cometlog.open(root, make_config(1 * MIB)) as client:
            before = client.entry_count(STREAM)
            client.append(STREAM, [b"parent"])
            child = context.Process(target=append_in_threads, args=(client, threads))
            child.start()
            child.join(60)
            assert child.exitcode == 0
            assert client.entry_count(STREAM) == before + 1 + threads * 100
            control = Control(root / SHARD / "control", writable=False)
            owners = [control.slot_owner_pid(index) for index in range(layout.SLOT_COUNT)]
            control.close()
            assert owners.count(child.pid) == 2, "the child attached more than once"


def append_in_threads(client: cometlog.Client, threads: int) -> None:
    """Body of the forked child: every thread appends through the inherited client, started together."""
    barrier = threading.Barrier(threads)

    def append() -> None:
        barrier.wait(30)
        for sequence in range(100):
            client.append(STREAM, [payload(0, sequence)])

    bodies = [threading.Thread(target=append) for _ in range(threads)]
    for body in bodies:
        body.start()
    for body in bodies:
        body.join()
    client.close()


def test_child_that_leaves_without_closing_loses_nothing(root: Path, start_worker: type[Worker]) -> None:
    worker = start_worker("leave_by_exit", root=str(root))
    assert worker.hear() == "appended"
    assert worker.end() == 7
    with cometlog.open(root, make_config()) as client:
        assert [owner_and_sequence(entry.data)[1] for entry in client.scan(STREAM)] == list(range(100))
        assert client.append(STREAM, [b"next"]) == range(100, 101)


def test_two_that_close_at_the_same_instant_leave_the_shard_synced_and_clean(
    root: Path, start_worker: type[Worker]
) -> None:
    for turn in range(5):
        workers = [start_worker("hold_open", root=str(root), write_path="mmap") for _ in range(4)]
        for worker in workers:
            assert worker.hear() == "attached"
        for worker in workers:
            worker.tell()
        for worker in workers:
            assert worker.hear() == "closed"
            assert worker.end() == 0
        control = Control(root / SHARD / "control", writable=False)
        record = control.read_clean_record()
        durable = control.durable_entry
        control.close()
        assert record is not None
        assert durable == 4 * (turn + 1)


def test_a_batch_comes_after_syncs_that_let_go_of_the_segment_it_would_go_to(
    root: Path, start_worker: type[Worker]
) -> None:
    """Others fill segment after segment; a sync follows them, but the writer is still bound to a segment that is unmapped."""
    others = start_worker(
        "append_for_ever", root=str(root), write_path="mmap", owner=0, seed=1, sleep_s=0.0003
    )
    others.hear()
    others.tell()
    syncing = start_worker(
        "append_between_syncs", script=ROTATION_WORKERS, root=str(root), owner=1, turns=300, syncs=6, batch_entries=10,
    )  # fmt: skip
    while not syncing.has_said_more():
        others.hear()
    assert syncing.hear() == "done"
    assert syncing.end() == 0
    others.kill()
    found = [owner_and_sequence(entry.data) for entry in read_all(root)]
    assert [sequence for owner, sequence in found if owner == 1] == list(range(3000))
