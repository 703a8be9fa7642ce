"""A process that damages a log, looks what reading or attaching makes of it, restores it, and goes on.

The promise: all entries identical, or a typed error that names stream, file and offset. Anything else breaks it.
"""

import json
import os
import resource
import shutil
import signal
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cometlog
import cometlog.control
from cometlog.errors import CometlogError, CorruptionError, EntryNotFoundError, NewerFormatError, NotALogError
from cometlog.kernel import layout
from damage import CONFIG
from support import STREAM
from workers import hear, say

WATCHDOG_S = 10.0
REAL_BOOT_ID = cometlog.control.boot_id()
TYPED = (CorruptionError, NewerFormatError, NotALogError)
Outcome = tuple[str, str | None]


class BrokenPromiseError(Exception):
    """What came out is neither the truth nor a typed error."""


def expect(promise: bool, what: str) -> None:
    if not promise:
        raise BrokenPromiseError(what)


class Log:
    """The log of this judge: restored in place, because ``control`` is bound to its inode."""

    def __init__(self, root: Path, pristine: Path) -> None:
        shutil.copytree(pristine, root)
        self.root = root
        self._files = {
            path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()
        }
        self.restore()

    def restore(self) -> None:
        for path in self.root.rglob("*"):
            if path.is_symlink() or (not path.is_dir() and path.relative_to(self.root) not in self._files):
                path.unlink()
        for name, data in self._files.items():
            path = self.root / name
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            fd = os.open(path, flags, 0o600)
            os.ftruncate(fd, 0 if name.name != "control" else len(data))
            os.pwrite(fd, data, 0)
            if name.name == "control":
                # As if it had been written here: the identity names the file itself.
                info = os.fstat(fd)
                identity = REAL_BOOT_ID + struct.pack("<QQ", info.st_dev, info.st_ino)
                os.pwrite(fd, identity, layout.CONTROL_BOOT_IDENTITY)
            os.close(fd)

    def apply(self, change: list[list[Any]]) -> None:
        for name, *arguments in change:
            getattr(self, name)(*arguments)

    def flip(self, file: str, bit: int) -> None:
        fd = os.open(self.root / file, os.O_RDWR)
        (byte,) = os.pread(fd, 1, bit // 8)
        os.pwrite(fd, bytes([byte ^ 1 << bit % 8]), bit // 8)
        os.close(fd)

    def write(self, file: str, offset: int, data: str) -> None:
        fd = os.open(self.root / file, os.O_RDWR)
        os.pwrite(fd, bytes.fromhex(data), offset)
        os.close(fd)

    def replace(self, file: str, source: str) -> None:
        """Put the bytes of a file outside the log in the place of a file's, in the same inode."""
        (self.root / file).write_bytes(Path(source).read_bytes())

    def truncate(self, file: str, length: int) -> None:
        os.truncate(self.root / file, length)

    def remove(self, file: str) -> None:
        (self.root / file).unlink()

    def rename(self, file: str, other: str) -> None:
        (self.root / file).rename(self.root / other)

    def copy(self, file: str, other: str) -> None:
        (self.root / other).write_bytes((self.root / file).read_bytes())


def check_error(error: CometlogError, log: Log) -> str:
    """Return the outcome that a typed error is; the error says where."""
    expect(isinstance(error, TYPED), f"{type(error).__name__}: {error}")
    if isinstance(error, CorruptionError):
        expect(error.stream == STREAM, f"no stream in: {error}")
        expect(error.file.startswith(str(log.root)) and error.offset >= 0, f"no place in: {error}")
    else:
        expect(str(log.root) in str(error), f"no file in: {error}")
    return type(error).__name__


def judge_reads(client: cometlog.Client, log: Log, truth: list[tuple[int, bytes]]) -> str:
    """Ask every way of reading; return "identical", or the first typed error. Fewer, other or more entries break the promise."""
    outcome = "identical"
    following = truth[-1][0] + 1

    def ask(what: str, call: Any, wanted: Any) -> None:
        nonlocal outcome
        try:
            got = call()
        except EntryNotFoundError as error:
            raise BrokenPromiseError(f"{what}: {error}") from error
        except CometlogError as error:
            name = check_error(error, log)
            outcome = name if outcome == "identical" else outcome
            return
        expect(got == wanted, f"{what} gives {got!r}"[:200])

    def pairs(entries: Any) -> list[tuple[int, bytes]]:
        return [(entry.number, entry.data) for entry in entries]

    ask("scan", lambda: pairs(client.scan(STREAM)), truth)
    ask("entry_count", lambda: client.entry_count(STREAM), len(truth))
    ask("recent", lambda: pairs(client.recent(STREAM, 3)), truth[-3:])
    ask("recent", lambda: pairs(client.recent(STREAM, 50)), truth[-50:])
    ask("first_entry", lambda: client.first_entry(STREAM), truth[0][0])
    ask("next_entry", lambda: max(client.next_entry(STREAM), following) - following >= 0, True)
    ask("next_entry", lambda: client.next_entry(STREAM) < following, False)
    ask("verify", lambda: client._reader(STREAM).verify().entries, len(truth))
    for number, data in truth[:: max(1, len(truth) // 10)]:
        ask(f"read {number}", lambda number=number: pairs(client.read(STREAM, number, 1)), [(number, data)])
    middle = len(truth) // 2
    ask("read on", lambda: pairs(client.read(STREAM, truth[middle][0], 100)), truth[middle:])
    return outcome


def read_only(log: Log, truth: list[tuple[int, bytes]]) -> str:
    try:
        client = cometlog.open(log.root, read_only=True)
    except CometlogError as error:
        return check_error(error, log)
    with client:
        return judge_reads(client, log, truth)


def attach(log: Log, truth: list[tuple[int, bytes]]) -> str:
    """Attach, which recovers, append one entry more, and read all; what is read by others afterwards is the same."""
    longer = truth
    outcome = "identical"
    try:
        with cometlog.open(log.root, CONFIG) as client:
            (number,) = client.append(STREAM, [b"one more"])
            longer = [*truth, (number, b"one more")]
            expect(number > truth[-1][0], f"number {number} given twice")
            outcome = judge_reads(client, log, longer)
    except CometlogError as error:
        outcome = check_error(error, log)
    afterwards = read_only(log, longer)
    return outcome if outcome != "identical" else afterwards


def judge_one(mode: str, log: Log, truth: list[tuple[int, bytes]], change: list[list[Any]]) -> str:
    log.apply(change)
    try:
        if mode == "read":
            return read_only(log, truth)
        return attach(log, truth)
    finally:
        if mode == "read" and change[0][0] == "flip" and len(change) == 1:
            log.apply(change)
        else:
            log.restore()


def judge(root: str, pristine: str, truth: list[list[Any]], progress: str, options: dict[str, Any]) -> None:
    """Judge jobs of changes until the pipe ends. SIGALRM ends a process that a change made hang."""
    if memory := options.get("memory_bytes"):
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    log = Log(Path(root), Path(pristine))
    entries = [(number, bytes.fromhex(data)) for number, data in truth]
    position = os.open(progress, os.O_WRONLY)
    while True:
        mode, changes = hear()
        boot_id = bytes([*REAL_BOOT_ID[:15], REAL_BOOT_ID[15] ^ (mode == "reboot")])
        cometlog.control.boot_id = lambda: boot_id  # noqa: B023 - called before the next job
        outcomes: Counter[str] = Counter()
        broken = []
        for number, change in enumerate(changes):
            os.pwrite(position, number.to_bytes(8, "little"), 0)
            signal.setitimer(signal.ITIMER_REAL, options.get("watchdog_s", WATCHDOG_S))
            try:
                outcomes[judge_one(mode, log, entries, change)] += 1
            except Exception as error:
                outcomes["broken"] += 1
                broken.append(f"{mode} {change}: {type(error).__name__}: {error}"[:600])
        signal.setitimer(signal.ITIMER_REAL, 0)
        say({"outcomes": outcomes, "broken": broken[:20]})


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
