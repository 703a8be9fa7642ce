"""Whether the path of a shard still leads to the files that a client of it holds.

Locks and shared words bind those who hold the same files. Where somebody removed, moved or replaced the directory, ``lock`` or
``control``, a process that comes later holds others, and neither sees the other: whoever holds the old ones stops.
"""

import os
from contextlib import suppress
from pathlib import Path

from cometlog.errors import NotALogError

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Place:
    """A shard's directory as it was when a client attached. ``directory_fd`` stays the caller's; files are opened relative to it."""

    def __init__(self, stream: str, directory: Path, directory_fd: int) -> None:
        self._stream = stream
        self._directory = directory.absolute()
        self.directory_fd = directory_fd
        self._files: dict[str, tuple[int, int]] = {}

    def hold(self, name: str, identity: tuple[int, int]) -> None:
        """Expect the file ``name`` to stay the one with this (device, inode)."""
        self._files[name] = identity

    def check(self) -> None:
        """Raise NotALogError naming what is no longer the file or the directory that this client holds."""
        with suppress(PermissionError):  # a process that gave rights up after it opened the log may not look
            if identity_at(self._directory) != identity_of(self.directory_fd):
                raise self.lost(self._directory)
        for name in self._files:
            self.check_file(name)

    def check_file(self, name: str) -> None:
        """Raise NotALogError where one of the files is no longer in its place."""
        with suppress(PermissionError):
            if identity_at(name, self.directory_fd) != self._files[name]:
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


def identity_at(name: Path | str, directory_fd: int | None = None) -> tuple[int, int] | None:
    """Return device and inode of what a name leads to, a link there not followed; None where there is nothing."""
    try:
        info = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return info.st_dev, info.st_ino
