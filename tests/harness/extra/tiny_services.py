"""Servers that start in a moment, sound and faulty, and subjects that are their clients."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import faulty_subjects

from cometbench.peers import import_peer, not_installed
from cometbench.services.service import HOST, Service, first_bytes
from cometbench.subjects.raw_file import RawFile

_SERVE = """
import os, socketserver, sys
class Greeter(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"tiny")
with open("pids", "a") as pids:
    print(os.getpid(), file=pids)
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("127.0.0.1", int(sys.argv[1])), Greeter).serve_forever()
"""


class TinyServer(Service):
    """Greets whoever connects; appends its pid to PIDS_FILE where that is set."""

    name = "Tiny"

    def command(self):
        return [sys.executable, "-S", "-c", _SERVE, str(self.port)]

    def is_ready(self):
        ready = first_bytes(self.port) == b"tiny"
        if ready and "PIDS_FILE" in os.environ:
            Path(os.environ["PIDS_FILE"]).write_text(str(self.pid))
        return ready

    @property
    def version(self):
        return "Tiny 1"


class EndsAtOnce(TinyServer):
    """Says why and ends."""

    def command(self):
        return [sys.executable, "-S", "-c", "print('no room for data'); raise SystemExit(3)"]


class NeverAnswers(TinyServer):
    """Runs and does not listen."""

    start_seconds_max = 0.3

    def command(self):
        return [sys.executable, "-S", "-c", "print('thinking', flush=True); import time; time.sleep(60)"]


class NotThere(TinyServer):
    """Was never installed."""

    def command(self):
        raise not_installed("redis", "redis-server")


class Client(RawFile):
    """A raw file that first talks to its server."""

    def open(self):
        host, _, port = self.config["address"].rpartition(":")
        assert host == HOST
        assert first_bytes(int(port)) == b"tiny"
        super().open()

    def version(self):
        return f"{self.config['server']} (client 2)"


class DyingClient(faulty_subjects.DiesWhileWriting, Client):
    """Dies in the middle of its first value."""


class InterruptingClient(Client):
    """Interrupts the manager while its server runs."""

    def open(self):
        super().open()
        faulty_subjects.interrupt_manager()
        time.sleep(60)


class NeedsPackage(RawFile):
    """Needs a package that nobody has."""

    def open(self):
        import_peer("no_such_package_anywhere")
