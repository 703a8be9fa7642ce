"""What worker processes of the power-loss suites do: write until the power fails, and open what is left.

Each starts once and forks a child for every run, because importing the engine takes longer than most runs. Started by
``support.Worker``; speaks lines of JSON.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import random
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cometlog
import cometlog.control
from promises import Found, Identity, entry_bytes, found_in
from support import DURABLE_PATHS, STREAM, make_config

LENGTHS = (16, 60, 500, 3000)
SINGLE_LENGTHS = (16, 100, 3000, 9000, 20_000)
BATCH_ENTRIES_MAX = 8
ROUND_S_MAX = 60.0
AFTERMATH_S = 0.01
SHUTDOWN_REQUEST = 0x8004587D
SYNC_FILE_RANGE_ALL = 7
LIBC = ctypes.CDLL(None, use_errno=True)


def boot(number: int) -> None:
    """Give the kernel the boot id of the ``number``-th boot: the page cache of a crashed file system is gone, the real id is not."""
    cometlog.control.boot_id = lambda: number.to_bytes(16, "big")


def open_log(root: str, write_path: str, segment_size_bytes: int) -> cometlog.Client:
    config = make_config(
        segment_size_bytes, 20, concurrency={"attach_timeout_s": 5.0, "stall_timeout_s": 5.0}
    )
    return cometlog.open(root, config, write_path=write_path)


def write_batches(
    client: cometlog.Client, rng: random.Random, tell: Callable[[Any], None], *,
    write_path: str, owner: int, batches: int, sync_share: float, pace_s: float = 0.0,
) -> None:  # fmt: skip
    """Append singles and batches, sync now and then, and tell what returned, as soon as it has.

    ``pace_s``: mean time between two batches, so that a small file system holds what is written until it is cut.
    """
    writer = client.writer(STREAM)
    for batch in range(batches):
        size = rng.choice([1, 1, rng.randint(2, BATCH_ENTRIES_MAX)])
        lengths = [rng.choice(LENGTHS if size > 1 else SINGLE_LENGTHS) for _ in range(size)]
        entries = [entry_bytes(owner, batch, place, size, length) for place, length in enumerate(lengths)]
        first = writer.append(entries[0]) if size == 1 else writer.extend(entries).start
        tell(["append", first, owner, batch, lengths, write_path in DURABLE_PATHS])
        if rng.random() < sync_share:
            next_entry = client.next_entry(STREAM)
            client.sync()
            tell(["sync", next_entry])
        if pace_s:
            time.sleep(rng.expovariate(1 / pace_s))


def identities(owner: int, batch: int, lengths: list[int]) -> list[Identity]:
    """What the entries of a batch say of themselves."""
    return [Identity(owner, batch, place, len(lengths), length) for place, length in enumerate(lengths)]


def in_child(run: Callable[..., None], *arguments: Any) -> int:
    """Fork; the child calls ``run`` and ends at once. Returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        run(*arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def exit_of(pid: int) -> int:
    """Wait for a child; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def has_ended(pid: int) -> bool:
    """Return whether a child has ended; it can be waited for still."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def orders() -> Any:
    """Yield what the test says, line by line; the end of it ends the worker."""
    for line in sys.stdin:
        yield json.loads(line)


def say(thing: Any) -> None:
    os.write(1, json.dumps(thing).encode() + b"\n")


# ---- recorded runs: this worker is started with the recorder loaded ----


def record_runs() -> None:
    """For each order, make the phases of one run one after the other, and say how each writer ended."""
    for order in orders():
        ends = []
        for phase in order["phases"]:
            children = [in_child(record_writer, order, phase, writer) for writer in phase["writers"]]
            ends.append([exit_of(child) for child in children])
        say(ends)


def record_writer(order: dict[str, Any], phase: dict[str, Any], writer: dict[str, Any]) -> None:
    """Write one phase's part of a run under the recorder; ``end``: how to leave."""
    recorder = ctypes.PyDLL(None)
    boot(phase["boot"])
    if "step" in writer:
        os.environ["COMETLOG_STEP"] = writer["step"]
    if recorder.recorder_start(order["world"].encode(), order["trace"].encode()) != 0:
        raise OSError(f"cannot record into {order['trace']}")
    if "die_at" in writer:
        recorder.recorder_die_at(ctypes.c_long(writer["die_at"]))

    def tell(thing: Any) -> None:
        recorder.recorder_note(json.dumps(thing).encode())

    client = open_log(order["root"], phase["write_path"], phase["segment_size_bytes"])
    if phase.get("recovers"):
        client.writer(STREAM)
        found = found_in(client.scan(STREAM))
        tell(["recovered", as_lists(found)])
    write_batches(
        client, random.Random(writer["seed"]), tell, write_path=phase["write_path"],
        owner=writer["owner"], batches=writer["batches"], sync_share=writer["sync_share"],
    )  # fmt: skip
    if writer["closes"]:
        client.close()


# ---- a file system that is cut: nothing of this worker's own lies on it ----


def cut_rounds() -> None:
    """For each order, let writers write, or one process open what is left, until the file system is cut or all are done."""
    for order in orders():
        round_ = CutRound(order["mount"], random.Random(order["seed"]))
        for writer in order.get("writers", ()):
            round_.start(write_until_cut, order, writer)
        if "opens" in order:
            round_.start(open_in_child, order["opens"])
        round_.run_until(order["kill"], order["cut"])
        say(round_.end())


def write_until_cut(report: Callable[[Any], None], order: dict[str, Any], writer: dict[str, Any]) -> None:
    """Write until an error comes; say its type, which must be one that a program can catch."""
    boot(order["boot"])
    try:
        client = open_log(order["root"], order["write_path"], order["segment_size_bytes"])
        write_batches(
            client, random.Random(writer["seed"]), report, write_path=order["write_path"],
            owner=writer["owner"], batches=writer["batches"], sync_share=writer["sync_share"], pace_s=0.001,
        )  # fmt: skip
    except (cometlog.CometlogError, OSError) as error:
        report(["error", type(error).__name__])


def open_in_child(report: Callable[[Any], None], order: dict[str, Any]) -> None:
    """Open what is left and go on with it; an error that is not the cut's own goes into the answer."""
    boot(order["boot"])
    try:
        report(go_on(order))
    except (Exception, AssertionError):
        report({"error": traceback.format_exc()})


class CutRound:
    """Children with pipes, the file system that they use, and what reaches the disk of it in time."""

    def __init__(self, mount: str, rng: random.Random) -> None:
        self._mount = mount
        self._rng = rng
        self._children: dict[int, int] = {}  # pipe to pid
        self._told: dict[int, bytes] = {}
        self._open: set[int] = set()
        self._heard_in_time: dict[int, int] = {}
        self._ended_before: set[int] = set()

    def start(self, run: Callable[..., None], *arguments: Any) -> None:
        """Start a child that reports lines through a pipe."""
        reading, writing = os.pipe()

        def report(thing: Any) -> None:
            os.write(writing, json.dumps(thing).encode() + b"\n")

        self._children[reading] = in_child(run, report, *arguments)
        os.close(writing)
        self._told[reading] = b""
        self._open.add(reading)

    def _listen(self, until: float) -> None:
        """Take in what the children say; ends early when all are done."""
        while self._open and (left := until - time.monotonic()) > 0:
            self._take_in(min(left, self._rng.uniform(0.0005, 0.004)))
            self._write_something_back()

    def _take_in(self, wait_s: float) -> bool:
        """Take in what is in the pipes, waiting for it that long; False where there is nothing."""
        ready = select.select(list(self._open), [], [], wait_s)[0]
        for pipe in ready:
            piece = os.read(pipe, 1 << 16)
            self._told[pipe] += piece
            if not piece:
                self._open.discard(pipe)
        return bool(ready)

    def _write_something_back(self) -> None:
        """Send a random piece of a random file to the disk, as the kernel does when it likes."""
        files = [path for path in Path(self._mount).rglob("*") if path.is_file()]
        if not files or self._rng.random() < 0.5:
            return
        with contextlib.suppress(OSError):
            fd = os.open(self._rng.choice(files), os.O_RDONLY)
            start = self._rng.randrange(0, 1 << 17, 4096)
            length = self._rng.choice([4096, 16384, 1 << 20])
            LIBC.sync_file_range(fd, ctypes.c_int64(start), ctypes.c_int64(length), SYNC_FILE_RANGE_ALL)
            os.close(fd)

    def run_until(self, kill: dict[str, Any] | None, cut: dict[str, Any] | None) -> None:
        """Kill one child at its time, cut the file system at its time; with neither, wait until all are done."""
        start = time.monotonic()
        if kill is not None:
            self._listen(start + kill["after_s"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(list(self._children.values())[kill["child"]], signal.SIGKILL)
        self._listen(start + (cut["after_s"] if cut is not None else ROUND_S_MAX))
        if cut is not None:
            while self._take_in(0):
                pass
            self._heard_in_time = {pipe: len(told) for pipe, told in self._told.items()}
            self._ended_before = {pid for pid in self._children.values() if has_ended(pid)}
            cut_file_system(self._mount, cut["flags"])
            self._listen(time.monotonic() + AFTERMATH_S)

    def end(self) -> list[dict[str, Any]]:
        """End what still runs; return what each child told, before the cut and since, and how it ended.

        Only what was heard before the cut was promised: the power takes those that it would have been told to with it, while ext4
        lets them live, and lets a sync that the shutdown met half-way return success.
        """
        answers = []
        for pipe, pid in self._children.items():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            code = exit_of(pid)
            while piece := os.read(pipe, 1 << 16):
                self._told[pipe] += piece
            os.close(pipe)
            told, in_time = self._told[pipe], self._heard_in_time.get(pipe, len(self._told[pipe]))
            told, late = (
                [json.loads(line) for line in part.splitlines()] for part in (told[:in_time], told[in_time:])
            )
            answers.append(
                {"told": told, "late": late, "code": code, "ended_before": pid in self._ended_before}
            )
        return answers


def cut_file_system(mount: str, flags: int) -> None:
    """Stop a file system at once: 0 flushes everything first, 1 the journal, 2 nothing."""
    fd = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, SHUTDOWN_REQUEST, struct.pack("I", flags))
    finally:
        os.close(fd)


# ---- what is left ----


def open_again() -> None:
    """For each order, open a log under a new boot identity, go on with it, and say what was found, or what went wrong."""
    for order in orders():
        boot(order["boot"])
        try:
            say(go_on(order))
        except (Exception, AssertionError):
            say({"error": traceback.format_exc()})


def go_on(order: dict[str, Any]) -> dict[str, Any]:
    """Open, read everything, append and sync, and read again."""
    root, write_path = order["root"], order["write_path"]
    if order.get("looks_first"):
        look_without_writing(root)
    with open_log(root, write_path, order["segment_size_bytes"]) as client:
        writer = client.writer(STREAM)
        found = found_in(client.scan(STREAM))
        assert client.entry_count(STREAM) == len(found)
        following = client.next_entry(STREAM)
        assert following > max(found, default=-1)
        added = {}
        for batch, size in enumerate((1, 3)):
            entries = [entry_bytes(order["owner"], batch, place, size, 100) for place in range(size)]
            numbers = writer.extend(entries)
            added |= dict(zip(numbers, identities(order["owner"], batch, [100] * size), strict=True))
        assert min(added) == following
        client.sync()
        assert found_in(client.scan(STREAM)) == found | added
        durable = client.stats()[STREAM].durable_entry
        assert durable == max(added) + 1, f"durable up to {durable}, appended up to {max(added)}"
    discarded = sum(1 for path in Path(root).rglob("*.discarded"))
    return {"found": as_lists(found), "added": as_lists(added), "discarded": discarded}


def as_lists(found: Found) -> list[list[int]]:
    """What JSON can carry of number to identity."""
    return [[number, *identity] for number, identity in found.items()]


def look_without_writing(root: str) -> None:
    """Read, before anybody has recovered, what can be read: entries whole and in order, then the end or a typed error."""
    with contextlib.suppress(cometlog.CometlogError), cometlog.open(root, read_only=True) as client:
        found_in(client.scan(STREAM))


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
