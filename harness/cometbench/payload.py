"""A user's own entries as a workload: the lines of a file, each one entry.

The workload is named after the content (`payload-<first digits of its SHA-256>`), so results say which entries they are about and name
no path; measuring processes find the file through the environment. Standard library only.
"""

from __future__ import annotations

import functools
import hashlib
import os
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from cometbench.errors import CannotMeasureError, SubjectError, UsageError

ENVIRONMENT_NAME = "COMETBENCH_PAYLOAD"
PREFIX = "payload-"
# What the engine takes in one entry, with room for a batch of them, and what a pool may hold in memory.
ENTRY_BYTES_MAX = 1 << 20
FILE_BYTES_MAX = 256 << 20


def use_payload(file: Path) -> str:
    """Check the file, let measuring processes find it, and return the workload's name.

    Raises UsageError naming the file, the line, and the limit.
    """
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise UsageError(
                f"payload {file} has {file.stat().st_size:,} bytes; at most {FILE_BYTES_MAX:,} are taken"
            )
        lines = _lines(str(file))
    except OSError as error:
        raise UsageError(f"payload {file} cannot be read: {error.strerror}") from error
    if not lines:
        raise UsageError(f"payload {file} holds no entry: it needs one entry a line")
    for number, line in enumerate(lines, 1):
        if len(line) > ENTRY_BYTES_MAX:
            raise UsageError(
                f"payload {file}: entry {number} has {len(line):,} bytes; at most {ENTRY_BYTES_MAX:,} are taken"
            )
    os.environ[ENVIRONMENT_NAME] = str(file.resolve())
    return PREFIX + _digest(str(file))


class PayloadFacts(NamedTuple):
    """What is told of a payload: the number of entries, how many of them differ, and their mean size."""

    entries: int
    different: int
    bytes_mean: float


def payload_facts(file: Path) -> PayloadFacts:
    """Describe a file that `use_payload` has checked."""
    lines = _lines(str(file))
    return PayloadFacts(len(lines), len(set(lines)), sum(map(len, lines)) / len(lines))


def payload_pool(workload: str, count: int, process: int, processes: int) -> list[bytes]:
    """`count` entries for one of several writer processes: the file's lines, over and over.

    Lines of one process are never another's, so that each entry read back tells who wrote it. Raises CannotMeasureError where
    the file has fewer different lines than there are processes.
    """
    file = os.environ.get(ENVIRONMENT_NAME, "")
    if not file or PREFIX + _digest(file) != workload:
        raise SubjectError(f"{ENVIRONMENT_NAME} does not name the file of workload {workload}")
    lines = _lines(file)
    if processes > 1:
        different = list(dict.fromkeys(lines))
        if len(different) < processes:
            raise CannotMeasureError(
                f"the payload has {len(different)} different entries; {processes} processes need as many"
            )
        lines = different[process::processes]
    return list(islice(cycle(lines), count))


@functools.cache
def _lines(file: str) -> list[bytes]:
    """Lines without their ends; empty ones are no entries."""
    return [line for line in Path(file).read_bytes().splitlines() if line]


@functools.cache
def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]
