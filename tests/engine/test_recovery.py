"""Opening after a death: everything acknowledged is there, the log goes on, and opening again changes nothing more."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cometlog
import cometlog.control
import cometlog.recovery
from cometlog.control import Control
from cometlog.durable_mark import read_mark
from cometlog.kernel import layout
from cometlog.segment import Segment, tail_parts
from support import (
    KIB,
    MIB,
    PATHS,
    SHARD,
    STREAM,
    Worker,
    make_config,
    owner_and_sequence,
    payload,
    read_all,
    segment_files,
)

CONFIG = make_config(64 * KIB)


def kill_in_the_middle(
    root: Path, rng: random.Random, start_worker: type[Worker], write_path: str, owner: int
) -> dict[int, int]:
    """Append in a process that is killed at a random instant; return what was acknowledged, number to id."""
    worker = start_worker(
        "append_for_ever", root=str(root), write_path=write_path, owner=owner, seed=rng.randrange(1 << 30)
    )
    assert worker.hear() == "ready"
    worker.tell()
    acknowledged = dict(worker.hear())
    time.sleep(rng.uniform(0, 0.05))  # where the kill falls is the test's only use of time
    worker.kill()
    for line in worker.hear_rest():
        acknowledged.update(dict(line))
    return acknowledged


def ids_in(root: Path) -> dict[int, int]:
    """Number to id of everything that can be read, each id once."""
    found = {
        entry.number: owner * 1_000_000 + sequence
        for entry in read_all(root)
        for owner, sequence in [owner_and_sequence(entry.data)]
    }
    assert len(set(found.values())) == len(found)
    return found


@pytest.fixture
def reboot(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Give the kernel another boot identity, as often as called."""
    real = cometlog.control.boot_id()
    turn = [0]

    def next_boot() -> None:
        turn[0] += 1
        monkeypatch.setattr(
            cometlog.control, "boot_id", lambda: bytes([*real[:15], (real[15] + turn[0]) % 256])
        )

    return next_boot


DELETIONS = {
    "nothing": (),
    "index": ("*.idx",),
    "durable": ("durable",),
    "index and durable": ("*.idx", "durable"),
}


@pytest.mark.parametrize("deleted", DELETIONS)
@pytest.mark.parametrize("write_path", PATHS)
def test_killed_and_reopened_on_the_same_boot(
    root: Path, rng: random.Random, start_worker: type[Worker], write_path: str, deleted: str
) -> None:
    acknowledged: dict[int, int] = {}
    for turn in range(3):
        acknowledged |= kill_in_the_middle(root, rng, start_worker, write_path, turn)
        for pattern in DELETIONS[deleted]:
            for path in (root / SHARD).glob(pattern):
                path.unlink()
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        assert client.entry_count(STREAM) == len(list(client.scan(STREAM)))
        (number,) = client.append(STREAM, [payload(9, 0)])
        assert number > max(acknowledged)
    found = ids_in(root)
    assert acknowledged.items() <= found.items()
    before = {path: path.read_bytes() for path in segment_files(root)}
    cometlog.open(root, CONFIG, write_path=write_path).writer(STREAM)
    assert {path: path.read_bytes() for path in segment_files(root)} == before


@pytest.mark.parametrize("write_path", PATHS)
@pytest.mark.parametrize("deleted", ["control", "control and durable"])
def test_control_deleted_after_a_clean_close(root: Path, write_path: str, deleted: str) -> None:
    for turn in range(3):
        with cometlog.open(root, CONFIG, write_path=write_path) as client:
            assert client.entry_count(STREAM) == 30 * turn
            for sequence in range(30):
                assert client.append(STREAM, [payload(turn, sequence, 3000)]) == range(
                    30 * turn + sequence, 30 * turn + sequence + 1
                )
        (root / SHARD / "control").unlink()
        if deleted != "control":
            (root / SHARD / "durable").unlink()
    entries = read_all(root)
    assert [entry.number for entry in entries] == list(range(90))
    assert [owner_and_sequence(entry.data) for entry in entries] == [
        (t, s) for t in range(3) for s in range(30)
    ]
    assert not list((root / SHARD).glob("*.discarded"))


@pytest.mark.parametrize("write_path", PATHS)
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "synced and left open"])
def test_another_boot(
    root: Path, reboot: Callable[[], None], start_worker: type[Worker], write_path: str, closed: bool
) -> None:
    """The page cache is whole here, so everything survives; what is shown is that distrust loses nothing that proves itself."""
    total = 0
    for turn in range(3):
        if closed:
            with cometlog.open(root, CONFIG, write_path=write_path) as client:
                append_batches(client, turn)
        else:
            worker = start_worker("append_batches_and_sync", root=str(root), write_path=write_path, turn=turn)
            assert worker.hear() == "synced"
            worker.kill()
        total += 60
        reboot()
        if not closed:
            # The child ran under the real boot identity; this process now opens under another.
            with cometlog.open(root, CONFIG, write_path=write_path) as client:
                assert client.entry_count(STREAM) == total
                client.append(STREAM, [payload(50 + turn, 0)])
                total += 1
    entries = read_all(root)
    assert [entry.number for entry in entries] == list(range(total))
    assert not list((root / SHARD).glob("*.discarded"))


def append_batches(client: cometlog.Client, turn: int) -> None:
    """Sixty entries in batches of three, over more than one segment."""
    for sequence in range(0, 60, 3):
        client.append(STREAM, [payload(turn, sequence + position, 2000) for position in range(3)])


@pytest.mark.parametrize("write_path", ["async", "mmap"])
@pytest.mark.parametrize("form", ["same boot", "another boot"])
def test_recovery_killed_in_the_middle_and_run_again(
    root: Path, rng: random.Random, start_worker: type[Worker], write_path: str, form: str
) -> None:
    """Recoveries in processes that are killed at each of their writing steps, one after the other, then one that is not."""
    acknowledged = kill_in_the_middle(root, rng, start_worker, "mmap", 0)
    acknowledged |= kill_in_the_middle(root, rng, start_worker, "mmap", 1)
    if form == "another boot":
        # A boot identity that fits nothing is what a reboot leaves; nothing else in the page cache changed.
        control = Control(root / SHARD / "control", writable=True)
        control.stored_boot_identity = bytes(32)
        control.close()
    kills, step = 0, 1
    while start_worker("recover_and_die", root=str(root), write_path=write_path, step=step).end() != 0:
        kills += 1
        step += rng.randrange(1, 2 + step // 2)
        assert kills < 100, "recovery never came to an end"
    assert kills >= 2, "recovery had nothing to do"
    found = ids_in(root)
    assert acknowledged.items() <= found.items()
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        (number,) = client.append(STREAM, [payload(9, 1)])
    assert number > max(acknowledged)
    assert acknowledged.items() <= ids_in(root).items()


@pytest.mark.parametrize("write_path", [path for path in PATHS if path != "mmap"])
@pytest.mark.parametrize("garbage", [1, 8, 100, 3000], ids=lambda value: f"{value} bytes")
@pytest.mark.parametrize("second", PATHS)
def test_torn_append_is_sealed_and_the_log_goes_on_in_the_next_segment(
    root: Path, write_path: str, garbage: int, second: str
) -> None:
    config = make_config(1 * MIB)
    with cometlog.open(root, config, write_path=write_path) as client:
        client.append(STREAM, [payload(0, sequence) for sequence in range(5)])
    (path,) = segment_files(root)
    segment = Segment(path, writable=False)
    unit = tail_parts(segment.tail())[1]
    segment.close()
    with path.open("r+b") as file:
        file.seek(layout.SEGMENT_HEADER_BYTES + unit * layout.UNIT_BYTES)
        file.write(b"\xa5" * garbage)
    control = Control(root / SHARD / "control", writable=True)
    control.write_clean_record(None)  # as the kill that tore the append leaves it
    control.close()
    with cometlog.open(root, config, write_path=second) as client:
        assert client.entry_count(STREAM) == 5
        assert client.append(STREAM, [payload(0, 5)]) == range(5, 6)
    assert [owner_and_sequence(entry.data)[1] for entry in read_all(root)] == list(range(6))
    assert len(segment_files(root)) == 2
    sealed = Segment(path, writable=False)
    assert tail_parts(sealed.tail()) == (5, unit, True)
    sealed.close()


@pytest.mark.parametrize("write_path", PATHS)
def test_durable_mark_never_passes_what_is_readable(root: Path, write_path: str) -> None:
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        for turn in range(10):
            append_batches(client, turn)
            client.sync()
            mark = read_mark(root / SHARD / "durable")
            assert mark is not None
            assert mark.next_entry <= client.entry_count(STREAM) == 60 * (turn + 1)
            assert client.stats()[STREAM].durable_entry == 60 * (turn + 1)
    mark = read_mark(root / SHARD / "durable")
    assert mark is not None
    assert mark.next_entry == 600
    assert os.path.basename(segment_files(root)[-1]).startswith(f"{mark.number:010d}-")  # noqa: PTH119
