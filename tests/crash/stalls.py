"""What the suites of stopped processes share: a worker that stops itself somewhere, and a client that goes on beside it."""

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cometlog
from support import KIB, STREAM, Worker, make_config, owner_and_sequence, payload, wait_until

SCRIPT = Path(__file__).with_name("stall_workers.py")
STALLED, OTHER = 1, 2
TIMEOUT_S = 0.3
"""What ``stall_timeout_s`` is where a test waits for it to pass."""
STOP = int(signal.SIGSTOP)


@pytest.fixture
def steps_package() -> Path:
    package = os.environ.get("COMETLOG_STEPS_PACKAGE")
    if package is None:
        pytest.skip("needs the debug build beside the ordinary one: nox -s crash")
    return Path(package)


class Others:
    """A client of this process on the shard of a stopped one, and what was acknowledged to either."""

    def __init__(
        self, root: Path, write_path: str = "mmap", stall_timeout_s: float = 10.0, size: int = 64 * KIB
    ) -> None:
        config = make_config(
            size, concurrency={"stall_timeout_s": stall_timeout_s, "attach_timeout_s": TIMEOUT_S}
        )
        self.client = cometlog.open(root, config, write_path=write_path)
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self._sequence = itertools.count()

    def acknowledge(self, numbers: list[int], owner: int = STALLED, first: int = 0) -> None:
        for sequence, number in enumerate(numbers, first):
            assert number not in self.acknowledged, f"number {number} was given twice"
            self.acknowledged[number] = (owner, sequence)

    def append(self, count: int = 3, entry_bytes: int = 40) -> None:
        for _ in range(count):
            sequence = next(self._sequence)
            numbers = self.client.append(STREAM, [payload(OTHER, sequence, entry_bytes)])
            self.acknowledge(list(numbers), OTHER, sequence)

    def read(self) -> dict[int, tuple[int, int]]:
        """Every entry that is readable now, repairing what is in the way; none twice."""
        entries = [(entry.number, owner_and_sequence(entry.data)) for entry in self.client.scan(STREAM)]
        found = dict(entries)
        assert len(found) == len(entries) == len(set(found.values()))
        return found

    def check(self) -> None:
        """What is readable is what was acknowledged, to this process and to the one that stopped."""
        assert self.read() == self.acknowledged


@pytest.fixture
def stop(start_worker: type[Worker]) -> Iterator[Any]:
    """Start a worker that stops itself somewhere: ``stop(root, others, ...)`` returns it stopped."""

    def stopped(root: Path, others: Others, **arguments: Any) -> Worker:
        environment = {"COMETLOG_STEP": arguments.pop("step")} if "step" in arguments else {}
        package = arguments.pop("package", None)
        worker = start_worker(
            "stop_somewhere", script=SCRIPT, package=package, environment=environment, root=str(root), owner=STALLED,
            **arguments,
        )  # fmt: skip
        if arguments.get("warm_up", 1):
            others.acknowledge(worker.hear())
        else:
            assert worker.hear() == []
        others.append(1)  # attached before the other stops: only then is it one that goes on
        worker.tell()
        wait_until(lambda: worker.process.poll() is not None or worker.state() == "T", "the worker to stop")
        assert worker.process.poll() is None, "the worker never came to where it should stop"
        return worker

    yield stopped
    Worker.kill_all()


def go_on(worker: Worker) -> Any:
    """Continue a stopped worker and return the outcome of its operation."""
    worker.go_on()
    return worker.hear()


def leave(worker: Worker, others: Others) -> None:
    """Let both go; the shard is left in order."""
    worker.tell()
    assert worker.hear() == "closed"
    assert worker.end() == 0
    others.check()
    others.client.close()


BUSY, ALLOCATED, CLAIMED, MARKED, COPIED, FINISHED, COMMITTED, IDLE, SEALED = range(1, 10)
FILE_LONGER, PAGES_THERE, BACKED, WRITTEN, PUBLISHED = range(10, 15)
"""The numbered steps of the debug build, as kernel/step.pxd has them."""
