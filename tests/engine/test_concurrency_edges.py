"""Where processes meet at the edges: no slot left, nobody lets go of the shard, a disk that fails a sync."""

import errno
import fcntl
import os
import shutil
import struct
from pathlib import Path

import pytest

import cometlog
from cometlog.control import Control
from cometlog.errors import ShardBusyError, SyncError
from cometlog.kernel import layout
from cometlog.locks import ATTACH_BYTE, SLOT_BYTE_FIRST
from cometlog.segment import Segment
from support import (
    KIB,
    LIBC_PATHS,
    PATHS,
    SHARD,
    SHARED_PATHS,
    STREAM,
    Worker,
    make_config,
    owner_and_sequence,
    payload,
    read_all,
)

FLOCK = struct.Struct("hhqqi4x")


class ForeignLock:
    """Bytes of a shard's ``lock`` file, locked exclusively by a description of this test's own."""

    def __init__(self, root: Path, first: int, count: int) -> None:
        self.fd = os.open(root / SHARD / "lock", os.O_RDWR)
        fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, first, count, 0))

    def release(self) -> None:
        os.close(self.fd)


@pytest.mark.parametrize("write_path", PATHS)
@pytest.mark.parametrize("free", [0, 1])
def test_no_slot_left_is_a_typed_error_and_frees_what_it_took(root: Path, write_path: str, free: int) -> None:
    """The mmap path takes two slots, so with one left it must give that one back."""
    if write_path != "mmap" and free:
        pytest.skip("a path that holds a lock takes one slot")
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        client.append(STREAM, [b"first"])
    taken = ForeignLock(root, SLOT_BYTE_FIRST + free, layout.SLOT_COUNT - free)
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        for _ in range(2):
            with pytest.raises(ShardBusyError, match=rf"{STREAM}.*{layout.SLOT_COUNT}"):
                client.append(STREAM, [b"second"])
        probe = ForeignLock(root, SLOT_BYTE_FIRST, free) if free else None
        if probe is not None:
            probe.release()
        ForeignLock(root, ATTACH_BYTE, 1).release()
        assert client.entry_count(STREAM) == 1
        taken.release()
        assert client.append(STREAM, [b"second"]) == range(1, 2)


@pytest.mark.parametrize("write_path", SHARED_PATHS)
def test_shard_that_somebody_recovers_for_too_long_is_a_typed_error(root: Path, write_path: str) -> None:
    config = make_config(concurrency={"attach_timeout_s": 0.2})
    with cometlog.open(root, config, write_path=write_path) as client:
        client.append(STREAM, [b"first"])
    alone = ForeignLock(root, ATTACH_BYTE, 1)
    with cometlog.open(root, config, write_path=write_path) as client:
        with pytest.raises(ShardBusyError, match=r"attach_timeout_s"):
            client.append(STREAM, [b"second"])
        assert client.entry_count(STREAM) == 1
        alone.release()
        assert client.append(STREAM, [b"second"]) == range(1, 2)


def test_opener_killed_before_it_made_the_control_file_stops_nobody(root: Path) -> None:
    """Byte 0 was held, no control file came, the holder died: whoever waited goes on."""
    cometlog.open(root).close()
    (root / SHARD).mkdir(parents=True)
    (root / SHARD / "lock").touch()
    fd = os.open(root / SHARD / "lock", os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, ATTACH_BYTE, 1, 0))
    config = make_config(concurrency={"attach_timeout_s": 0.2})
    with cometlog.open(root, config) as client:
        with pytest.raises(ShardBusyError):
            client.append(STREAM, [b"first"])
        os.close(fd)
        assert client.append(STREAM, [b"first"]) == range(1)


def fail_fdatasync(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(Segment, "sync_to", fail)


@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_failed_sync_is_said_and_nothing_is_acknowledged_until_the_shard_is_opened_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, start_worker: type[Worker], write_path: str
) -> None:
    config = make_config(64 * KIB)
    other = None
    with cometlog.open(root, config, write_path=write_path) as client:
        for sequence in range(10):
            client.append(STREAM, [payload(0, sequence)])
        client.sync()
        if write_path != "buffered":
            other = start_worker("append_after_word", root=str(root), write_path=write_path)
            assert other.hear() == "attached"
        fail_fdatasync(monkeypatch)
        with pytest.raises(SyncError, match=STREAM):
            client.append(STREAM, [payload(0, 10)])
            client.sync()
        monkeypatch.undo()  # the disk is well again, and still nothing is retried
        for call in (
            lambda: client.sync(),
            lambda: client.append(STREAM, [payload(0, 11)]),
            lambda: client.writer(STREAM).append(payload(0, 12)),
            lambda: client.append(STREAM, [payload(0, 13)]),
        ):
            with pytest.raises(SyncError):
                call()
        assert client.stats()[STREAM].poisoned
        assert client.entry_count(STREAM) >= 10
        if other is not None:
            other.tell()
            assert other.hear() == ["SyncError", "SyncError"]
            third = cometlog.open(root, config, write_path=write_path)  # one more beside live ones
            with third, pytest.raises(SyncError):
                third.append(STREAM, [payload(0, 14)])
            other.tell()
            assert other.end() == 0
    with cometlog.open(root, config, write_path=write_path) as client:
        client.writer(STREAM)  # recovers
        kept = client.entry_count(STREAM)
        # One unsynced append, and at most one of each of three writers that raised: kept or not, but never doubled.
        assert 10 <= kept <= 14
        (number,) = client.append(STREAM, [payload(1, 0)])
        client.sync()
        assert not client.stats()[STREAM].poisoned
    entries = read_all(root)
    assert [owner_and_sequence(entry.data) for entry in entries[:10]] == [
        (0, sequence) for sequence in range(10)
    ]
    assert entries[-1].number == number
    assert len(entries) == kept + 1
    numbers = [entry.number for entry in entries]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("write_path", LIBC_PATHS)
def test_sync_failed_by_the_kernel_is_said_once_and_for_all(
    root: Path, start_worker: type[Worker], write_path: str
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        client.append(STREAM, [payload(0, 0)])
    trace = (
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync,msync",
        "-e",
        "inject=fdatasync,msync:error=EIO",
    )
    worker = start_worker("append_and_sync", prefix=trace, root=str(root), write_path=write_path)
    said = worker.hear()
    worker.end()
    assert said == ["SyncError", "SyncError", "SyncError"]
    control = Control(root / SHARD / "control", writable=False)
    assert control.poisoned
    control.close()
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        assert len(client.append(STREAM, [payload(1, 0)])) == 1
        client.sync()
        assert owner_and_sequence(client.read(STREAM, 0, 1)[0].data) == (0, 0)


def test_hundred_clients_of_one_process_share_a_shard(root: Path) -> None:
    clients = [cometlog.open(root, make_config(1 << 20)) for _ in range(100)]
    try:
        numbers = [client.writer(STREAM).append(payload(owner, 0)) for owner, client in enumerate(clients)]
        assert numbers == list(range(100))
        control = Control(root / SHARD / "control", writable=False)
        owners = [control.slot_owner_pid(index) for index in range(layout.SLOT_COUNT)]
        control.close()
        assert owners.count(os.getpid()) == 200
    finally:
        for client in clients:
            client.close()
    assert [owner_and_sequence(entry.data)[0] for entry in read_all(root)] == list(range(100))
