"""A server as a child process: started on a free loopback port, waited for, stopped by its pid, never left behind.

Usable by itself, without benchmarks: `with RedisServer(directory) as server: server.address`. A server dies with the thread
that started it (PR_SET_PDEATHSIG), whatever ends that; it runs in a session of its own, so Ctrl-C reaches its owner alone,
which stops it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import ClassVar, Self

from cometbench.errors import CometbenchError
from cometbench.peers import find_program

HOST = "127.0.0.1"
_POLL_SECONDS = 0.02
_LOG_LINES_SHOWN = 3


class ServiceError(CometbenchError):
    """A server ended or did not answer in time; the message names it and holds the end of its log."""


class Service(ABC):
    """One server process whose data lies under `directory`; `start` may follow `stop` and `kill`, on the same port and data."""

    name: ClassVar[str]
    start_seconds_max: ClassVar[float] = 30.0
    stop_seconds_max: ClassVar[float] = 10.0

    def __init__(self, directory: Path) -> None:
        """`directory` is made where it is missing. Nothing is started yet."""
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Write what the server needs to start and return its command line.

        Raises CannotMeasureError where it is not installed.
        """

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the server answers a client; may raise OSError while nobody listens."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Name and version of the running server."""

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id. Raises ServiceError when the server does not run."""
        if self._process is None:
            raise ServiceError(f"{self.name} does not run")
        return self._process.pid

    @property
    def log(self) -> Path:
        """The file that holds what the server printed."""
        return self.directory / "server.log"

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises CannotMeasureError where it is not installed, ServiceError where it does not come up.
        """
        leash = [find_program("setpriv", "setpriv"), "--pdeathsig", "KILL"]
        command = [*leash, *self.command()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True
            )  # fmt: skip
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """End the server by SIGTERM, by SIGKILL where that takes too long; a server that does not run is left alone."""
        if self._process is None:
            return
        self.resume()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.stop_seconds_max)
        self.kill()

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> Self:
        """Stop the server where it runs, and start it on the same port and data."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze the server, so that it costs nothing while others are measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:  # Popen sends nothing to a process that has ended
            self._process.send_signal(number)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = monotonic() + self.start_seconds_max
        while process.poll() is None:
            with contextlib.suppress(OSError):
                if self.is_ready():
                    return
            if monotonic() > until:
                raise ServiceError(
                    f"{self.name} did not answer within {self.start_seconds_max:.0f} s{self._said()}"
                )
            sleep(_POLL_SECONDS)
        raise ServiceError(f"{self.name} ended with code {process.returncode} while it started{self._said()}")

    def _said(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()[-_LOG_LINES_SHOWN:]
        return ": " + " | ".join(line.strip() for line in lines) if lines else ""


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def first_bytes(port: int, ask: bytes = b"", count: int = 4096, timeout_s: float = 1.0) -> bytes:
    """Connect to a loopback port, send `ask`, return the first bytes of the answer. Raises OSError."""
    with socket.create_connection((HOST, port), timeout_s) as connection:
        connection.sendall(ask)
        return connection.recv(count)
