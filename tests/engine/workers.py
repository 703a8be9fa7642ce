"""What worker processes of the tests do. Each function is started by ``support.Worker`` and speaks lines of JSON."""

import gc
import json
import os
import random
import sys
import time
from typing import Any

import cometlog
from support import KIB, STREAM, make_config, payload


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


def append_for_ever(root: str, write_path: str, owner: int, seed: int, sleep_s: float = 0.0) -> None:
    """Append singles and batches until killed; each line tells what one append was acknowledged as, [number, id] pairs."""
    rng = random.Random(seed)
    client = open_log(root, write_path, segment_size_bytes=64 * KIB)
    writer = client.writer(STREAM)
    say("ready")
    hear()
    sequence = 0
    while True:
        count = rng.choice([1, 1, 2, 10])
        batch = [payload(owner, sequence + position, rng.choice([16, 100, 2000])) for position in range(count)]
        numbers = [writer.append(batch[0])] if count == 1 else list(writer.extend(batch))
        ids = range(owner * 1_000_000 + sequence, owner * 1_000_000 + sequence + count)
        say(list(zip(numbers, ids, strict=True)))
        sequence += count


def hold_open(root: str, write_path: str) -> None:
    """Attach with one entry, and stay until told to close."""
    with open_log(root, write_path) as client:
        client.append(STREAM, [b"first"])
        say("attached")
        hear()
    say("closed")


def append_as_user(root: str, user: int) -> None:
    """Give root's rights up for good, then try to append."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    try:
        with open_log(root) as client:
            client.append(STREAM, [b"mine"])
    except OSError as error:
        say({"os_error": error.errno, "text": str(error)})
    except cometlog.CometlogError as error:
        say({"os_error": None, "text": repr(error)})
    else:
        say({"os_error": None, "text": "appended"})


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
