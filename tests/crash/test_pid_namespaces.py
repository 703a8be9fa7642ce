"""Who lives is asked of the locks: pids that are equal in two namespaces, taken over by others, or nobody's, deceive no repair."""

import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cometlog
from cometlog import repair
from cometlog.control import Control
from cometlog.errors import StalledWriterError
from cometlog.kernel import layout
from recording import Count
from stalls import ALLOCATED, MARKED, steps_package
from support import KIB, SHARD, STREAM, Worker, make_config, owner_and_sequence, payload, wait_until

__all__ = ["steps_package"]

SCRIPT = Path(__file__).with_name("stall_workers.py")
NEVER_S = 3600.0
"""What the time before a claim is fenced is set to, so that only a writer that was judged dead is given up."""
TIMEOUT_S = 0.3
NS_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
INSIDE = 'echo $(($1 - 1)) > /proc/sys/kernel/ns_last_pid && shift && "$@"; exit $?'
PID_OF_NOBODY = (1 << 22) + 1
"""Beyond the largest pid that Linux gives."""


def namespace_prefix(pid: int) -> tuple[str, ...]:
    """What runs a command in a PID namespace of its own, there under this pid, and ends it with its parent."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return (
        "unshare",
        *user,
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "sh",
        "-c",
        INSIDE,
        "sh",
        str(pid),
    )


@pytest.fixture
def namespaces() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare (util-linux) is not installed")
    probe = subprocess.run([*namespace_prefix(30), "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"PID namespaces are not permitted here: {probe.stderr.strip()}")


def pid_outside(worker: Worker, inside: int) -> int:
    """The pid, in this namespace, of the process below ``worker`` that is ``inside`` in its own."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:  # ended meanwhile
            continue
        pids = lines.get("NSpid", "").split()
        if len(pids) > 1 and pids[-1] == str(inside) and is_below(int(pids[0]), worker.pid):
            return int(pids[0])
    raise AssertionError(f"no process below {worker.pid} is {inside} in a namespace of its own")


def is_below(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    return pid == ancestor


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


class Writers:
    """Workers on one shard, and what was acknowledged to them: number -> (owner, sequence)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self._sequence = itertools.count()
        config = make_config(64 * KIB, concurrency={"stall_timeout_s": TIMEOUT_S})
        self.client = cometlog.open(root, config)

    def start(self, owner: int, **options: Any) -> Worker:
        return Worker(
            "obey", script=SCRIPT, root=str(self.root), owner=owner, fence_after_s=NEVER_S, timeout_s=TIMEOUT_S, **options
        )  # fmt: skip

    def append(self, worker: Worker, owner: int, sequence: int) -> None:
        worker.tell("append")
        number = worker.hear()
        assert number not in self.acknowledged
        self.acknowledged[number] = (owner, sequence)

    def append_here(self) -> None:
        sequence = next(self._sequence)
        (number,) = self.client.append(STREAM, [payload(9, sequence)])
        assert number not in self.acknowledged
        self.acknowledged[number] = (9, sequence)

    def read_by(self, worker: Worker) -> dict[int, tuple[int, int]]:
        worker.tell("read")
        return {number: (owner, sequence) for number, owner, sequence in worker.hear()}

    def read_here(self) -> dict[int, tuple[int, int]]:
        return {entry.number: owner_and_sequence(entry.data) for entry in self.client.scan(STREAM)}

    def slots_of(self, pid: int) -> list[int]:
        control = Control(self.root / SHARD / "control", writable=False)
        slots = [index for index in range(layout.SLOT_COUNT) if control.slot_owner_pid(index) == pid]
        control.close()
        return slots

    def rename_owner(self, pid: int, to: int) -> None:
        """Let the slots of a process say that another one owns them."""
        control = Control(self.root / SHARD / "control", writable=True)
        for index in self.slots_of(pid):
            control.name_slot_owner(index, to, 0)
        control.close()


@pytest.fixture
def writers(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writers]:
    monkeypatch.setattr(repair, "FENCE_AFTER_S", NEVER_S)
    writers = Writers(root)
    writers.append_here()
    yield writers
    Worker.kill_all()
    writers.client.close()


@pytest.mark.parametrize("step", [ALLOCATED, MARKED])
@pytest.mark.parametrize("repairer", ["in its own namespace", "outside"])
def test_writers_with_equal_pids_in_two_namespaces(
    writers: Writers, namespaces: None, steps_package: Path, step: int, repairer: str, count: Count
) -> None:
    """The one that is stopped is not given up while it lives, and is as soon as it is dead, though its pid lives on."""
    pid = 20_000
    stopped = writers.start(
        1, prefix=namespace_prefix(pid), package=steps_package,
        environment={"COMETLOG_STEP": f"{step}:2:{int(signal.SIGSTOP)}"},
    )  # fmt: skip
    live = writers.start(2, prefix=namespace_prefix(pid))
    assert stopped.hear() == live.hear() == pid
    assert len(writers.slots_of(pid)) == 4, "both processes are recorded under one pid"
    outside = pid_outside(stopped, pid)
    writers.append(stopped, 1, 0)
    writers.append(live, 2, 0)
    before = dict(writers.acknowledged)
    stopped.tell("append")
    wait_until(lambda: state_of(outside) == "T", "the writer to stop")
    writers.append(live, 2, 1)

    def read() -> dict[int, tuple[int, int]]:
        return writers.read_here() if repairer == "outside" else writers.read_by(live)

    assert read() == before, "the stopped writer was taken for dead"
    if repairer == "outside":
        with pytest.raises(StalledWriterError):
            writers.client.sync()
    else:
        live.tell("sync")
        assert live.hear() == "StalledWriterError"
    os.kill(outside, signal.SIGKILL)
    wait_until(lambda: state_of(outside) in "ZX" or state_of(outside) == "gone", "the writer to die")
    assert read() == writers.acknowledged, "the dead writer was taken for alive"
    writers.append(live, 2, 2)
    writers.client.sync()
    assert writers.read_here() == writers.acknowledged
    count(kills=1, equal_pids=2)


@pytest.mark.parametrize("step", [ALLOCATED, MARKED])
@pytest.mark.parametrize("taken_by", ["unrelated process", "repairer"])
def test_pid_of_a_dead_writer_that_others_have_by_now(
    writers: Writers, steps_package: Path, step: int, taken_by: str, count: Count
) -> None:
    victim = writers.start(
        1, package=steps_package, environment={"COMETLOG_STEP": f"{step}:2:{int(signal.SIGKILL)}"}
    )
    assert victim.hear() == victim.pid
    writers.append(victim, 1, 0)
    victim.tell("append")
    assert victim.end() == -signal.SIGKILL
    writers.append_here()
    taker = None
    if taken_by == "repairer":
        writers.rename_owner(victim.pid, os.getpid())
    else:
        taker = take_pid(victim.pid)
        assert len(writers.slots_of(taker.pid)) == 2
    try:
        assert writers.read_here() == writers.acknowledged, "the dead writer was taken for alive"
        writers.client.sync()
    finally:
        if taker is not None:
            taker.kill()
            taker.wait()
    count(pids_reused=1)


def take_pid(pid: int) -> subprocess.Popen[bytes]:
    """Start a process that gets a pid which is free; others may start processes in between, so it takes some tries."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            NS_LAST_PID.write_text(str(pid - 1))
        except OSError as error:
            pytest.skip(f"choosing the next pid is not permitted here: {error}")
        process = subprocess.Popen(["sleep", "60"])
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    pytest.fail(f"pid {pid} was not to be had in 30 s")


@pytest.mark.parametrize("step", [ALLOCATED, MARKED])
def test_live_writer_whose_recorded_pid_is_nobodys(
    writers: Writers, steps_package: Path, step: int, count: Count
) -> None:
    stopped = writers.start(
        1, package=steps_package, environment={"COMETLOG_STEP": f"{step}:2:{int(signal.SIGSTOP)}"}
    )
    assert stopped.hear() == stopped.pid
    writers.append(stopped, 1, 0)
    before = dict(writers.acknowledged)
    stopped.tell("append")
    wait_until(lambda: stopped.state() == "T", "the writer to stop")
    writers.rename_owner(stopped.pid, PID_OF_NOBODY)
    writers.append_here()
    with pytest.raises(StalledWriterError):
        writers.client.sync()
    assert writers.read_here() == before, "the live writer was taken for dead"
    stopped.go_on()
    number = stopped.hear()
    assert number == len(before), "its range was its own"
    writers.acknowledged[number] = (1, 1)
    assert writers.read_here() == writers.acknowledged
    count(stalls=1)
