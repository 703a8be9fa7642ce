"""Failing chosen system calls of a real process with ``strace -e inject``, and judging what came of it."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cometlog.errors
from support import Worker

SCRIPT = Path(__file__).with_name("injected_workers.py")
BOUND_S = 30.0
"""No case may take longer: whatever waits for ever would."""

GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "openat": (("openat",), ("EMFILE", "EIO", "ENOSPC", "EDQUOT", "EINTR")),
    "pwrite": (("pwrite64",), ("EIO", "ENOSPC", "EDQUOT", "EINTR")),
    "write": (("write",), ("EIO", "ENOSPC", "EDQUOT")),
    "fdatasync": (("fdatasync",), ("EIO", "ENOSPC", "EDQUOT", "EINTR")),
    "fsync": (("fsync",), ("EIO", "ENOSPC")),
    "msync": (("msync",), ("EIO", "ENOSPC", "EDQUOT", "EINTR")),
    "fallocate": (("fallocate",), ("ENOSPC", "EIO", "EDQUOT", "EINTR")),
    "mmap": (("mmap",), ("ENOMEM", "EAGAIN")),
    "madvise": (("madvise",), ("ENOMEM", "EFAULT", "EINTR")),
    "link": (("link", "linkat"), ("EIO", "ENOSPC", "EDQUOT", "EMLINK")),
    "rename": (("rename", "renameat", "renameat2"), ("EIO", "ENOSPC")),
    "unlink": (("unlink", "unlinkat"), ("EIO",)),
    "mkdir": (("mkdir", "mkdirat"), ("ENOSPC", "EIO", "EDQUOT")),
    "fcntl": (("fcntl",), ("ENOLCK", "EIO")),
    "stat": (("newfstatat", "fstat", "lstat", "stat"), ("EIO", "ENOMEM")),
    "getdents": (("getdents64",), ("EIO",)),
    "pread": (("pread64",), ("EIO", "EINTR")),
    "read": (("read",), ("EIO", "EINTR")),
    "close": (("close",), ("EIO",)),
}
"""System calls that do one thing, and the errors that the kernel gives for it."""


def strace_problem() -> str | None:
    """Say why system calls cannot be made to fail here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    command = ["strace", "-o", "/dev/null", "-e", "inject=getppid:error=EIO", "true"]
    done = subprocess.run(command, capture_output=True, check=False)
    return f"strace cannot inject here: {done.stderr.decode().strip()}" if done.returncode else None


@dataclass
class Outcome:
    """What one child said and how it ended; ``trace`` holds the traced calls."""

    said: list[dict[str, Any]]
    code: int
    trace: list[str] = field(default_factory=list)

    @property
    def injected(self) -> bool:
        """Whether any call was made to fail."""
        return any("(INJECTED)" in line for line in self.trace)

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [line for line in self.said if "error" in line]

    def acknowledged(self) -> dict[int, int]:
        """Entry number by id, of every append that returned."""
        return {
            key: number
            for line in self.said
            if line["what"] == "append" and "result" in line
            for key, number in zip(line["ids"], line["result"], strict=True)
        }

    def refused(self) -> set[int]:
        """Ids of appends that raised, other than for a failed sync, which leaves open whether the entry stays."""
        return {
            key
            for line in self.errors
            if line["what"] == "append" and line["error"] != "SyncError"
            for key in line["ids"]
        }


class Stage:
    """A process that forks one child per case; each may be traced."""

    def __init__(
        self, directory: Path, script: Path = SCRIPT, environment: dict[str, str] | None = None
    ) -> None:
        self._trace = directory / "trace"
        self._script = script
        self._environment = environment
        self._said: list[dict[str, Any]] = []
        self._worker = self._start()

    def _start(self) -> Worker:
        return Worker("serve", script=self._script, environment=self._environment)

    def run(
        self, name: str, tracing: list[str] | None = None, *,
        when_asked: Callable[[dict[str, Any]], object] | None = None, **arguments: Any,
    ) -> Outcome:  # fmt: skip
        """Run a function of the script in a child, under strace with these options where some are given.

        ``when_asked`` is called with each line in which the child asks for something; then the child goes on.
        """
        if self._worker.process.poll() is not None:  # another test's end took it along
            self._worker = self._start()
        self._worker.tell({"name": name, "arguments": arguments})
        pid = self._worker.hear(BOUND_S)["pid"]
        try:
            return self._run(pid, tracing, when_asked)
        except BaseException:
            print("\n".join(json.dumps(line) for line in self._said), self._trace)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._worker.kill()
            self._worker = self._start()
            raise

    def _run(
        self, pid: int, tracing: list[str] | None, when_asked: Callable[[dict[str, Any]], object] | None
    ) -> Outcome:
        tracer = None
        if tracing is not None:
            command = ["strace", "-f", "-p", str(pid), "-o", str(self._trace), *tracing]
            tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            assert tracer.stderr is not None
            line = tracer.stderr.readline()
            assert "attached" in line, line
        self._worker.tell()
        said = self._said = []
        while "ended" not in (line := self._worker.hear(BOUND_S)):
            said.append(line)
            if line["what"] == "ask":
                assert when_asked is not None
                when_asked(line)
                self._worker.tell()
        trace: list[str] = []
        if tracer is not None:
            assert tracer.stderr is not None
            tracer.stderr.close()
            tracer.wait(BOUND_S)
            trace = self._trace.read_text(errors="replace").splitlines()
        return Outcome(said, line["ended"], trace)

    def close(self) -> None:
        self._worker.kill()


def inject(calls: tuple[str, ...], what: str) -> list[str]:
    """Options of strace that do ``what`` to each of these calls: ``error=EIO:when=3``."""
    names = ",".join(calls)
    return ["-e", f"trace={names}", "-e", f"inject={names}:{what}"]


def is_typed(error: dict[str, Any]) -> bool:
    """Whether an error is one that a caller is told to expect, and says what happened."""
    kind = getattr(cometlog.errors, error["error"], None) or __builtins_error(error["error"])
    if kind is None or not error["text"]:
        return False
    return issubclass(kind, (cometlog.errors.CometlogError, MemoryError)) or error["errno"] is not None


def __builtins_error(name: str) -> type[BaseException] | None:
    found = __builtins__[name] if isinstance(__builtins__, dict) else getattr(__builtins__, name, None)
    return found if isinstance(found, type) else None


def show(outcome: Outcome) -> str:
    """What a failed assertion prints: all but appends that returned."""
    said = [line for line in outcome.said if line["what"] != "append" or "error" in line]
    return "\n".join([json.dumps(line)[:400] for line in said] + outcome.trace[-12:])


def judge(stage: Stage, outcome: Outcome, root: Path, write_path: str) -> int:
    """Check what a story came to and what the next process finds; return how many entries were acknowledged."""
    for error in outcome.errors:
        assert is_typed(error), show(outcome)
    for line in outcome.said:
        assert line["what"] != "read" or line.get("result", []) == [], show(outcome)
    after = stage.run("check", root=str(root), write_path=write_path)
    assert after.code == 0, show(outcome) + "\n" + show(after)
    (checked,) = after.said
    found = {key: number for number, owner, key in checked["found"] if owner == 1}
    assert len(found) == len(checked["found"]), show(outcome)
    acknowledged = outcome.acknowledged()
    lost = {key: number for key, number in acknowledged.items() if found.get(key) != number}
    assert not lost, f"lost or moved {lost}\n{show(outcome)}"
    assert not found.keys() & outcome.refused(), f"visible although refused\n{show(outcome)}"
    assert not checked["left"], show(outcome)
    return len(acknowledged)
