"""The test's side of the kill suites: a log, a nursery that starts writers, and the oracle that hears them."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from support import SHARD, Worker, wait_until

_HERE = Path(__file__).parent
STEPS_PACKAGE = "COMETLOG_STEPS_PACKAGE"
DERIVED = ("*.idx", "control", "durable")


def steps_package() -> Path:
    """Where the build with numbered steps lies; skips the test without one."""
    found = os.environ.get(STEPS_PACKAGE)
    if not found:
        pytest.skip(f"{STEPS_PACKAGE} names no build with numbered steps: run nox -s crash, which makes one")
    return Path(found)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Child:
    """A process that the nursery started."""

    def __init__(self, nursery: Worker, pid: int, owner: int) -> None:
        self._nursery = nursery
        self._code: int | None = None
        self.pid = pid
        self.owner = owner

    def signal(self, number: int) -> None:
        """Send a signal; the process is not waited for before ``end``, so its pid is its own."""
        os.kill(self.pid, number)

    def end(self) -> int:
        """Wait for the process and return its exit code, negative for a signal."""
        if self._code is None:
            self._nursery.tell({"wait": self.pid})
            self._code = int(self._nursery.hear())
        return self._code

    def kill(self) -> None:
        """Kill with SIGKILL and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.end()


class Scene:
    """One nursery and one oracle, for one log after the other."""

    def __init__(self, directory: Path, package: Path | None = None) -> None:
        self._directory = directory
        self._turn = 0
        self._owner = 0
        self._nursery = Worker("nursery", script=_HERE / "kill_workers.py", package=package)
        self._oracle = Worker("oracle", script=_HERE / "kill_oracle.py")
        self.root = directory
        self.pipe = directory
        self.new_log()

    def new_log(self) -> None:
        """Go on with an empty log; the one before is deleted."""
        if self._turn:
            shutil.rmtree(self.root, ignore_errors=True)
            self.pipe.unlink()
        self._turn += 1
        self.root = self._directory / f"log{self._turn}"
        self.pipe = self._directory / f"acknowledged{self._turn}"
        os.mkfifo(self.pipe)
        self._ask(do="listen", root=str(self.root), pipe=str(self.pipe))

    def _ask(self, **order: Any) -> Any:
        self._oracle.tell(order)
        answer = self._oracle.hear()
        assert not answer or "wrong" not in answer, answer["wrong"]
        return answer

    def start(
        self, name: str, write_path: str, *, environment: dict[str, str] | None = None, owners: int = 1, finalize: bool = False,
        **arguments: Any,
    ) -> Child:  # fmt: skip
        """Start a process that writes under the next number, or the next ``owners`` numbers."""
        owner, self._owner = self._owner, self._owner + owners
        common = {"root": str(self.root), "pipe": str(self.pipe), "write_path": write_path, "owner": owner}
        self._nursery.tell(
            {
                "start": name,
                "arguments": common | arguments,
                "environment": environment or {},
                "finalize": finalize,
            }
        )
        return Child(self._nursery, int(self._nursery.hear()), owner)

    def appends_of(self, owner: int) -> int:
        """How many appends of a writer were acknowledged up to now."""
        return int(self._ask(do="progress").get(str(owner), 0))

    def wait_for_first_append(self, writer: Child) -> None:
        """Return once a writer was acknowledged an append, or has ended."""
        wait_until(lambda: self.appends_of(writer.owner) or is_gone(writer.pid), "a writer to begin", 30)

    def wait_for_appends(self, owner: int, more: int) -> None:
        """Return once a writer was acknowledged ``more`` appends from now on."""
        goal = self.appends_of(owner) + more
        wait_until(lambda: self.appends_of(owner) >= goal, f"writer {owner} to go on", 30)

    def check(
        self, write_path: str, *, attach: bool = True, quiet: bool = True, whole: bool = True, **more: Any
    ) -> dict[str, Any]:
        """Have the oracle compare the log with what was acknowledged; returns how much was read and acknowledged."""
        answer: dict[str, Any] = self._ask(
            do="check", write_path=write_path, attach=attach, quiet=quiet, whole=whole, **more
        )
        return answer

    def delete_derived(self) -> None:
        """Delete index, control and durable marks."""
        for pattern in DERIVED:
            for path in (self.root / SHARD).glob(pattern):
                path.unlink()
