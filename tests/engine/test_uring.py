"""io_uring: what the kernel refuses, cuts short, interrupts or fails, and what a forked child must not touch."""

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

import cometlog
from cometlog.kernel.ring import WRITES_MAX, Ring
from support import KIB, MIB, STREAM, Worker, io_uring_problem, make_config, payload, read_all
from test_append_syscalls import strace_problem

pytestmark = pytest.mark.skipif(io_uring_problem() is not None, reason=str(io_uring_problem()))
TRACED = pytest.mark.skipif(strace_problem() is not None, reason=str(strace_problem()))


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring()
    yield ring
    ring.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def run_in_child(body: Callable[[], bool]) -> int:
    """Exit code of a forked child: 0 where the body says so."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if body() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_injected(
    start_worker: type[Worker], root: Path, inject: str, trace: Path
) -> tuple[list[int], list[str]]:
    """Append 20 entries where strace injects; return the numbers, and the error's name, errno and text where one ended it."""
    prefix = (
        "strace",
        "-f",
        "-o",
        str(trace),
        "-e",
        "trace=io_uring_setup,io_uring_enter",
        "-e",
        f"inject={inject}",
    )
    worker = start_worker("append_each", prefix=prefix, root=str(root), write_path="uring", count=20)
    said = worker.hear()
    assert worker.end() == 0
    return said["numbers"], said["error"]


@TRACED
@pytest.mark.parametrize(("name", "text"), [("EPERM", "not permitted"), ("ENOSYS", "not implemented")])
def test_kernel_that_refuses_is_a_typed_error_that_names_the_way_out(
    root: Path, tmp_path: Path, start_worker: type[Worker], name: str, text: str
) -> None:
    numbers, error = run_injected(start_worker, root, f"io_uring_setup:error={name}", tmp_path / "trace")
    assert numbers == []
    assert error[0] == "WritePathUnavailableError"
    for word in (text, "kernel.io_uring_disabled is", "seccomp", "write_path='async'"):
        assert word in error[2]
    assert not list(root.rglob("*.seg")), "a shard was made for a path that cannot write it"


@TRACED
def test_calls_that_a_signal_interrupts_are_made_again(
    root: Path, tmp_path: Path, start_worker: type[Worker]
) -> None:
    trace = tmp_path / "trace"
    numbers, error = run_injected(start_worker, root, "io_uring_enter:error=EINTR:when=2..9", trace)
    assert error == []
    assert numbers == list(range(20))
    calls = [line for line in trace.read_text().splitlines() if "io_uring_enter(" in line]
    assert (len(calls), sum("EINTR" in line for line in calls)) == (28, 8)
    assert len(read_all(root)) == 20


@TRACED
@pytest.mark.parametrize("name", ["EAGAIN", "EBUSY", "EIO"])
def test_submission_that_the_kernel_does_not_take_leaves_nothing_behind(
    root: Path, tmp_path: Path, start_worker: type[Worker], name: str
) -> None:
    """An OSError, not a failed sync: nothing was written, and the next append finds the same place."""
    numbers, error = run_injected(
        start_worker, root, f"io_uring_enter:error={name}:when=5", tmp_path / "trace"
    )
    assert error[:2] == [
        "BlockingIOError" if name == "EAGAIN" else "OSError",
        getattr(errno, name),
    ]
    assert numbers == list(range(19)), "one of twenty appends was refused"
    assert len(read_all(root)) == 19
    with cometlog.open(root, make_config(), write_path="uring") as client:
        assert client.append(STREAM, [b"next"]) == range(19, 20)


@TRACED
def test_one_system_call_writes_and_syncs(root: Path, tmp_path: Path, start_worker: type[Worker]) -> None:
    trace = tmp_path / "trace"
    numbers, _ = run_injected(start_worker, root, "io_uring_setup:delay_enter=1", trace)
    assert numbers == list(range(20))
    assert trace.read_text().count("io_uring_enter(") == 20


def test_pieces_lie_one_behind_the_other_and_a_ring_can_be_used_for_long(tmp_path: Path, ring: Ring) -> None:
    """More completions than the rings are long, so that every index wraps."""
    wanted = b""
    with (tmp_path / "file").open("w+b") as file:
        for turn in range(40):
            pieces = [payload(turn, position, 16 + position) for position in range(turn % (WRITES_MAX + 1))]
            ring.write(file.fileno(), pieces, len(wanted), sync=bool(turn % 2))
            wanted += b"".join(pieces)
        assert file.read() == wanted
        with pytest.raises(ValueError, match=f"{WRITES_MAX} writes, got {WRITES_MAX + 1}"):
            ring.write(file.fileno(), [b"x"] * (WRITES_MAX + 1), 0)


@pytest.mark.parametrize("sync", [False, True])
def test_short_writes_are_continued_before_anything_is_synced(ring: Ring, sync: bool) -> None:
    """A pipe takes 64 KiB at a time while a thread drains it, and cannot be synced: a sync that came early would end the call."""
    read_end, write_end = os.pipe()
    wanted = os.urandom(MIB)
    found: list[bytes] = []

    def drain() -> None:
        while part := os.read(read_end, 10_000):
            found.append(part)

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        with pytest.raises(OSError, match="sync in io_uring") if sync else nullcontext():
            ring.write(write_end, [wanted], 0, sync=sync)
    finally:
        os.close(write_end)
        reader.join()
        os.close(read_end)
    assert b"".join(found) == wanted


def test_failed_write_cancels_its_sync_and_a_failed_sync_is_told_from_it(
    tmp_path: Path, pipe: tuple[int, int], ring: Ring
) -> None:
    with (tmp_path / "file").open("w+b") as file:
        read_only = os.open(file.name, os.O_RDONLY)
        with pytest.raises(OSError, match="write in io_uring") as caught:
            ring.write(read_only, [b"one", b"two"], 0, sync=True)
        os.close(read_only)
        assert caught.value.errno == errno.EBADF
        assert file.read() == b""
        with pytest.raises(OSError, match="sync in io_uring") as caught:
            ring.write(pipe[1], [b"one"], 0, sync=True)  # a pipe cannot be synced
        assert caught.value.errno == errno.EINVAL
        assert os.read(pipe[0], 10) == b"one"
        ring.write(file.fileno(), [b"three"], 0, sync=True)
        ring.check_sync()
        assert file.read() == b"three"


def test_forked_child_is_refused_and_its_parent_goes_on(tmp_path: Path, ring: Ring) -> None:
    with (tmp_path / "file").open("w+b") as file:

        def use() -> bool:
            with pytest.raises(ValueError, match="another process's"):
                ring.write(file.fileno(), [b"child"], 0)
            ring.close()
            return True

        ring.write(file.fileno(), [b"one"], 0)
        assert run_in_child(use) == 0
        ring.write(file.fileno(), [b"two"], 3, sync=True)
        assert file.read() == b"onetwo"


def test_child_appends_through_a_ring_of_its_own(root: Path) -> None:
    with cometlog.open(root, make_config(64 * KIB), write_path="uring") as client:
        writer = client.writer(STREAM)
        for turn in range(3):
            assert writer.append(b"parent") == 2 * turn
            assert run_in_child(lambda number=2 * turn + 1: writer.append(b"child") == number) == 0
    assert [entry.data for entry in read_all(root)] == [b"parent", b"child"] * 3


def test_rings_are_given_back(root: Path) -> None:
    def rings() -> int:
        links = [os.readlink(entry) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry)]
        return sum("io_uring" in link for link in links)

    before = rings()
    with cometlog.open(root, make_config(), write_path="uring") as client:
        client.append(STREAM, [b"one"])
        assert rings() == before + 1
    assert rings() == before
    with pytest.raises(ValueError, match="closed"):
        closed = Ring()
        closed.close()
        closed.write(0, [b"x"], 0)


@pytest.fixture
def disk_without_blocks(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An ext4 whose image lies sparse on a tmpfs that is full: the page cache takes what the disk then refuses."""
    below, place = tmp_path / "below", tmp_path / "disk"
    below.mkdir()
    place.mkdir()
    image = below / "image"
    steps = [
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(below)],
        ["truncate", "-s", "64M", str(image)],
        ["mkfs.ext4", "-q", "-E", "nodiscard", str(image)],
        ["mount", "-o", "loop", str(image), str(place)],
    ]
    undo = [["umount", "--lazy", str(place)], ["umount", "--lazy", str(below)]]
    try:
        for step in steps:
            done = subprocess.run(step, capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"cannot mount such a disk: {done.stderr.decode().strip()}")
        yield below, place
    finally:
        for step in undo:
            subprocess.run(step, capture_output=True, check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize("write_path", ["uring", "async"])
def test_linked_sync_that_fails_refuses_from_then_on_as_the_async_path_does(
    disk_without_blocks: tuple[Path, Path], write_path: str
) -> None:
    below, place = disk_without_blocks
    root = place / "log"
    with cometlog.open(root, make_config(8 * MIB), write_path=write_path) as client:
        assert client.append(STREAM, [b"one"]) == range(1)
        with (below / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
            while True:
                ballast.write(bytes(64 * KIB))
        with pytest.raises(cometlog.SyncError, match="a sync failed") as caught:
            client.append(STREAM, [bytes(range(256)) * 4 * KIB])
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno in (errno.EIO, errno.ENOSPC)
        with pytest.raises(cometlog.SyncError):
            client.append(STREAM, [b"refused"])
        with pytest.raises(cometlog.SyncError):
            client.sync()
        assert [entry.data for entry in client.scan(STREAM)] == [b"one"]
