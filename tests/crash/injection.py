"""Failing chosen system calls of a real process with ``strace -e inject``, and judging what came of it."""

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cometlog.errors
from support import Worker

SCRIPT = Path(__file__).with_name("injected_workers.py")
BOUND_S = 30.0
"""No case may take longer: whatever waits for ever would."""

OPENING = ("openat",)
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "openat": (("openat",), ("EMFILE", "EIO", "ENOSPC", "EDQUOT", "EINTR")),
    "pwrite": (("pwrite64",), ("EIO", "ENOSPC", "EDQUOT", "EINTR")),
    "write": (("write",), ("EIO", "ENOSPC", "EDQUOT")),
    "fdatasync": (("fdatasync",), ("EIO", "ENOSPC", "EDQUOT", "EINTR")),
    "fsync": (("fsync",), ("EIO", "ENOSPC")),
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

    def __init__(self, directory: Path) -> None:
        self._trace = directory / "trace"
        self._worker = Worker("serve", script=SCRIPT)

    def run(self, name: str, tracing: list[str] | None = None, **arguments: Any) -> Outcome:
        """Run a function of ``injected_workers.py`` in a child, under strace with these options where some are given."""
        self._worker.tell({"name": name, "arguments": arguments})
        pid = self._worker.hear(BOUND_S)["pid"]
        tracer = None
        if tracing is not None:
            command = ["strace", "-f", "-p", str(pid), "-o", str(self._trace), *tracing]
            tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            assert tracer.stderr is not None
            line = tracer.stderr.readline()
            assert "attached" in line, line
        self._worker.tell()
        said = []
        while "ended" not in (line := self._worker.hear(BOUND_S)):
            said.append(line)
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
    """What a failed assertion prints."""
    return "\n".join([json.dumps(line)[:300] for line in outcome.said] + outcome.trace[-12:])
