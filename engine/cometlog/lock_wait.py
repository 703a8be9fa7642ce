"""Waiting for a byte of a shard's lock file whose holder may have stopped: for as long as others get on, then for a limited time.

Thread safety: as ``locks``. Invariant: nothing here takes a stopped process for dead; it is named, and its lock stays its own.
"""

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path

from cometlog.control import Control
from cometlog.errors import ShardBusyError
from cometlog.locks import ShardLocks

_LOCK_LINE = re.compile(
    r"^lock:\s.*OFDLCK\s+\w+\s+(\w+)\s+-?\d+\s+\w+:\w+:(\d+)\s+(\d+)\s+(\w+)$", re.MULTILINE
)
_PAUSE_S = 0.00005
_PAUSE_S_MAX = 0.001
_PAUSE_GROWTH = 1.25


def wait_exclusive(
    locks: ShardLocks,
    control: Control,
    byte: int,
    timeout_s: float,
    needless: Callable[[], bool] = lambda: False,
) -> bool:
    """Lock ``byte`` exclusively; False once it is ``needless``, or nothing became durable in the shard for ``timeout_s`` seconds.

    The kernel is not asked to wait for the lock, because a holder that was stopped would keep this process there for ever. What is
    slept on is the durable position, which a holder raises before it lets go by ``release``; one that raised nothing, or died, is
    noticed within a millisecond.
    """
    seen, deadline, pause_s = -1, 0.0, _PAUSE_S
    while not locks.try_exclusive(byte):
        durable, now = control.durable_entry, time.monotonic()
        if needless():
            return False
        if durable != seen:
            seen, deadline, pause_s = durable, now + timeout_s, _PAUSE_S
        elif now >= deadline:
            return False
        control.sleep_until_durable(seen, pause_s)
        pause_s = min(pause_s * _PAUSE_GROWTH, _PAUSE_S_MAX)
    return True


def release(locks: ShardLocks, control: Control, byte: int) -> None:
    """Unlock ``byte`` and wake who waits for it; in this order, or they would find it locked still."""
    locks.unlock(byte)
    control.wake_durable()


def busy_error(locks: ShardLocks, byte: int, what: str, timeout_s: float) -> ShardBusyError:
    """Return the error for a ``byte`` that was not to be had."""
    return ShardBusyError(
        f"{what}: {holder_name(locks, byte)} has held lock byte {byte} of {locks.path} for {timeout_s} s without progress "
        f"(concurrency.stall_timeout_s); continue it or kill it"
    )


def holder_name(locks: ShardLocks, byte: int) -> str:
    """Return who holds ``byte`` exclusively as far as /proc shows it: for messages, never proof of life."""
    inode = locks.path.stat().st_ino
    for info in Path("/proc").glob("[0-9]*/fdinfo/*"):
        with contextlib.suppress(OSError):  # another user's process, or one that ended meanwhile
            for kind, found, first, last in _LOCK_LINE.findall(info.read_text()):
                end = float("inf") if last == "EOF" else int(last)
                if kind == "WRITE" and int(found) == inode and int(first) <= byte <= end:
                    return f"process {info.parts[2]}"
    return "another process"
