"""What worker processes of the tests do. Each function is started by ``support.Worker`` and speaks lines of JSON."""

import gc
import json
import os
import sys
import time
from typing import Any

import cometlog
from support import STREAM, make_config, payload


def say(thing: Any) -> None:
    """Send a line to the test, whole, in one write."""
    os.write(1, json.dumps(thing).encode() + b"\n")


def hear() -> Any:
    """Wait for a line from the test; its end ends this process."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(3)
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
                    time.sleep(0.0005)  # lets the helper prepare the next segment; nothing is asserted about it
    say(sequence)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
