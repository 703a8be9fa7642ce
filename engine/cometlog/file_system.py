"""Which file systems a log may be written on."""

import os
from pathlib import Path

from cometlog.errors import NotALogError

# Names in /proc/self/mountinfo of systems whose locks or shared maps do not reach every writer.
NETWORK_FILE_SYSTEMS = frozenset(
    [
        "9p",
        "afs",
        "ceph",
        "cifs",
        "coda",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    ]
)


def file_system_of(path: Path) -> str:
    """Return the type of the file system that holds ``path``, such as "ext4", or "unknown"."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if left.split()[2] == wanted:
            return right.split()[0]
    return "unknown"


def check_file_system(path: Path, *, allow_network: bool) -> None:
    """Raise NotALogError for a directory on a network file system, unless the configuration allows it."""
    kind = file_system_of(path)
    if kind in NETWORK_FILE_SYSTEMS and not allow_network:
        raise NotALogError(
            f"{path} is on {kind}: locks and shared memory do not work between its hosts; use a local disk, or set "
            f"storage.allow_network_file_system for one host alone"
        )
