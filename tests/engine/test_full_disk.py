"""Disks that are full or may not be written: typed errors, nothing half-visible, and appends again once there is room.

As root: in a child that gave its rights up, and on small file systems that are mounted for one test.
"""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog
from support import (
    KIB,
    MIB,
    PATHS,
    SHARD,
    STREAM,
    Worker,
    directory_state,
    make_config,
    payload,
    read_all,
    segment_files,
)  # fmt: skip

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and changes of user need root")
NOBODY = 65534


@ROOT_ONLY
@pytest.mark.parametrize("what", ["root", "parent", "shard", "segment"])
def test_directory_that_may_not_be_written_is_an_os_error(
    tmp_path: Path, start_worker: type[Worker], what: str
) -> None:
    world = Path("/var/tmp") / f"cometlog-{os.getpid()}-{tmp_path.name}"
    world.mkdir(mode=0o755)
    try:
        root = world / "log"
        if what != "parent":
            cometlog.open(root).close()
            root.chmod(0o755)
        if what in ("shard", "segment"):
            with cometlog.open(root) as client:
                client.append(STREAM, [b"one"])
            for path in [root, *root.rglob("*")]:
                os.chown(path, NOBODY, NOBODY)
            if what == "shard":
                os.chown(root / SHARD, 0, 0)
                (root / SHARD).chmod(0o755)
                for path in (root / SHARD).iterdir():
                    path.unlink()
            else:
                segment_files(root)[0].chmod(0o400)
        before = directory_state(world)
        worker = start_worker("append_as_user", root=str(root), user=NOBODY)
        said = worker.hear()
        assert said["os_error"] in (errno.EACCES, errno.EPERM), said
        assert worker.end() == 0
        if what != "segment":
            assert directory_state(world) == before
    finally:
        subprocess.run(["rm", "-rf", str(world)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 8 MiB that is mounted for one test."""
    place = tmp_path / "disk"
    place.mkdir()
    options = f"size={getattr(request, 'param', 8 * MIB)}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, leave_bytes: int = 0) -> Path:
    """Take all but ``leave_bytes`` of a small disk with one file."""
    ballast = place / "ballast"
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize - leave_bytes
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free)
    return ballast


@ROOT_ONLY
@pytest.mark.parametrize("write_path", PATHS)
@pytest.mark.parametrize(
    "leave_bytes", [0, 4 * KIB, 140 * KIB, 300 * KIB], ids=lambda value: f"{value >> 10}K"
)
def test_full_disk_at_creation_leaves_no_segment_and_works_once_there_is_room(
    small_disk: Path, write_path: str, leave_bytes: int
) -> None:
    root = small_disk / "log"
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        ballast = fill(small_disk, leave_bytes)
        for _ in range(3):
            with pytest.raises(OSError, match="No space") as caught:
                client.append(STREAM, [b"one"])
            assert caught.value.errno == errno.ENOSPC
            left = [path.name for path in root.rglob("*") if path.is_file()]
            assert not [name for name in left if name.endswith(".seg") or ".tmp." in name], left
            assert client.entry_count(STREAM) == 0
            assert list(client.scan(STREAM)) == []
        ballast.unlink()
        assert client.append(STREAM, [b"one"]) == range(1)
    assert [entry.data for entry in read_all(root)] == [b"one"]


def append_until_full(client: cometlog.Client, length: int, first: int) -> int:
    """Append singles and pairs until the disk is full; return how many entries are acknowledged in all."""
    total = first
    with pytest.raises(OSError, match="No space") as caught:
        while total - first < 100_000:
            assert client.writer(STREAM).append(payload(0, total, length)) == total
            total += 1
            batch = [payload(0, total, length), payload(0, total + 1, 5000)]
            if total % 2 and length == 5000:
                assert client.append(STREAM, batch) == range(total, total + 2)
                total += 2
    assert caught.value.errno == errno.ENOSPC
    return total


@ROOT_ONLY
@pytest.mark.parametrize("write_path", PATHS)
@pytest.mark.parametrize("size", [64 * KIB, 1 * MIB, 64 * MIB], ids=["64K", "1M", "64M"])
@pytest.mark.parametrize("length", [5000, 20_000], ids=["5KB", "20KB"])
def test_full_disk_at_growth_shows_nothing_of_what_failed_and_works_once_there_is_room(
    small_disk: Path, write_path: str, size: int, length: int
) -> None:
    root = small_disk / "log"
    config = make_config(size, 1)
    with cometlog.open(root, config, write_path=write_path) as client:
        total = 0
        for _ in range(2):
            # Several times: what the helper had begun to prepare may still give room for a few.
            for _ in range(3):
                total = append_until_full(client, length, total)
            check_full(client, root, total, length)
            spare = small_disk / "spare"
            if not spare.exists():  # twice: room comes from remounting once, then from leaving it full
                subprocess.run(["mount", "-o", f"remount,size={16 * MIB}", str(small_disk)], check=True)
                spare.touch()
                assert client.append(STREAM, [payload(0, total, length)]) == range(total, total + 1)
                total += 1
    check_entries_are(read_all(root), total, length)
    subprocess.run(["mount", "-o", f"remount,size={24 * MIB}", str(small_disk)], check=True)
    with cometlog.open(root, config, write_path="mmap") as client:
        assert client.append(STREAM, [payload(0, total, length)]) == range(total, total + 1)
    check_entries_are(read_all(root), total + 1, length)


def check_full(client: cometlog.Client, root: Path, total: int, length: int) -> None:
    """On a full disk everything acknowledged is read, by this client and by another, and sync still works."""
    check_entries_are(list(client.scan(STREAM)), total, length)
    assert client.entry_count(STREAM) == client.next_entry(STREAM) == total
    check_entries_are(read_all(root), total, length)
    client.sync()
    assert client.append(STREAM, []) == range(total, total)


def check_entries_are(entries: list[cometlog.Entry], total: int, length: int) -> None:
    assert [entry.number for entry in entries] == list(range(total))
    assert all(entry.data == payload(0, entry.number, length) for entry in entries)
