"""What a process does while system calls of it fail: one story, told step by step, and the check of what it left behind.

``serve`` forks a child for each order, so that no case pays for starting Python. A child is told when to begin, because a tracer takes
hold of it first. Lines go out by ``writev`` and come in by ``readv``, calls in which nothing is injected.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cometlog
from support import KIB, SHARD, STREAM, make_config, owner_and_sequence, payload

SEGMENT_BYTES = 1536 * KIB
ENTRY_BYTES = 150 * KIB
APPENDS = 13
"""Enough for a growth beyond the first MiB and for a rotation."""


def say(thing: Any) -> None:
    os.writev(1, [json.dumps(thing).encode() + b"\n"])


def hear() -> Any:
    line = b""
    while not line.endswith(b"\n"):
        piece = bytearray(1)
        if not os.readv(0, [piece]):
            os._exit(3)
        line += piece
    return json.loads(line)


def serve(functions: dict[str, Any] | None = None) -> None:
    """Run each function that is ordered, of this script or of those given, in a child of its own; say how the child ended."""
    while True:
        order = hear()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                say({"pid": os.getpid()})
                hear()
                (globals() | (functions or {}))[order["name"]](**order["arguments"])
                code = 0
            except BaseException:
                say({"what": "crash", "error": traceback.format_exc()})
            finally:
                os._exit(code)
        say({"ended": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])})


class Story:
    """Does one thing after another and tells what each came to: a result, or the error it raised."""

    def __init__(
        self, root: str, write_path: str, segment_bytes: int = SEGMENT_BYTES, entry_bytes: int = ENTRY_BYTES
    ) -> None:
        self.root = root
        self.write_path = write_path
        self.entry_bytes = entry_bytes
        self.config = make_config(
            segment_bytes, 1, indexing={"boundary_interval_entries": 2}, concurrency={"attach_timeout_s": 2.0}
        )
        self.client: cometlog.Client | None = None
        self.sequence = 0
        self.acknowledged: set[int] = set()

    def attempt(self, what: str, call: Callable[[], Any], **told: Any) -> bool:
        """Do something; True if it succeeded. Only the engine's errors, OSError and MemoryError are outcomes."""
        try:
            result = call()
        except (cometlog.CometlogError, OSError, MemoryError) as error:
            number = getattr(error, "errno", None)
            say({"what": what, "error": type(error).__name__, "errno": number, "text": str(error)} | told)
            return False
        say({"what": what, "result": result} | told)
        return True

    def open(self) -> None:
        def opened() -> None:
            self.client = cometlog.open(self.root, self.config, write_path=self.write_path)

        for _ in range(3):
            if self.attempt("open", opened):
                return

    def close(self) -> None:
        if self.client is not None:
            self.attempt("close", self.client.close)
        self.client = None

    def append(self, count: int = 1) -> bool:
        """Append a single or a batch; every attempt has entries of its own, so one that failed is told from the next."""
        if self.client is None:
            return False
        client = self.client
        ids = range(self.sequence, self.sequence + count)
        self.sequence += count
        entries = [payload(1, sequence, self.entry_bytes // count) for sequence in ids]
        done = self.attempt("append", lambda: list(client.append(STREAM, entries)), ids=list(ids))
        if done:
            self.acknowledged.update(ids)
        return done

    def sync(self) -> bool:
        return self.client is not None and self.attempt("sync", self.client.sync)

    def read(self) -> None:
        """Read everything; say what is missing of what was acknowledged."""
        if self.client is None:
            return
        client = self.client

        def missing() -> list[int]:
            found = {owner_and_sequence(entry.data)[1] for entry in client.scan(STREAM)}
            return sorted(self.acknowledged - found)

        self.attempt("read", missing)


def story(root: str, write_path: str) -> None:
    """Create a shard, append over a growth and a rotation, sync, read, leave, come back, and do all again; try each thing twice."""
    teller = Story(root, write_path)
    teller.open()
    for turn in range(APPENDS):
        if not teller.append(3 if turn % 4 == 3 else 1) and not teller.append():
            teller.close()
            teller.open()
            teller.append()
        if turn == APPENDS // 2:
            teller.sync()
    time.sleep(0.003)  # the helper's checkpoint falls due: its calls are among those that can fail
    teller.sync() or teller.sync()
    teller.read()
    teller.close()
    teller.open()
    for _ in range(2):  # the first sync writes ahead, the second finds what is written
        teller.append()
        teller.sync()
    teller.read()
    teller.close()


def append_and_die(root: str, write_path: str) -> None:
    """Append and sync a few times, and die with the log open."""
    teller = Story(root, write_path)
    teller.open()
    for _ in range(4):
        teller.append()
        teller.sync()
    os.kill(os.getpid(), signal.SIGKILL)


def check(root: str, write_path: str) -> None:
    """Come to the log as the next process does: say every entry, append one, sync, leave, and say what lies in the shard."""
    config = make_config(SEGMENT_BYTES)
    with cometlog.open(root, config, write_path=write_path) as client:
        client.writer(STREAM)
        found = [[entry.number, *owner_and_sequence(entry.data)] for entry in client.scan(STREAM)]
        number = client.append(STREAM, [payload(2, 0)])[0]
        client.sync()
        last = client.recent(STREAM, 1)[0]
        assert (last.number, last.data) == (number, payload(2, 0))
    with cometlog.open(root, read_only=True) as client:
        assert len(list(client.scan(STREAM))) == len(found) + 1 == client.entry_count(STREAM)
    left = sorted(path.name for path in Path(root).rglob("*") if ".tmp." in path.name)
    segments = sorted(path.name for path in (Path(root) / SHARD).glob("*.seg*"))
    say({"what": "check", "found": found, "left": left, "segments": segments})


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
