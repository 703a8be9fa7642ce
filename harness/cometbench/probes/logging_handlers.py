"""Python's logging through cometlog's handler and through logging.FileHandler: same logger calls, same formatter, files on one disk.

Both handlers have handed the record to the system when the call returns, so both survive the death of the process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import cometlog
from cometbench.benchmark import STREAM
from cometbench.probe import Outcome, Task
from cometbench.verification import Finding
from cometlog.log_handler import LogHandler

_BLOCK_RECORDS = 2000
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def log_records(task: Task) -> Outcome:
    """Return ns per record through each handler, medians over blocks that take turns."""
    handlers: dict[str, logging.Handler] = {
        "log_handler": LogHandler(task.directory / "log", STREAM),
        "file_handler": logging.FileHandler(task.directory / "file.log"),
    }
    loggers = {}
    for name, handler in handlers.items():
        handler.setFormatter(logging.Formatter(_FORMAT))
        loggers[name] = logging.Logger("bench")
        loggers[name].addHandler(handler)
    taken: dict[str, list[float]] = {name: [] for name in handlers}
    blocks = 0
    until = perf_counter_ns() + task.seconds * 1e9
    while perf_counter_ns() < until or blocks < 2:
        for name, logger in loggers.items():
            taken[name].append(_block(logger, blocks * _BLOCK_RECORDS))
        blocks += 1
    for handler in handlers.values():
        handler.close()
    values = {name: median(times[1:]) for name, times in taken.items()}
    return Outcome(values, _verify(task.directory, blocks * _BLOCK_RECORDS), {"blocks": float(blocks)})


def _block(logger: logging.Logger, first: int) -> float:
    started = perf_counter_ns()
    for number in range(first, first + _BLOCK_RECORDS):
        logger.info("request %d took %d us", number, number * 7)
    return (perf_counter_ns() - started) / _BLOCK_RECORDS


def _verify(directory: Path, records: int) -> Finding:
    """Compare every line of both, but for the time of day, with what was logged."""
    with cometlog.open(directory / "log", read_only=True) as client:
        entries = [entry.data.decode() for entry in client.scan(STREAM)]
    lines = (directory / "file.log").read_text().splitlines()
    for name, found in (("log_handler", entries), ("file_handler", lines)):
        expected = list(_expected(records))
        got = [line.split(" ", 2)[2] for line in found]
        if got != expected:
            pairs = enumerate(zip(got, expected, strict=False))
            at = next((number for number, (one, other) in pairs if one != other), len(got))
            return Finding(
                "failed", 2 * records, at, f"{name}: record {at} of {records} is not what was logged"
            )
    return Finding("ok", 2 * records, len(entries) + len(lines))


def _expected(records: int) -> Iterator[str]:
    for number in range(records):
        yield f"INFO bench request {number} took {number * 7} us"
