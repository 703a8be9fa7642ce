"""Whether the default configuration leaves small entries alone."""

from __future__ import annotations

import cometlog
from cometbench.benchmark import STREAM
from cometbench.probe import Outcome, Task
from cometbench.probes.stored import frame_bytes
from cometbench.subjects.engine import chunks_of
from cometbench.verification import Appended, in_all, verify_entries

THRESHOLD_BYTES = 4096
_SIZES = (1, 117, 800, 2048, 4095, 4096, 6000)
_BATCH = 4


def default_threshold(task: Task) -> Outcome:
    """Probe function: share of the sizes that the default configuration compresses though small, or leaves though large.

    The entries are runs of one byte, so that whatever is compressed shows.
    """
    violations = 0
    findings = []
    for size in _SIZES:
        log, batch = task.directory / f"size{size}", [bytes([number]) * size for number in range(_BATCH)]
        with cometlog.open(log) as client:
            client.append(STREAM, batch)
        compressed = frame_bytes(log) < _BATCH * size
        violations += compressed != (size >= THRESHOLD_BYTES)
        with cometlog.open(log, read_only=True) as client:
            findings.append(verify_entries(STREAM, [Appended(batch, _BATCH)], chunks_of(client, STREAM)))
    share = violations / len(_SIZES)
    return Outcome({"violations": share}, in_all(findings), {"trials": float(len(_SIZES))})
