"""Small file systems of one test's own, and filling them up."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import KIB

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
FILE_SYSTEMS = ("tmpfs", "ext4")


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(command[:1])} does not work here: {done.stderr.strip()}")


@contextmanager
def small_disk(kind: str, place: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a file system of this size at ``place``; ext4 lies in an image on a loop device."""
    place.mkdir(parents=True)
    if kind == "tmpfs":
        run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place))
    else:
        image = place.with_suffix(".image")
        with image.open("wb") as file:
            file.truncate(size_bytes)
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode", "-b", "4096", str(image))
        run("mount", "-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, leave_bytes: int) -> None:
    """Take all but ``leave_bytes`` of a small disk with one file, ``ballast``; called again it takes or gives the difference."""
    ballast = place / "ballast"
    with ballast.open("ab") as file:
        held = os.fstat(file.fileno()).st_size
        state = os.statvfs(place)
        wanted = held + state.f_bavail * state.f_frsize - leave_bytes
        file.truncate(max(min(wanted, held), 0))
        while wanted > held:
            try:
                os.posix_fallocate(file.fileno(), 0, wanted // (4 * KIB) * (4 * KIB))
                return
            except OSError:  # ext4 needs some of what it calls free for its own records
                wanted -= 4 * KIB


def room(place: Path) -> None:
    """Give back what ``fill`` took."""
    (place / "ballast").unlink()
