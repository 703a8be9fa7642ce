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
_PAUSE_S = 0.001


def wait_exclusive(
    locks: ShardLocks,
    control: Control,
    byte: int,
    timeout_s: float,
    needless: Callable[[], bool] = lambda: False,
    next_entry: int = 0,
) -> bool:
    """Lock ``byte`` exclusively; False once it is ``needless``, or nothing became durable in the shard for ``timeout_s`` seconds.

    The kernel is not asked to wait for the lock, because a holder that was stopped would keep this process there for ever. What is
    slept on is the count of turns, which a holder raises when it lets go by ``release``; one that died is noticed within a
    millisecond. One waiter is woken for each turn, and who waits until everything before ``next_entry`` is durable when it is.
    """
    seen, deadline = -1, 0.0
    while not needless():
        turn = control.turn
        if locks.try_exclusive(byte):
            return True
        durable, now = control.durable_entry, time.monotonic()
        if durable != seen:
            seen, deadline = durable, now + timeout_s
        elif now >= deadline:
            return False
        control.sleep_until_turn(turn, next_entry, _PAUSE_S)
    return False


def release(locks: ShardLocks, control: Control, byte: int, durable_before: int | None = None) -> None:
    """Unlock ``byte`` and wake one that waits for it: in this order, or it would find it locked still.

    ``durable_before``: the durable position when the lock was taken; who waited for what became durable since is woken too.
    """
    locks.unlock(byte)
    control.end_turn(durable_before)


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
