"""What a process does whose wall clock is moved under it (``moved_clock.c`` is preloaded)."""

import json
import os
import signal
import struct
import sys
import time
from pathlib import Path

import cometlog
from injected_workers import say
from support import KIB, STREAM, make_config, payload

ENTRIES = 170
ENTRY_BYTES = 400
CONFIG = make_config(64 * KIB, 1, indexing={"boundary_interval_entries": 10})


def set_clock(add_ns: int = 0, stand_still_at_ns: int = 0) -> None:
    """Move this process's wall clock, and wait until no sample of the old one is in use (10 ms at most)."""
    with Path(os.environ["MOVED_CLOCK"]).open("r+b") as order:  # in place: it is mapped
        order.write(struct.pack("<qq", add_ns, stand_still_at_ns))
    time.sleep(0.03)


def append_under(client: cometlog.Client, turn: int) -> None:
    """Append over more than one segment, and say the numbers and between which times of this clock."""
    since_ns = time.time_ns()
    numbers = [
        client.append(STREAM, [payload(turn, sequence, ENTRY_BYTES)])[0] for sequence in range(ENTRIES)
    ]
    client.sync()
    say({"turn": turn, "numbers": numbers, "since": since_ns, "until": time.time_ns()})


def append_while_clock_moves(root: str, write_path: str, moves: list[list[int]]) -> None:
    """Append under each setting of the clock, then die with the log open."""
    set_clock()
    client = cometlog.open(root, CONFIG, write_path=write_path)
    for turn, (add_ns, stand_still_at_ns) in enumerate(moves):
        set_clock(add_ns, stand_still_at_ns)
        append_under(client, turn)
        assert len(list(client.scan(STREAM))) == (turn + 1) * ENTRIES
        assert client.stats()[STREAM].durable_entry == (turn + 1) * ENTRIES
    os.kill(os.getpid(), signal.SIGKILL)


def recover_under(root: str, write_path: str, turn: int, add_ns: int) -> None:
    """Come to the log with the clock set otherwise, append, and leave."""
    set_clock(add_ns)
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        append_under(client, turn)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
