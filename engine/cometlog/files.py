"""Opening and creating what a log consists of, and nothing else: no link, no pipe, no device, nothing of another user.

Every open of a file or directory below the root of a log goes through here (the kernel's two, for ``.idx`` and prepared files, follow
the same rules): O_CLOEXEC and O_NOFOLLOW always, O_NONBLOCK so that a pipe in the place of a file blocks nobody, then a look at what
was opened, on the descriptor.

Owners: a file or directory that is written to belongs to this user, unless this is root. One that is only read may also belong to the
owner of the directory that holds it: so a group may be given a log to read (``storage.file_mode``), and a stranger who may create
files in a shared directory can put none of his in. A directory may be root's, who could do as he likes anyway.

Modes are exact, whatever the umask: who configures 0640 gets 0640, and the defaults, 0600 and 0700, are what most umasks leave.
The root of a log is the caller's: it may be a link and belong to anybody. Directories below it that every user may write to
are refused for writing unless they are sticky or ``storage.directory_mode`` says so.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from cometlog.errors import NotALogError

_FILE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WRITING = os.O_WRONLY | os.O_RDWR
_EVERY_USER_WRITES = 0o002


def _is_foreign(owner: int, directory: Path, *, writing: bool) -> bool:
    if os.geteuid() in (0, owner):
        return False
    return writing or directory.stat().st_uid != owner


def _check_owner(path: Path, owner: int, *, writing: bool) -> None:
    if _is_foreign(owner, path.parent, writing=writing):
        raise NotALogError(f"{path} belongs to user {owner}, not to {os.geteuid()}")


def _open(path: Path, flags: int, mode: int, directory_fd: int | None) -> int:
    """Open by path, or by name in a directory that is open, so that no part of the path is walked again."""
    try:
        name = path if directory_fd is None else path.name
        return os.open(name, flags | _FILE_FLAGS, mode, dir_fd=directory_fd)
    except OSError as error:
        error.filename = str(path)
        raise


def open_checked(path: Path, flags: int, directory_fd: int | None = None) -> int:
    """Open a file of the log and return its descriptor; a link, another kind of file or another's file raises NotALogError.

    ``directory_fd``: the directory that holds it, so that no part of the path is walked again.
    """
    try:
        fd = _open(path, flags, 0, directory_fd)
    except OSError as error:
        if path.is_symlink():
            raise NotALogError(f"{path} is a symbolic link; a log follows none") from error
        if path.exists() and not path.is_file():
            raise NotALogError(f"{path} is not a regular file") from error
        raise
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise NotALogError(f"{path} is not a regular file")
        _check_owner(path, info.st_uid, writing=bool(flags & _WRITING))
    except BaseException:
        os.close(fd)
        raise
    return fd


def create_exclusive(path: Path, mode: int, directory_fd: int | None = None) -> int:
    """Create a file that nobody has yet, with exactly this mode, open for reading and writing; FileExistsError if it is there."""
    fd = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode, directory_fd)
    try:
        os.fchmod(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_or_create(path: Path, mode: int, directory_fd: int | None = None) -> int:
    """Open a file of the log for reading and writing, creating it where it is missing; as many as like may do so at once."""
    while True:
        with suppress(FileNotFoundError):
            return open_checked(path, os.O_RDWR, directory_fd)
        with suppress(FileExistsError):
            return create_exclusive(path, mode, directory_fd)


def open_directory(path: Path, *, follow: bool = False) -> int:
    """Open a directory to sync it or to open files in it; ``follow`` for the root of a log, which may be a link."""
    return os.open(path, _DIRECTORY_FLAGS | (0 if follow else os.O_NOFOLLOW))


def sync_directory(path: Path, *, follow: bool = False) -> None:
    """Make the names in a directory durable."""
    fd = open_directory(path, follow=follow)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_ancestors(directory: Path) -> None:
    """Make the names that lead to a directory durable, up to the root of its file system, whoever made them."""
    resolved = directory.resolve()
    device = resolved.stat().st_dev
    for ancestor in resolved.parents:
        if ancestor.stat().st_dev != device:
            return
        with suppress(PermissionError):  # one that may be passed but not listed
            sync_directory(ancestor)


def make_directory(path: Path, mode: int, *, parents: bool = False) -> bool:
    """Create a directory with exactly this mode; False where something of that name is there already.

    Missing ``parents`` get what the umask leaves of 0777, as from ``mkdir -p``.
    """
    try:
        path.mkdir(mode, parents=parents)
    except FileExistsError:
        return False
    fd = open_directory(path)
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)
    return True


def check_directory(path: Path, *, writing: bool, directory_mode: int = 0) -> bool:
    """Raise NotALogError unless a directory below the root is one, and one that may be believed; False where it is missing."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(info.st_mode):
        raise NotALogError(f"{path} is not a directory")
    if info.st_uid != 0:
        _check_owner(path, info.st_uid, writing=writing)
    shared = info.st_mode & _EVERY_USER_WRITES and not info.st_mode & stat.S_ISVTX
    if writing and shared and not directory_mode & _EVERY_USER_WRITES:
        raise NotALogError(
            f"{path} may be written to by every user (mode {stat.S_IMODE(info.st_mode):#o}); "
            f"take that right away, or set storage.directory_mode to it"
        )
    return True


def check_directories(root: Path, directory: Path) -> None:
    """Raise NotALogError where a directory between the root and a shard's, to be read, is a link, a file or a stranger's."""
    parts = directory.relative_to(root).parts
    for depth in range(1, len(parts) + 1):
        if not check_directory(root.joinpath(*parts[:depth]), writing=False):
            return
