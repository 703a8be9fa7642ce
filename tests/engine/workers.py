"""What worker processes of the tests do. Each function is started by ``support.Worker`` and speaks lines of JSON."""

import gc
import io
import json
import os
import random
import signal
import sys
import threading
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cometlog
import cometlog.cli
import cometlog.recovery
from cometlog.control import Control
from cometlog.durable_mark import MarkFile
from cometlog.kernel import layout
from cometlog.rotation import PreparedFile
from cometlog.segment import Segment
from support import BATCH_OWNERS, KIB, SHARD, STREAM, make_config, payload


def say(thing: Any) -> None:
    """Send a line to the test, whole, in one write."""
    os.write(1, json.dumps(thing).encode() + b"\n")


def hear() -> Any:
    """Wait for a line from the test; its end ends this process."""
    line = sys.stdin.readline()
    if not line:
        os._exit(3)  # at once: threads that append would keep a process alive whose test is gone
    return json.loads(line)


def open_log(root: str, write_path: str = "mmap", **config: Any) -> cometlog.Client:
    return cometlog.open(root, make_config(**config), write_path=write_path)


def leave_open(root: str, write_path: str) -> None:
    """End without closing the client."""
    open_log(root, write_path).append(STREAM, [b"left open"])
    say("appended")


def drop_client(root: str, write_path: str) -> None:
    """Lose the client to the garbage collector, and outlive the helper thread's next looks."""
    open_log(root, write_path).append(STREAM, [b"dropped"])
    gc.collect()
    time.sleep(0.3)
    say("alive")


def cross_segment_sizes(root: str, sizes: list[int], entry_bytes: int) -> None:
    """Fill segments of one size after another, so that what is prepared ahead has the size of an earlier one."""
    sequence = 0
    for size in sizes:
        with open_log(root, segment_size_bytes=size) as client:
            writer = client.writer(STREAM)
            for _ in range(2 * size // entry_bytes):
                writer.append(payload(0, sequence, entry_bytes))
                sequence += 1
                if sequence % 4 == 0:
                    time.sleep(
                        0.0005
                    )  # lets the helper prepare the next segment; nothing is asserted about it
    say(sequence)


def append_for_ever(root: str, write_path: str, owner: int, seed: int, sleep_s: float = 0.0) -> None:
    """Append singles and batches, ``sleep_s`` apart, until killed; a line tells what one was acknowledged as: [number, id] pairs."""
    rng = random.Random(seed)
    client = open_log(root, write_path, segment_size_bytes=64 * KIB)
    writer = client.writer(STREAM)
    say("ready")
    hear()
    sequence = 0
    while True:
        count = rng.choice([1, 1, 2, 10])
        batch = [
            payload(owner, sequence + position, rng.choice([16, 100, 2000])) for position in range(count)
        ]
        numbers = [writer.append(batch[0])] if count == 1 else list(writer.extend(batch))
        ids = range(owner * 1_000_000 + sequence, owner * 1_000_000 + sequence + count)
        say(list(zip(numbers, ids, strict=True)))
        sequence += count
        time.sleep(sleep_s)


def append_each(root: str, write_path: str, count: int) -> None:
    """Append so many entries, going on after an error; tell the numbers, and name, errno and text of the last error."""
    numbers: list[int] = []
    error: list[object] = []
    with open_log(root, write_path) as client:
        for sequence in range(count):
            try:
                numbers += client.append(STREAM, [payload(0, sequence)])
            except (OSError, cometlog.CometlogError) as caught:
                error = [type(caught).__name__, getattr(caught, "errno", None), str(caught)]
    say({"numbers": numbers, "error": error})


def hold_open(root: str, write_path: str) -> None:
    """Attach with one entry, and stay until told to close."""
    with open_log(root, write_path) as client:
        client.append(STREAM, [b"first"])
        say("attached")
        hear()
    say("closed")


def become(user: int) -> None:
    """Give root's rights up for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def append_as_user(root: str, user: int) -> None:
    """Try to append as another user, and give the index time to follow."""
    become(user)
    try:
        with open_log(root, "sync") as client:
            client.append(STREAM, [b"mine"])
    except OSError as error:
        say({"os_error": error.errno, "text": str(error)})
    except cometlog.CometlogError as error:
        say({"os_error": None, "text": repr(error)})
    else:
        say({"os_error": None, "text": "appended"})


def read_as_user(root: str, user: int) -> None:
    """Count what another user reads."""
    become(user)
    with cometlog.open(root, read_only=True) as client:
        say(len(list(client.scan(STREAM))))


def read_in_every_way(root: str) -> None:
    """Call everything that a read-only client has, and say how many entries there are."""
    with cometlog.open(root, read_only=True) as client:
        assert client.streams() == [STREAM]
        client.stats()
        client.stalled_writers(look_s=0.01)
        count = len(list(client.scan(STREAM)))
        assert len(client.read(STREAM, 10, 20)) == 20
        assert len(client.recent(STREAM, 5)) == 5
        assert client.entry_count(STREAM) == count
        assert client.first_entry(STREAM) == 0
        client.next_entry(STREAM)
    with redirect_stdout(io.StringIO()):
        assert cometlog.cli.main(["verify", root, "--json"]) == 0
    say(count)


def append_singles(root: str, owner: int, count: int, batch_every: int, batch_entries: int) -> None:
    """Append ``count`` singles; with ``batch_every`` a large batch after so many of them, else a pause half-way."""
    client = open_log(root)
    writer = client.writer(STREAM)
    large = [payload(owner + BATCH_OWNERS, position, 2000) for position in range(batch_entries)]
    say("ready")
    hear()
    numbers = []
    for sequence in range(count):
        numbers.append(writer.append(payload(owner, sequence, 117)))
        if batch_every and sequence % batch_every == batch_every - 1:
            writer.extend(large)
        elif not batch_every and sequence == count // 2 - 1:
            say("half")
            hear()
    client.close()
    assert numbers == sorted(numbers)
    say("done")


def append_until_told(
    root: str, owner: int, threads: int = 1, seed: int = 0, segment_size_bytes: int = 1 << 26
) -> None:
    """Append singles and pairs in some threads until told to stop, then say what was acknowledged: [number, thread, sequence]."""
    client = open_log(root, segment_size_bytes=segment_size_bytes)
    writer = client.writer(STREAM)
    stop = threading.Event()
    acknowledged: list[tuple[int, int, int]] = []

    def append(thread: int) -> None:
        rng = random.Random(seed + thread)
        sequence = 0
        whose = owner * 10 + thread
        while not stop.is_set():
            if sequence % 20 == 0:
                time.sleep(0.001)  # keeps the number of entries to check in hand
            if rng.random() < 0.9:
                acknowledged.append(
                    (writer.append(payload(whose, sequence, rng.choice([16, 117, 6000]))), whose, sequence)
                )
                sequence += 1
            else:
                for number in writer.extend([payload(whose, sequence), payload(whose, sequence + 1)]):
                    acknowledged.append((number, whose, sequence))
                    sequence += 1

    bodies = [threading.Thread(target=append, args=(thread,)) for thread in range(threads)]
    say("ready")
    hear()
    for body in bodies:
        body.start()
    hear()
    stop.set()
    for body in bodies:
        body.join()
    client.close()
    say(acknowledged)


def fork_in_the_middle(root: str, owner: int, children: int, end: str) -> None:
    """Fork while a thread appends; parent and children append on, and the children leave by ``end``: close, exit or _exit."""
    client = open_log(root, segment_size_bytes=1 << 20)
    writer = client.writer(STREAM)
    stop = threading.Event()
    mine: list[tuple[int, int, int]] = []

    def append(whose: int, into: list[tuple[int, int, int]], limit: int | None = None) -> None:
        sequence = 0
        while not stop.is_set() and (limit is None or sequence < limit):
            into.append((writer.append(payload(whose, sequence, 500)), whose, sequence))
            sequence += 1

    thread = threading.Thread(target=append, args=(owner, mine))
    thread.start()
    pids: list[int] = []
    (ready, tell_ready), (go, tell_go), (floor, give_floor) = os.pipe(), os.pipe(), os.pipe()
    os.write(give_floor, b".")  # one speaks at a time: a line is longer than what a pipe takes whole
    for child in range(children):
        while len(mine) < 200 * (child + 1):
            time.sleep(0.0005)
        pids.append(os.fork())
        if pids[-1] == 0:
            theirs: list[tuple[int, int, int]] = []
            append(owner + 1 + child, theirs, 3000)
            os.read(floor, 1)
            say({"acknowledged": theirs, "slot": slot_of_this_process(root)})
            os.write(give_floor, b".")
            os.close(tell_go)
            os.write(tell_ready, b".")
            # Ends when the parent closes its end: until then every child lives and keeps its slots.
            os.read(go, 1)
            if end == "close":
                client.close()
            os._exit(0)
    for _ in range(children):
        os.read(ready, 1)
    os.close(tell_go)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    stop.set()
    thread.join()
    say({"acknowledged": mine, "slot": slot_of_this_process(root), "codes": codes})
    client.close()


def slot_of_this_process(root: str) -> list[int]:
    """Slots of the tests' shard whose owner says this pid."""
    control = Control(Path(root) / SHARD / "control", writable=False)
    mine = [index for index in range(layout.SLOT_COUNT) if control.slot_owner_pid(index) == os.getpid()]
    control.close()
    return mine


def leave_by_exit(root: str) -> None:
    """Append and leave by os._exit, without closing anything."""
    client = open_log(root)
    for sequence in range(100):
        client.append(STREAM, [payload(0, sequence)])
    say("appended")
    os._exit(7)


def append_between_marks(root: str, count: int, segment_size_bytes: int, pace_ns: int) -> None:
    """Append ``count`` entries of 117 bytes, one every ``pace_ns``, between two calls of getppid, which a tracer sees.

    Waiting for the next is a loop over the clock, which the kernel serves without a system call.
    """
    client = open_log(root, segment_size_bytes=segment_size_bytes)
    writer = client.writer(STREAM)
    entries = [payload(0, sequence, 117) for sequence in range(1000)]
    append = writer.append
    for entry in entries:
        append(entry)
    say(threading.get_native_id())
    hear()
    gc.collect()
    gc.disable()
    os.getppid()
    due_ns = time.monotonic_ns()
    for _ in range(count // len(entries)):
        for entry in entries:
            append(entry)
            due_ns += pace_ns
            while time.monotonic_ns() < due_ns:
                pass
    os.getppid()
    client.close()
    say("done")


def append_batches_and_sync(root: str, write_path: str, turn: int) -> None:
    """Append sixty entries over more than one segment, sync, and wait to be killed."""
    client = open_log(root, write_path, segment_size_bytes=64 * KIB)
    for sequence in range(0, 60, 3):
        client.append(STREAM, [payload(turn, sequence + position, 2000) for position in range(3)])
    client.sync()
    say("synced")
    hear()


def recover_and_die(root: str, write_path: str, step: int) -> None:
    """Attach, and be killed right before the ``step``-th thing that attaching writes; exit 0 if it writes fewer."""
    done = 0

    def dying(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for owner, names in (
        (Segment, ["swap_word", "seal"]),
        (
            Control,
            [
                "set_active",
                "set_slot_idle",
                "withdraw_write_path",
                "reset_durable",
                "write_clean_record",
                "clear_poison",
            ],
        ),
        (PreparedFile, ["publish"]),
        (MarkFile, ["write"]),
        (os, ["link", "unlink", "fdatasync", "fsync", "rename"]),
        (cometlog.recovery._Recovery, ["_set_tail", "_end_here", "_start_new_segment"]),
    ):
        for name in names:
            plain = owner.__dict__[name]
            wrapped = dying(plain.__func__ if isinstance(plain, staticmethod) else plain)
            setattr(owner, name, staticmethod(wrapped) if isinstance(plain, staticmethod) else wrapped)
    client = open_log(root, write_path, segment_size_bytes=64 * KIB)
    client.writer(STREAM)
    os._exit(0)


def outcome_of(call: Any) -> str | None:
    """Name of the engine's error that a call raised, or None."""
    try:
        call()
    except cometlog.CometlogError as error:
        return type(error).__name__
    return None


def append_after_word(root: str, write_path: str) -> None:
    """Attach, wait for a word, tell what an append and a sync came to, wait for another word and leave."""
    client = open_log(root, write_path, segment_size_bytes=64 * KIB)
    client.writer(STREAM)
    say("attached")
    hear()
    say([outcome_of(lambda: client.append(STREAM, [payload(7, 0)])), outcome_of(client.sync)])
    hear()
    client.close()


def append_and_sync(root: str, write_path: str) -> None:
    """Tell what an append followed by a sync, an append, and a sync came to."""
    client = open_log(root, write_path)

    def both() -> None:
        client.append(STREAM, [payload(8, 0)])
        client.sync(STREAM)

    say(
        [
            outcome_of(both),
            outcome_of(lambda: client.append(STREAM, [payload(8, 1)])),
            outcome_of(lambda: client.sync(STREAM)),
        ]
    )
    os._exit(0)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
