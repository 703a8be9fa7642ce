"""The ``statistics`` file of a shard: counters and latencies that every process adds to. Format: FORMAT.md, "The statistics".

Thread safety: counters are raised by atomic additions. Invariant: nothing but reports rests on what it holds, so whatever is wrong
with it costs no append and no read: a writer that can have no such file counts in memory of its own.
"""

import os
import struct
import time
from contextlib import suppress
from pathlib import Path

from cometlog.errors import CometlogError
from cometlog.files import open_checked
from cometlog.fixed_file import create_fixed_file
from cometlog.kernel import layout
from cometlog.kernel.mapping import Mapping

STATISTICS_FILE = "statistics"
_HEAD = layout.STATISTICS_MAGIC_BYTES + struct.pack("<II", layout.FORMAT_VERSION, layout.LATENCY_BUCKETS)


def map_statistics(directory: Path, *, writable: bool) -> Mapping | None:
    """Map the statistics of a shard; None where there are none that can be used."""
    try:
        fd = open_checked(directory / STATISTICS_FILE, os.O_RDWR if writable else os.O_RDONLY)
    except (CometlogError, OSError):
        return None
    try:
        if os.fstat(fd).st_size != layout.STATISTICS_SIZE_BYTES or os.pread(fd, len(_HEAD), 0) != _HEAD:
            return None
        if writable:
            # A copy may have left zeros out, and a store where no block is would end the process on a full disk.
            os.posix_fallocate(fd, 0, layout.STATISTICS_SIZE_BYTES)
        return Mapping(fd, layout.STATISTICS_SIZE_BYTES, writable)
    except OSError:
        return None
    finally:
        os.close(fd)


def replace_damaged_statistics(directory: Path, file_mode: int) -> None:
    """Make the statistics of a shard anew where they are missing or damaged; only under exclusive byte 0, or others would count on in
    the file that is removed.
    """
    path = directory / STATISTICS_FILE
    found = map_statistics(directory, writable=True)
    if found is not None:
        found.close()
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)
        _create(path, file_mode)


def statistics_to_write(directory: Path, file_mode: int) -> Mapping:
    """Map the statistics of a shard for a writer, making the file where it is missing, and memory of its own where that fails."""
    with suppress(OSError):
        _create(directory / STATISTICS_FILE, file_mode)
    found = map_statistics(directory, writable=True)
    return found if found is not None else _unshared()


def count(statistics: Mapping, field: int, amount: int = 1) -> None:
    """Raise a counter; nothing where another thread has closed the client meanwhile."""
    if not statistics.closed:
        statistics.add(field, amount)


def _create(path: Path, file_mode: int) -> None:
    head = _HEAD + struct.pack("<Q", time.time_ns())
    create_fixed_file(path, head, layout.STATISTICS_SIZE_BYTES, file_mode)


def _unshared() -> Mapping:
    fd = os.memfd_create("cometlog-statistics")
    try:
        os.truncate(fd, layout.STATISTICS_SIZE_BYTES)
        return Mapping(fd, layout.STATISTICS_SIZE_BYTES, True)
    finally:
        os.close(fd)
