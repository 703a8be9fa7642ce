"""What a process does that runs out of room, of descriptors or of memory: it goes on as soon as there is some again."""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import injected_workers
from injected_workers import Story, hear, say
from support import KIB

SEGMENT_BYTES = 512 * KIB
ENTRY_BYTES = 20 * KIB - 24
"""With its header a frame of whole pages: the word behind the last one lies in a page of its own."""
APPENDS_MAX = 120
LIMITS = {"FSIZE": resource.RLIMIT_FSIZE, "NOFILE": resource.RLIMIT_NOFILE, "AS": resource.RLIMIT_AS}


def serve() -> None:
    injected_workers.serve(globals())


def ask(for_what: str, **told: Any) -> None:
    """Have the test arrange something, and wait until it has."""
    say({"what": "ask", "for": for_what} | told)
    hear()


def append_until_refused(teller: Story) -> bool:
    """Open and append until something is refused; then whatever was acknowledged is read and may be synced. True if it was."""
    if teller.client is None:
        teller.open()
    if teller.client is None:
        return True
    for turn in range(APPENDS_MAX):
        if not teller.append(3 if turn % 4 == 3 else 1):
            teller.append()
            teller.sync()
            teller.read()
            return True
    return False


def go_on(teller: Story) -> None:
    """With room again, everything works without opening anew, unless opening was what had been refused."""
    if teller.client is None:
        teller.open()
    say({"what": "again"})
    for _ in range(3):
        teller.append()
    teller.sync()
    teller.read()
    teller.close()


def run_full(root: str, write_path: str) -> None:
    """Append until the disk is full, and again once there is room."""
    teller = Story(root, write_path, SEGMENT_BYTES, ENTRY_BYTES)
    append_until_refused(teller)
    ask("room", acknowledged=sorted(teller.acknowledged))
    go_on(teller)


def present_use(limit: str) -> int:
    """How much of what is limited this process uses."""
    if limit == "NOFILE":
        return max(int(name) for name in os.listdir("/proc/self/fd"))
    if limit == "AS":
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return 0


def run_limited(root: str, write_path: str, limit: str, extra: int, opened: bool, segment_bytes: int) -> None:
    """Append under a limit of the process, ``extra`` above what it uses, set before or after the log is opened; then without it."""
    teller = Story(root, write_path, segment_bytes, ENTRY_BYTES)
    if opened:
        teller.open()
        teller.append()
    number = LIMITS[limit]
    before = resource.getrlimit(number)
    resource.setrlimit(number, (present_use(limit) + extra, before[1]))
    refused = append_until_refused(teller)
    resource.setrlimit(number, before)
    say({"what": "refused", "result": refused})
    go_on(teller)


def run_on_copy(root: str, write_path: str) -> None:
    """Open what lies there on a full disk, append, and go on once there is room; its entries are told from those that lie there."""
    teller = Story(root, write_path, SEGMENT_BYTES, ENTRY_BYTES)
    teller.sequence = 1000
    append_until_refused(teller)
    ask("room", acknowledged=sorted(teller.acknowledged))
    go_on(teller)


def fill_and_leave(root: str, write_path: str, count: int) -> None:
    """Append a few entries and leave the log in order."""
    teller = Story(root, write_path, SEGMENT_BYTES, ENTRY_BYTES)
    teller.open()
    for _ in range(count):
        teller.append()
    teller.close()


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
