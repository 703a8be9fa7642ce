"""Worker processes that are stopped in the middle of something: under a tracer, by a signal, at a numbered step."""

import json
import os
import select
import signal
import sys
import time
from typing import Any

import cometlog
import cometlog.recovery
import cometlog.repair
from cometlog.control import Control
from cometlog.durable_mark import MarkFile
from cometlog.entrance import Entrance
from cometlog.repair import Repairer
from cometlog.segment import Segment
from cometlog.shard import Shard
from single_step import MARK
from support import STREAM, owner_and_sequence, payload
from workers import hear, open_log, outcome_of, say


def obey_between_marks(root: str, owner: int, segment_size_bytes: int) -> None:
    """Do what each order says, the operation itself between two marks; say [numbers of the appends before it, outcome].

    An order: ``before`` lists (sequence, length) of single appends, ``batch`` those of the operation, which is a sync where there is
    none. A batch of one is a single append.
    """
    client = open_log(root, segment_size_bytes=segment_size_bytes, concurrency={"stall_timeout_s": 1.0})
    writer = client.writer(STREAM)
    say("ready")
    while True:
        order = hear()
        before = [writer.append(payload(owner, *item)) for item in order["before"]]
        batch = [payload(owner, *item) for item in order["batch"]]
        outcome: Any
        operation = client.sync if not batch else writer.append if len(batch) == 1 else writer.extend
        arguments = () if not batch else (batch[0],) if len(batch) == 1 else (batch,)
        signal.raise_signal(MARK)
        try:
            outcome = operation(*arguments)
        except cometlog.CometlogError as error:
            outcome = type(error).__name__
        signal.raise_signal(MARK)
        if isinstance(outcome, int):
            outcome = [outcome]
        say([before, list(outcome) if isinstance(outcome, range) else outcome])


def stop_at(owner: Any, name: str, *, after: bool, times: int = 1) -> None:
    """Make this process stop itself before, or after, the ``times``-th call of a function from now on."""
    plain = owner.__dict__[name]
    function = plain.__func__ if isinstance(plain, (staticmethod, classmethod)) else plain
    left = times

    def stopping(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGSTOP)
        result = function(*arguments, **options)
        if left == 0 and after:
            os.kill(os.getpid(), signal.SIGSTOP)
        return result

    wrapped = type(plain)(stopping) if isinstance(plain, (staticmethod, classmethod)) else stopping
    setattr(owner, name, wrapped)


PLACES: dict[str, tuple[Any, str, bool]] = {
    "rotating is said": (Control, "mark_rotating", True),
    "file is made": (Shard, "_next_file", True),
    "before the link": (os, "link", False),
    "after the link": (os, "link", True),
    "before the active number": (Control, "advance_active", False),
    "after the active number": (Control, "advance_active", True),
    "sync": (Segment, "sync_to", False),
    "mark": (MarkFile, "write", False),
    "repair": (Repairer, "_resolve", False),
    "recovery": (cometlog.recovery, "recover", False),
    "leaving": (Entrance, "_is_last", True),
}


def append_number(client: cometlog.Client, owner: int, sequence: int, entry_bytes: int) -> Any:
    """Append one entry; returns its number, or the name of the error."""
    try:
        return client.append(STREAM, [payload(owner, sequence, entry_bytes)])[0]
    except cometlog.CometlogError as error:
        return type(error).__name__


def stop_somewhere(
    root: str, owner: int, write_path: str = "mmap", place: str | None = None, warm_up: int = 1, operation: str = "append",
    count: int = 1, entry_bytes: int = 40, segment_size_bytes: int = 65536, timeout_s: float = 10.0,
) -> None:  # fmt: skip
    """Append ``warm_up`` entries, say their numbers, wait for a word, then stop at ``place`` in an operation and say its outcome.

    Without a place, a numbered step of the debug build stops the process. Appends go on to ``count``; another word ends it.
    """
    client = open_log(
        root, write_path, segment_size_bytes=segment_size_bytes,
        concurrency={"stall_timeout_s": timeout_s, "attach_timeout_s": timeout_s},
    )  # fmt: skip
    say([append_number(client, owner, sequence, 40) for sequence in range(warm_up)])
    hear()
    if place is not None:
        found, name, after = PLACES[place]
        stop_at(found, name, after=after)
    if operation == "append":
        outcome: Any = [append_number(client, owner, warm_up + turn, entry_bytes) for turn in range(count)]
    elif operation == "read":
        outcome = [entry.number for entry in client.scan(STREAM)]
    else:
        outcome = outcome_of({"sync": client.sync, "close": client.close}[operation])
    say(outcome)
    hear()
    client.close()
    say("closed")


def obey(root: str, owner: int, fence_after_s: float, timeout_s: float) -> None:
    """Attach, say this process's pid as it knows it, then do one thing for each word: append, read, sync or close."""
    cometlog.repair.FENCE_AFTER_S = fence_after_s
    client = open_log(root, segment_size_bytes=65536, concurrency={"stall_timeout_s": timeout_s})
    client.writer(STREAM)
    say(os.getpid())
    sequence = 0
    while (word := hear()) != "close":
        if word == "append":
            say(append_number(client, owner, sequence, 40))
            sequence += 1
        elif word == "sync":
            say(outcome_of(client.sync))
        else:
            say([[entry.number, *owner_and_sequence(entry.data)] for entry in client.scan(STREAM)])
    client.close()


def append_without_end(root: str, owner: int, segment_size_bytes: int) -> None:
    """Append singles and batches of three until told to stop; say [[number, sequence], ...] of what was acknowledged."""
    client = open_log(root, segment_size_bytes=segment_size_bytes)
    writer = client.writer(STREAM)
    acknowledged = []
    say("ready")
    sequence = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(20):
            size = 1 + 2 * (sequence % 2)
            batch = [payload(owner, sequence + place, 1000) for place in range(size)]
            try:
                numbers = list(writer.extend(batch))
            except cometlog.AppendFencedError:
                numbers = []
            acknowledged += [[number, sequence + place] for place, number in enumerate(numbers)]
            sequence += size
        time.sleep(0.002)  # keeps the number of entries in hand
    say(acknowledged)
    client.close()


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
