"""What a process does while somebody changes the directory of the log that it has open."""

import json
import os
import sys

import injected_workers
from injected_workers import Story, say
from limit_workers import ask
from support import KIB

SEGMENT_BYTES = 64 * KIB
ENTRY_BYTES = 2 * KIB
ROTATING_APPENDS = 70


def serve() -> None:
    injected_workers.serve(globals())


def live_through(root: str, write_path: str, user: int = 0) -> None:
    """Append, see the directory changed, append over rotations and sync; see it restored, and append once more."""
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    teller = Story(root, write_path, SEGMENT_BYTES, ENTRY_BYTES)
    teller.open()
    for _ in range(5):
        teller.append()
    teller.sync()
    ask("change")
    failures = 0
    for _ in range(ROTATING_APPENDS):
        failures += not teller.append()
        if failures == 3:
            break
    teller.sync()
    ask("restore")
    say({"what": "again"})
    teller.append()
    teller.sync()
    teller.close()


def rotate_before_sync(root: str, write_path: str) -> None:
    """Append over a rotation, see something happen, and sync."""
    teller = Story(root, write_path, SEGMENT_BYTES, ENTRY_BYTES)
    teller.open()
    for _ in range(ROTATING_APPENDS):
        teller.append()
    ask("change")
    teller.sync()
    say({"what": "again"})


def append_beside(root: str, write_path: str) -> None:
    """Come as another process, append, sync and leave, if it may."""
    teller = Story(root, write_path, SEGMENT_BYTES, ENTRY_BYTES)
    teller.sequence = 1000
    teller.open()
    if teller.append():
        for _ in range(10):
            teller.append()
        teller.sync()
    teller.close()


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
