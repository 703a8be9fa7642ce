"""Huge pages below the log, and memory of another NUMA node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import cometlog
from cometbench import workloads
from cometbench.benchmark import STREAM
from cometbench.errors import CannotMeasureError, SubjectError
from cometbench.probe import Outcome, Task
from cometbench.probes import places
from cometbench.subjects.engine import chunks_of
from cometbench.verification import Appended, Finding, in_all, verify_entries

NODES = Path("/sys/devices/system/node")
NUMACTL = "numactl --cpunodebind=0 --membind=0 python service.py"
_SETTINGS = {"small": "never", "huge": "always", "here": ""}
_BATCH = 1000
_VALUES = 5
_BATCHES_PER_SECOND = 60
_SECONDS_MAX = 60.0


def huge_pages(task: Task) -> Outcome:
    """Probe function: batches of 1000 into a log on tmpfs, mounted with small and with huge pages, and on the file system under test.

    CannotMeasureError where the kernel refuses the mount, or gives no huge page although it was asked.
    """
    places.enter_mount_namespace()
    pool = workloads.build_pool("json_event", 4 * _BATCH, task.seed)
    batches = max(2, int(_BATCHES_PER_SECOND * task.seconds))
    values: dict[str, float] = {}
    findings = []
    for name, setting in _SETTINGS.items():
        directory = task.directory / name
        directory.mkdir()
        if setting:
            places.mount_tmpfs(directory, f"huge={setting},size=1g,mode=0700")
        per_entry, huge_bytes, finding = _append(directory / "log", pool, batches)
        values[name], values[f"{name}_mapped_huge"] = per_entry * 1e9, float(huge_bytes)
        findings.append(finding)
    if not values["huge_mapped_huge"]:
        raise CannotMeasureError(
            "the kernel maps no huge page of a tmpfs mounted with huge=always; see "
            "/sys/kernel/mm/transparent_hugepage/shmem_enabled, which must not be deny"
        )
    return Outcome(values, in_all(findings))


def _append(log: Path, pool: list[bytes], batches: int) -> tuple[float, int, Finding]:
    """Return seconds of one entry, bytes of this process's mappings that huge pages back, and what verifying showed."""
    items = [pool[start : start + _BATCH] for start in range(0, len(pool), _BATCH)]
    with cometlog.open(log) as client:
        extend = client.writer(STREAM).extend
        seconds, appended = [], 0
        for _ in range(_VALUES):
            started = perf_counter()
            for _ in range(batches):
                extend(items[appended % len(items)])
                appended += 1
            seconds.append((perf_counter() - started) / (batches * _BATCH))
        mapped = _mapped_huge_bytes()
    with cometlog.open(log, read_only=True) as client:
        finding = verify_entries(STREAM, [Appended(pool, appended * _BATCH)], chunks_of(client, STREAM))
    return median(seconds), mapped, finding


def _mapped_huge_bytes() -> int:
    smaps = Path("/proc/self/smaps").read_text()
    return 1024 * sum(map(int, re.findall(r"^(?:Shmem|File)PmdMapped: +(\d+) kB", smaps, re.MULTILINE)))


def numa(task: Task) -> Outcome:
    """Probe function: the same appends with CPU and memory on one node, and with memory on another.

    CannotMeasureError where there is one node, with the command for machines that have more.
    """
    nodes = sorted(path.name for path in NODES.glob("node[0-9]*"))
    if len(nodes) < 2:
        raise CannotMeasureError(
            f"this machine has one NUMA node, so there is no other memory to be far from; elsewhere: {NUMACTL}"
        )
    numactl = shutil.which("numactl")
    if numactl is None:
        raise CannotMeasureError("numactl is not installed (Debian: apt-get install numactl)")
    local, remote = nodes[0].removeprefix("node"), nodes[1].removeprefix("node")
    values: dict[str, float] = {}
    findings = []
    for name, memory in (("local", local), ("remote", remote)):
        command = [numactl, f"--cpunodebind={local}", f"--membind={memory}", sys.executable, "-m", __name__,
                   str(task.directory / name), str(task.seed), str(task.seconds)]  # fmt: skip
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS_MAX + task.seconds, check=False,
            env=dict(os.environ),
        )  # fmt: skip
        if ran.returncode != 0:
            raise SubjectError(f"{name}: exit code {ran.returncode}: {ran.stderr.strip()[-300:]}")
        per_entry, status, expected, found = ran.stdout.split()
        values[name] = float(per_entry)
        findings.append(Finding(status, int(expected), int(found)))
    return Outcome(values, in_all(findings))


def _main() -> None:
    """Be the process that numactl started: append, and print nanoseconds per entry and what verifying has shown."""
    directory, seed, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    pool = workloads.build_pool("json_event", 4 * _BATCH, seed)
    per_entry, _, finding = _append(directory, pool, max(2, int(_BATCHES_PER_SECOND * seconds)))
    print(per_entry * 1e9, finding.status, finding.entries_expected, finding.entries_found)


if __name__ == "__main__":
    _main()
