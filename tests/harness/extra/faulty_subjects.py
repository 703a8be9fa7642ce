"""Subjects that break a promise on purpose, to show that the harness notices.

Each is a raw file that misbehaves.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from cometbench.subjects.raw_file import RawFile


class FaultyFile(RawFile):
    """Config `fault` ("drop" or "alter") strikes at the entry with index `at`."""

    def open(self):
        super().open()
        self._position = 0

    def _append_one(self, entry):
        position, self._position = self._position, self._position + 1
        if position == self.config["at"]:
            if self.config["fault"] == "drop":
                return
            entry = entry[:-1] + bytes([entry[-1] ^ 1])
        super()._append_one(entry)

    def append_call(self, batch):
        assert batch == 1
        return self._append_one


class DiesWhileWriting(RawFile):
    """The process ends without a word in the middle of its first value."""

    def time_calls(self, items, batch):
        os._exit(3)


class NeverReturns(RawFile):
    """Sleeps far longer than any limit of a test; only the runner's limit ends it."""

    def time_calls(self, items, batch):
        child = os.fork()
        if child == 0:
            Path(os.environ["CHILD_PID_FILE"]).write_text(str(os.getpid()))
        time.sleep(600)


class TellsItsModules(RawFile):
    """Writes the names of all imported modules when it closes."""

    def close(self):
        super().close()
        Path(os.environ["MODULES_FILE"]).write_text(json.dumps(sorted(sys.modules)))


def interrupt_manager():
    """Send SIGINT to the process that the fork server, this one's parent, works for."""
    server = Path(f"/proc/{os.getppid()}/stat").read_text()
    os.kill(int(server.rpartition(")")[2].split()[1]), signal.SIGINT)


class InterruptsItsManager(RawFile):
    """Sends SIGINT to the manager on its third opening: after two finished turns."""

    def open(self):
        super().open()
        log = Path(os.environ["OPENINGS_FILE"])
        with log.open("a") as file:
            file.write("opened\n")
        if len(log.read_text().splitlines()) == 3:
            interrupt_manager()
            time.sleep(60)
