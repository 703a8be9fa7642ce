"""Whether the path of a shard still leads to the files that a client of it holds.

Locks and shared words bind those who hold the same files. Where somebody removed, moved or replaced the directory, ``lock`` or
``control``, a process that comes later holds others, and neither sees the other: whoever holds the old ones stops.
"""

import os
from pathlib import Path

from cometlog.errors import NotALogError
from cometlog.kernel.identity import leads_to

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FROM_ROOT = -1


class Place:
    """A shard's directory as it was when a client attached. ``directory_fd`` stays the caller's; files are opened relative to it."""

    def __init__(self, stream: str, directory: Path, directory_fd: int) -> None:
        self._stream = stream
        self._directory = directory.absolute()
        self._directory_name = os.fsencode(self._directory)
        self._directory_identity = identity_of(directory_fd)
        self.directory_fd = directory_fd
        self._files: dict[str, tuple[bytes, int, int]] = {}

    def hold(self, name: str, identity: tuple[int, int]) -> None:
        """Expect the file ``name`` to stay the one with this (device, inode)."""
        self._files[name] = os.fsencode(name), *identity

    def check(self) -> None:
        """Raise NotALogError naming what is no longer the file or the directory that this client holds.

        A process that gave rights up after it opened the log may not look, and is not told.
        """
        if not leads_to(self._directory_name, _FROM_ROOT, *self._directory_identity):
            raise self.lost(self._directory)
        for name in self._files:
            self.check_file(name)

    def check_file(self, name: str) -> None:
        """Raise NotALogError where one of the files is no longer in its place."""
        name_bytes, device, inode = self._files[name]
        if not leads_to(name_bytes, self.directory_fd, device, inode):
            raise self.lost(self._directory / name)

    def lost(self, path: Path) -> NotALogError:
        """Return the error for something that is no longer in its place."""
        return NotALogError(
            f"{path} is no longer what this client of {self._stream} opened: it was removed, moved or replaced while in use; "
            f"put it back, or close every client of the log and open it again"
        )


def identity_of(fd: int) -> tuple[int, int]:
    """Return device and inode of an open file."""
    info = os.fstat(fd)
    return info.st_dev, info.st_ino
