"""Other file systems than the one under test: memory, and images mounted for the life of one probe's process.

Mounts are made in a mount namespace of the process, so nothing of them outlives it, even where it is killed. Where the machine does
not allow it, CannotMeasureError says what is missing.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cometbench.errors import CannotMeasureError

_CLONE_NEWNS = 0x00020000
_SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def memory_directory() -> Iterator[Path]:
    """Make a directory on tmpfs, and remove it afterwards."""
    if not (_SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK) and _is_tmpfs(_SHARED_MEMORY)):
        raise CannotMeasureError(f"{_SHARED_MEMORY} is not a tmpfs that can be written; mount one there")
    with tempfile.TemporaryDirectory(prefix="cometbench-", dir=_SHARED_MEMORY) as directory:
        yield Path(directory)


def _is_tmpfs(directory: Path) -> bool:
    lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return any(fields[1] == str(directory) and fields[2] == "tmpfs" for fields in lines)


def enter_mount_namespace() -> None:
    """From here on, mounts of this process are its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise CannotMeasureError(f"mounting needs root (CAP_SYS_ADMIN): unshare says {reason}")
    _run("mount", "--make-rprivate", "/")


def mount_tmpfs(directory: Path, options: str) -> None:
    """Mount a tmpfs on a directory of this process's own mount namespace."""
    _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory))


def make_image(file: Path, size_bytes: int) -> None:
    """Make a file that holds an empty ext4."""
    with file.open("wb") as image:
        image.truncate(size_bytes)
    _run("mkfs.ext4", "-q", "-F", str(file))


def mount_image(file: Path, directory: Path, options: str) -> None:
    """Mount a file system image by a loop device on a directory of this process's own mount namespace."""
    _run("mount", "-o", f"loop,{options}", str(file), str(directory))


def unmount(directory: Path) -> None:
    """Take a mount away again."""
    _run("umount", str(directory))


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise CannotMeasureError(f"{command[0]} cannot be used: {error}") from error
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise CannotMeasureError(f"{' '.join(command[:4])} is refused here: {said}")
