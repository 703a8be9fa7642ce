"""Byte-range locks of a shard, held by open file descriptions.

Thread safety: the descriptions belong to one client; the slot table beside it is guarded by the client's shard lock.
Invariant: such a lock never conflicts with its own description, so liveness is asked through a second description
(``is_held``), and a forked child closes both at once (``kernel.fork_guard``).
"""

import errno
import fcntl
import os
import struct
import time
from pathlib import Path

from cometlog.errors import NotALogError
from cometlog.files import open_checked, open_or_create
from cometlog.kernel.fork_guard import guard_descriptor, release_descriptor

ATTACH_BYTE = 0
REPAIR_BYTE = 1
LEAVE_BYTE = 2
SYNC_BYTE = 3
APPEND_BYTE = 4
INDEX_BYTE = 5
GROUP_BYTE = 6
RETAIN_BYTE = 7
SLOT_BYTE_FIRST = 16
FORWARD_BYTE_FIRST = 4096
"""Bytes of live forwarders: this, and the index of their group's line in the group offsets."""

_FLOCK = struct.Struct("hhqqi4x")
_RETRY_S = 0.0005
_UNLOCK_TRIES = 200


class LockProbe:
    """The ``lock`` file opened once more, read-only, to ask whether anybody holds a byte: it holds none and blocks nobody."""

    def __init__(self, path: Path, directory_fd: int | None = None) -> None:
        self.fd = open_checked(path, os.O_RDONLY, directory_fd)

    def is_held(self, byte: int) -> bool:
        """Return whether any other description holds ``byte``, shared or exclusively."""
        answer = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def is_slot_locked(self, index: int) -> bool:
        """Return whether a slot has a live owner."""
        return self.is_held(SLOT_BYTE_FIRST + index)

    def close(self) -> None:
        """Close the descriptor; closing twice is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class ShardLocks:
    """The ``lock`` file of a shard, opened twice: once to hold locks, once to probe whether others hold them."""

    def __init__(self, path: Path, file_mode: int, directory_fd: int | None = None) -> None:
        self.path = path
        self._holder = self._guarded(open_or_create(path, file_mode, directory_fd))
        try:
            self._probe = LockProbe(path, directory_fd)
            self._guarded(self._probe.fd)
            info, probed = os.fstat(self._holder), os.fstat(self._probe.fd)
            self.identity = info.st_dev, info.st_ino
            if self.identity != (probed.st_dev, probed.st_ino):
                raise NotALogError(f"{path} was replaced while it was opened; open the log again")
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
        """Release ``byte``.

        The kernel may lack memory for it. Others would wait for ever, and what was done under the lock is done, so it is tried again.
        """
        for turn in range(_UNLOCK_TRIES):
            try:
                self._request(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, byte)
            except OSError:
                if turn == _UNLOCK_TRIES - 1:
                    raise
                time.sleep(_RETRY_S)
            else:
                return

    def is_held(self, byte: int) -> bool:
        """Return whether any description, this client's included, holds ``byte``."""
        return self._probe.is_held(byte)

    def close(self) -> None:
        """Release every lock of this client. In a forked child, where the handler closed them, nothing happens."""
        self._close(self._holder)
        self._close(self._probe.fd)
        self._holder = self._probe.fd = -1
