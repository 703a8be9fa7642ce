"""The owner's side of the fork server: have measuring processes forked from it, and leave nothing of them behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import IO

from cometbench.processes import Finished, WorkerFailedError, failure_of, module_command, module_environment

Pool = tuple[str, int, int, int, int]


class ForkServer:
    """Forks measuring processes from one that has imported what they need.

    Processes of one server share the layout of its memory, so the owner takes a new one for each round (`close`; the next `run` starts
    it): layouts differ between rounds, the unit of statistics, as they do between processes that are started one by one.
    """

    def __init__(self, search_path: Sequence[Path] = ()) -> None:
        self._search_path = search_path
        self._server: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._pending = b""

    def run(
        self, module: str, arguments: Sequence[str], limit_seconds: float, scratch: Path, pools: Sequence[Pool] = ()
    ) -> Finished:  # fmt: skip
        """Run a module's `main` in a forked process. Raises WorkerFailedError; on any way out its process group is dead.

        `scratch` is a directory for what the process says; `pools` are arguments of `workloads.build_pool` whose entries the server
        builds once for all of its processes.
        """
        said = {name: scratch / name for name in ("stdout", "stderr")}
        request = {"module": module, "arguments": list(arguments), "pools": list(pools)}
        request |= {name: str(path) for name, path in said.items()}
        until, child, code = monotonic() + limit_seconds, 0, None
        try:
            self._ask(json.dumps(request))
            child = self._answer(until)
            code = self._answer(until)
        except TimeoutError:
            raise WorkerFailedError(f"ran longer than {limit_seconds:.0f} s and was ended") from None
        finally:
            if child:
                _end_group(child)
            if code is None:
                self.close()
        text = {
            name: path.read_text(errors="replace") if path.exists() else "" for name, path in said.items()
        }
        if code != 0:
            raise failure_of(code, text["stderr"])
        return Finished(**text)

    def close(self) -> None:
        """End the server, where there is one."""
        server, said = self._server, self._said
        self._server, self._said, self._pending = None, None, b""
        if server is not None and said is not None:
            server.kill()
            with server, said:
                return

    def _ask(self, request: str) -> None:
        if self._server is None or self._server.poll() is not None:
            self.close()
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
            self._server = self._started(self._said)
        assert self._server.stdin is not None, "opened as a pipe"
        try:
            self._server.stdin.write(request.encode() + b"\n")
            self._server.stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None

    def _started(self, said: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            module_command("cometbench.fork_server"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
            env=module_environment(self._search_path),
        )

    def _answer(self, until: float) -> int:
        """Return the server's next number. Raises TimeoutError, and WorkerFailedError where the server ended."""
        assert self._server is not None, "asked before"
        assert self._server.stdout is not None, "opened as a pipe"
        descriptor = self._server.stdout.fileno()
        while b"\n" not in self._pending:
            if not select.select([descriptor], [], [], max(until - monotonic(), 0.0))[0]:
                raise TimeoutError
            read = os.read(descriptor, 4096)
            if not read:
                raise self._lost()
            self._pending += read
        line, _, self._pending = self._pending.partition(b"\n")
        return int(line)

    def _lost(self) -> WorkerFailedError:
        assert self._server is not None, "asked before"
        assert self._said is not None, "made with the server"
        code = self._server.wait()
        self._said.seek(0)
        failure = failure_of(code, self._said.read().decode(errors="replace"))
        return WorkerFailedError(f"the fork server ended: {failure}")


def _end_group(process: int) -> None:
    """Kill what is left of a measuring process and of the writer processes that it forked."""
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        return
