"""Byte-range locks of a shard, held by open file descriptions.

Thread safety: the descriptions belong to one client; the slot table beside it is guarded by the client's shard lock.
Invariant: such a lock never conflicts with its own description, so liveness is asked through a second description
(``is_held``), and a forked child closes both at once (``kernel.fork_guard``).
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

from cometlog.kernel.fork_guard import guard_descriptor, release_descriptor
from cometlog.segment import open_checked

ATTACH_BYTE = 0
REPAIR_BYTE = 1
LEAVE_BYTE = 2
SYNC_BYTE = 3
APPEND_BYTE = 4
INDEX_BYTE = 5
SLOT_BYTE_FIRST = 16

_FLOCK = struct.Struct("hhqqi4x")


class ShardLocks:
    """The ``lock`` file of a shard, opened twice: once to hold locks, once to probe whether others hold them."""

    def __init__(self, path: Path, file_mode: int) -> None:
        self.path = path
        self._holder = self._guarded(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, file_mode)
        )
        try:
            self._probe = self._guarded(open_checked(path, os.O_RDONLY))
        except BaseException:
            self._close(self._holder)
            raise

    @staticmethod
    def _guarded(fd: int) -> int:
        try:
            guard_descriptor(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @staticmethod
    def _close(fd: int) -> None:
        if release_descriptor(fd):
            os.close(fd)

    def _request(self, command: int, kind: int, byte: int) -> None:
        fcntl.fcntl(self._holder, command, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))

    def try_exclusive(self, byte: int) -> bool:
        """Lock ``byte`` exclusively if nobody else holds it; also upgrades a shared lock of this client."""
        return self._try(fcntl.F_WRLCK, byte)

    def try_shared(self, byte: int) -> bool:
        """Lock ``byte`` shared if nobody holds it exclusively; also downgrades an exclusive lock of this client."""
        return self._try(fcntl.F_RDLCK, byte)

    def _try(self, kind: int, byte: int) -> bool:
        try:
            self._request(fcntl.F_OFD_SETLK, kind, byte)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def unlock(self, byte: int) -> None:
        """Release ``byte``."""
        self._request(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, byte)

    def is_held(self, byte: int) -> bool:
        """Return whether any description, this client's included, holds ``byte``."""
        answer = fcntl.fcntl(
            self._probe, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        )
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        """Release every lock of this client. In a forked child, where the handler closed them, nothing happens."""
        self._close(self._holder)
        self._close(self._probe)
        self._holder = self._probe = -1
