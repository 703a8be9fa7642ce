"""A small ext4 file system on a loop device, made anew, mounted, and unmounted as often as it takes."""

import ctypes
import errno
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

IMAGE_BYTES = 64 << 20
BUSY_S_MAX = 10.0
LIBC = ctypes.CDLL(None, use_errno=True)
TOOLS = ("mkfs.ext4", "losetup")


def why_not() -> str | None:
    """Return why this machine cannot cut a file system, or None."""
    if os.geteuid() != 0:
        return "mounting and cutting a file system needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not found (Debian: e2fsprogs, util-linux)"
    if not Path("/dev/loop-control").exists():
        return "no /dev/loop-control: loop devices are not available here"
    return None


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


class LoopDevice:
    """One loop device on an image in memory where there is room, and the place where it is mounted."""

    def __init__(self, place: Path) -> None:
        shared_memory = Path("/dev/shm")
        directory = shared_memory if os.access(shared_memory, os.W_OK) else place
        self._directory = Path(tempfile.mkdtemp(prefix="cometlog-", dir=directory))
        self.mount_point = place / "mounted"
        self.mount_point.mkdir()
        self.mounted = False
        self.options = ""
        image = self._directory / "image"
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        found = subprocess.run(
            ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
        )
        self.device = found.stdout.strip()

    def facts(self) -> str:
        """What made the file system, and what its image lies on."""
        version = subprocess.run(["mkfs.ext4", "-V"], capture_output=True, text=True, check=True)
        return f"{version.stderr.splitlines()[0]}, image below {self._directory.parent}"

    def format(self) -> None:
        """Make an empty file system."""
        shape = [
            "-b",
            "4096",
            "-N",
            "1024",
            "-m",
            "0",
            "-J",
            "size=4",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
        ]
        command = ["mkfs.ext4", "-q", "-F", *shape, self.device]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def mount(self, options: str) -> None:
        """Mount, which replays the journal."""
        arguments = (self.device.encode(), str(self.mount_point).encode(), b"ext4", ctypes.c_ulong(0))
        _check(LIBC.mount(*arguments, options.encode()), f"mount {self.device} with {options!r}")
        self.mounted = True

    def unmount(self) -> None:
        """Unmount; with that the page cache of the file system is gone.

        The kernel takes an io_uring of a killed process apart in the background, and holds its files meanwhile.
        """
        until_s = time.monotonic() + BUSY_S_MAX
        while (result := LIBC.umount2(str(self.mount_point).encode(), 0)) != 0:
            if ctypes.get_errno() != errno.EBUSY or time.monotonic() > until_s:
                break
            time.sleep(0.005)
        _check(result, f"umount {self.mount_point}")
        self.mounted = False

    def close(self) -> None:
        """Give everything back."""
        if self.mounted:
            LIBC.umount2(str(self.mount_point).encode(), 2)
        subprocess.run(["losetup", "--detach", self.device], check=False)
        shutil.rmtree(self._directory)
