"""What processes of the kill suites do. A nursery forks them, so that each starts in milliseconds; it has opened no log itself.

Writers tell the oracle of every append that returned, through a named pipe, one line in one write.
"""

import ctypes
import hashlib
import json
import multiprocessing
import os
import platform
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cometlog
from cometlog.errors import ClosedError
from cometlog.kernel import layout
from cometlog.segment import Segment, tail_parts
from kill_batches import acknowledgement, batch_of
from kill_lines import LineTrace
from support import KIB, STREAM, make_config, segment_files

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_CLONE = {"x86_64": 56, "aarch64": 220}


def say(thing: Any) -> None:
    os.write(1, json.dumps(thing).encode() + b"\n")


def nursery() -> None:
    """Fork what the test asks for, and wait for what it killed."""
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            say(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]))
            continue
        pid = os.fork()
        if pid:
            say(pid)
            continue
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        os.environ.update(order["environment"])
        try:
            globals()[order["start"]](**order["arguments"])
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        if order["finalize"]:
            sys.exit(0)
        os._exit(0)


class Teller:
    """Appends a writer's batches in order and tells the oracle of each."""

    def __init__(self, client: cometlog.Client, owner: int, pipe: int) -> None:
        self._client = client
        self._owner = owner
        self._pipe = pipe
        self._next = 0

    def append(self) -> None:
        batch = batch_of(self._owner, self._next)
        writer = self._client.writer(STREAM)
        numbers = [writer.append(batch[0])] if len(batch) == 1 else writer.extend(batch)
        os.write(self._pipe, acknowledgement(self._owner, self._next, numbers))
        self._next += 1


def open_log(root: str, write_path: str, segment_size_bytes: int = 64 * KIB) -> cometlog.Client:
    return cometlog.open(root, make_config(segment_size_bytes), write_path=write_path)


def stop_at_signal() -> threading.Event:
    stop = threading.Event()
    signal.signal(signal.SIGUSR1, lambda _number, _frame: stop.set())
    return stop


def append_until_stopped(
    root: str, write_path: str, owner: int, pipe: str, segment_size_bytes: int = 64 * KIB, appends_in_a_row: int = 16
) -> None:  # fmt: skip
    """Append until killed, or until SIGUSR1, which closes the client. The pauses keep the number of entries to check in hand."""
    stop = stop_at_signal()
    with open_log(root, write_path, segment_size_bytes) as client:
        teller = Teller(client, owner, os.open(pipe, os.O_WRONLY))
        while not stop.is_set():
            for _ in range(appends_in_a_row):
                teller.append()
            time.sleep(0.001)


def append_some(
    root: str, write_path: str, owner: int, pipe: str, appends: int, segment_size_bytes: int = 64 * KIB, wait: bool = False
) -> None:  # fmt: skip
    """Append so many batches and close, unless a step of the kernel kills this process before.

    ``wait``: for SIGUSR1 after the first, so that another attaches second.
    """
    go_on = stop_at_signal()
    with open_log(root, write_path, segment_size_bytes) as client:
        teller = Teller(client, owner, os.open(pipe, os.O_WRONLY))
        for _ in range(appends):
            teller.append()
            if wait:
                go_on.wait()


def claim_and_vanish(root: Path, entries: int, units: int) -> None:
    """Do what a writer does that dies right after its claim: move the tail, write nothing. Nothing where there is no room for it."""
    segment = Segment(segment_files(root)[-1], writable=True)
    while True:
        tail = segment.tail()
        _, used, sealed = tail_parts(tail)
        moved = tail + (entries << layout.TAIL_ENTRIES_SHIFT) + units
        if sealed or used + units > segment.backed_units():
            break
        if segment.mapping.compare_and_swap(layout.SEGMENT_TAIL, tail, moved):
            break
    segment.close()


def run_traced(
    root: str, write_path: str, owner: int, pipe: str, scenario: str, trace: dict[str, Any]
) -> None:
    """Use every slow road of the engine, or only attach, while each executed line is counted, and one of them kills."""
    lines = LineTrace(**trace)
    told = os.open(pipe, os.O_WRONLY)
    with lines:
        client = open_log(root, write_path)
        teller = Teller(client, owner, told)
        if scenario == "attach":
            client.writer(STREAM)
        else:
            for _ in range(25):  # over rotations
                teller.append()
            client.sync()
            if write_path == "mmap":
                claim_and_vanish(Path(root), entries=3, units=20)
            for _ in range(5):
                teller.append()
            for _ in client.scan(STREAM):
                pass
            client.sync()
        client.close()
    lines.write()


def wait_until_parked(thread: int) -> None:
    """Return once a thread sleeps in three looks one after the other, although nobody holds the GIL: it waits at the gate."""
    looks = 0
    while looks < 3:
        time.sleep(0.003)
        state = Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(") ")[2][0]
        looks = looks + 1 if state == "S" else 0


def fork_by(way: str, gate: Any, second_thread: int) -> int:
    """Fork as Python does, as C code does without Python's handlers, or by the bare system call, which runs no handler at all.

    Without Python's handlers the interpreter itself survives only where no other thread asks for the GIL at that instant, so the
    second thread then waits at the gate; the engine's helper thread goes on.
    """
    if way == "os.fork":
        return os.fork()
    libc = ctypes.PyDLL(None)  # keeps the GIL: the child has no other thread that could give it back
    with gate:
        if second_thread:
            wait_until_parked(second_thread)
        if way == "libc.fork":
            return int(libc.fork())
        return int(libc.syscall(_CLONE[platform.machine()], signal.SIGCHLD, 0, 0, 0, 0))


def append_for_ever(client: cometlog.Client, owner: int, told: int, gate: Any = None) -> None:
    teller = Teller(client, owner, told)
    gate = gate or threading.Lock()
    while True:
        for _ in range(4):
            with gate:
                teller.append()
        time.sleep(0.001)


def append_in_new_process(root: str, write_path: str, owner: int, pipe: str) -> None:
    """Body of a child that multiprocessing started: a client of its own."""
    Path(f"{pipe}.{owner}").write_text(str(os.getpid()))
    append_for_ever(open_log(root, write_path), owner, os.open(pipe, os.O_WRONLY))


def prefork(root: str, write_path: str, owner: int, pipe: str, way: str, children: int) -> None:
    """Append, start children while a second thread appends, and go on; the children use the client that they inherit."""
    client = open_log(root, write_path)
    told = os.open(pipe, os.O_WRONLY)
    mine = Teller(client, owner, told)
    gate = threading.Lock()
    for _ in range(20):
        mine.append()
    second = threading.Thread(target=append_for_ever, args=(client, owner + 1, told, gate), daemon=True)
    second.start()
    time.sleep(0.01)
    for child in range(owner + 2, owner + 2 + children):
        if way in ("spawn", "forkserver"):
            context = multiprocessing.get_context(way)
            context.Process(target=append_in_new_process, args=(root, write_path, child, pipe)).start()
        elif fork_by(way, gate, second.native_id or 0) == 0:
            try:
                Path(f"{pipe}.{child}").write_text(str(os.getpid()))
                append_for_ever(client, child, told)
            finally:
                traceback.print_exc()
                os._exit(1)
    while True:
        mine.append()
        time.sleep(0.0005)


def fork_and_die(root: str, write_path: str, owner: int, pipe: str, way: str) -> None:
    """Fork a child that appends a little through the inherited client and then only lives; go on at SIGUSR1, to die at a step."""
    go_on = stop_at_signal()
    client = open_log(root, write_path)
    told = os.open(pipe, os.O_WRONLY)
    mine = Teller(client, owner, told)
    for _ in range(20):
        mine.append()
    if fork_by(way, threading.Lock(), 0) == 0:
        Path(f"{pipe}.{owner + 1}").write_text(str(os.getpid()))
        theirs = Teller(client, owner + 1, told)
        for _ in range(10):
            theirs.append()
        while True:
            signal.pause()
    go_on.wait()
    while True:
        mine.append()


def append_in_daemon_thread(root: str, write_path: str, owner: int, pipe: str, seconds: float) -> None:
    """Return, and with that end the interpreter, while a daemon thread appends through a client that nobody closes."""
    client = open_log(root, write_path)
    teller = Teller(client, owner, os.open(pipe, os.O_WRONLY))
    begun = threading.Event()

    def append() -> None:
        while True:
            teller.append()
            begun.set()

    threading.Thread(target=append, daemon=True).start()
    begun.wait()
    time.sleep(seconds)


def close_beside_appends(
    root: str, write_path: str, owner: int, pipe: str, seconds: float, threads: int
) -> None:
    """Close the client while threads append through it: each ends with ClosedError, the process with code 0."""
    client = open_log(root, write_path)
    told = os.open(pipe, os.O_WRONLY)
    closed: list[int] = []

    def append(whose: int) -> None:
        teller = Teller(client, whose, told)
        try:
            while True:
                teller.append()
        except ClosedError:
            closed.append(whose)

    bodies = [threading.Thread(target=append, args=(owner + thread,)) for thread in range(threads)]
    for body in bodies:
        body.start()
    time.sleep(seconds)
    client.close()
    for body in bodies:
        body.join()
    assert sorted(closed) == list(range(owner, owner + threads))


def follow(root: str) -> None:
    """Read a log as it grows, read-only, until the test says so; then tell how many entries came and their digest."""
    digest, count, start = hashlib.sha256(), 0, 0
    while not (Path(root) / "FORMAT").exists():
        time.sleep(0.001)
    with cometlog.open(root, read_only=True) as client:
        while True:
            batch = list(client.read(STREAM, start, 1000))
            for entry in batch:
                digest.update(entry.number.to_bytes(8, "big") + entry.data)
                start = entry.number + 1
            count += len(batch)
            if not batch and select.select([0], [], [], 0.002)[0]:
                break
    say([count, digest.hexdigest()])


if __name__ == "__main__":
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    function: Callable[..., None] = globals()[name]
    function(**arguments)
