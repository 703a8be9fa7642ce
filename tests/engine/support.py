"""What the engine's tests share: configurations, payloads that identify themselves, and worker processes.

A worker is a real process that runs one function of ``workers.py``. It talks in lines of JSON over its pipes, so a test knows what
was acknowledged before a kill, and every wait has an end.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import cometlog
from cometlog import Config
from cometlog.kernel import layout
from cometlog.write_paths.uring import open_ring

STREAM = "events:v1:shard:0000"
SHARD = Path("events/v1/0000")


def io_uring_problem() -> str | None:
    """Say why the uring path cannot be tried here, or None."""
    try:
        open_ring().close()
    except cometlog.WritePathUnavailableError as error:
        return str(error)
    return None


LIBC_PATHS = ("buffered", "sync", "async", "mmap")
"""The paths whose system calls strace and a preloaded library see."""
_URING = () if io_uring_problem() else ("uring",)
PATHS = (*LIBC_PATHS, *_URING)
SHARED_PATHS = ("sync", "async", "mmap", *_URING)
DURABLE_PATHS = ("sync", "async", "uring")
"""What survives power loss when it returned."""
KIB = 1024
MIB = 1024 * KIB
WAIT_S = 60.0
WORKERS = Path(__file__).with_name("workers.py")
BATCH_OWNERS = 1000
"""Added to a worker's number in the large batches that it appends between its singles."""


def make_config(
    segment_size_bytes: int = 64 * MIB, checkpoint_interval_ms: int = 100, **groups: Any
) -> Config:
    """A configuration without compression, so that payload sizes decide frame sizes."""
    storage = {"segment_size_bytes": segment_size_bytes, "checkpoint_interval_ms": checkpoint_interval_ms}
    changes: dict[str, Any] = {"storage": storage, "compression": {"threshold_bytes": 1 << 30}}
    for name, values in groups.items():
        changes[name] = changes.get(name, {}) | values
    return Config.default().with_changes(**changes)


def payload(owner: int, sequence: int, length: int = 40) -> bytes:
    """An entry that says who wrote it and which of his it is, filled up to ``length`` bytes (at least 16)."""
    head = owner.to_bytes(8, "big") + sequence.to_bytes(8, "big")
    return (head * (length // 16 + 1))[: max(length, 16)]


def owner_and_sequence(data: bytes) -> tuple[int, int]:
    """Take ``payload`` apart, having checked every byte of it."""
    owner, sequence = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big")
    assert data == payload(owner, sequence, len(data)), "entry is not what any worker wrote"
    return owner, sequence


def read_all(path: Path, stream: str = STREAM, **options: Any) -> list[cometlog.Entry]:
    """Every entry of a stream, by a client of its own; read-only unless told otherwise."""
    options = options or {"read_only": True}
    with cometlog.open(path, **options) as client:
        return list(client.scan(stream))


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """Look at a condition until it is true; fail with ``what`` when the time is up."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.001)
    return result


def directory_state(path: Path) -> dict[str, bytes]:
    """Every file below a directory with its bytes, and every directory."""
    return {
        str(item.relative_to(path)): item.read_bytes() if item.is_file() else b"directory"
        for item in sorted(path.rglob("*"))
    }


def segment_files(root: Path) -> list[Path]:
    """The segments of the tests' shard, oldest first."""
    return sorted((root / SHARD).glob("*.seg"))


def frame_bytes(entry_bytes: int) -> int:
    """Bytes that one entry takes in a segment."""
    return -(-(layout.FRAME_HEADER_BYTES + entry_bytes) // layout.UNIT_BYTES) * layout.UNIT_BYTES


class Worker:
    """A process that runs ``<name>(**arguments)`` of ``script``.

    ``package``: a directory that holds another build of the engine. ``environment`` is added to this process's.
    """

    _started: ClassVar[list["Worker"]] = []

    def __init__(
        self, name: str, *, prefix: tuple[str, ...] = (), script: Path = WORKERS, package: Path | None = None,
        environment: dict[str, str] | None = None, **arguments: Any,
    ) -> None:  # fmt: skip
        engine = str(package or Path(cometlog.__file__).parents[1])
        search = os.pathsep.join([engine, str(WORKERS.parent), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(script), name, json.dumps(arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": search} | (environment or {}),
        )  # fmt: skip
        self._buffer = b""
        self._started.append(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    def _fill(self, timeout_s: float) -> bool:
        """Take in what the worker said; False at the end of its output. Fails when it stays silent for too long."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        assert ready, f"worker {self.pid} said nothing for {timeout_s} s"
        piece = os.read(self.process.stdout.fileno(), 1 << 16)
        self._buffer += piece
        return bool(piece)

    def hear(self, timeout_s: float = WAIT_S) -> Any:
        """Return the next line that the worker said."""
        while b"\n" not in self._buffer:
            assert self._fill(timeout_s), f"worker {self.pid} ended with code {self.process.wait()}"
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def has_said_more(self) -> bool:
        """Return whether a line of the worker's waits to be heard."""
        assert self.process.stdout is not None
        return b"\n" in self._buffer or bool(select.select([self.process.stdout], [], [], 0)[0])

    def hear_rest(self, timeout_s: float = WAIT_S) -> list[Any]:
        """Return every whole line up to the end of the worker's output."""
        while self._fill(timeout_s):
            pass
        lines, self._buffer = self._buffer.split(b"\n")[:-1], b""
        return [json.loads(line) for line in lines]

    def tell(self, word: Any = "go") -> None:
        """Send the worker a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(word).encode() + b"\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill with SIGKILL and wait until it is gone."""
        self.process.kill()
        self.process.wait(WAIT_S)

    def stop(self) -> None:
        """Send SIGSTOP and wait until the kernel says that every thread has stopped."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: self.state() == "T", f"worker {self.pid} to stop")

    def state(self) -> str:
        """State letter of the process, "T" while it is stopped."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0]

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def end(self, timeout_s: float = WAIT_S) -> int:
        """Wait for the process and return its exit code."""
        return self.process.wait(timeout_s)

    @classmethod
    def kill_all(cls) -> None:
        for worker in cls._started:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait(WAIT_S)
            for pipe in (worker.process.stdin, worker.process.stdout):
                if pipe is not None:
                    pipe.close()
        cls._started.clear()
