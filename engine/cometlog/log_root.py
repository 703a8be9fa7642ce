"""The root of a log: the directory, and the ``FORMAT`` file in it that says of which format everything below is.

Invariant: where the marker is in place, the names that lead to the log are durable; who made those may have been killed before it
could sync them.
"""

import os
from contextlib import suppress
from pathlib import Path

from cometlog.config import StorageConfig
from cometlog.errors import NewerFormatError, NotALogError
from cometlog.file_system import check_file_system
from cometlog.files import create_exclusive, make_directory, open_checked, sync_ancestors, sync_directory
from cometlog.kernel import layout

FORMAT_FILE = "FORMAT"
_MARKER_BYTES_MAX = 100


def prepare_root(root: Path, storage: StorageConfig, *, read_only: bool) -> None:
    """Make the directory of a log where it is missing and may be written, and check the format that it says.

    Raises NotALogError, NewerFormatError, OSError.
    """
    marker = root / FORMAT_FILE
    if not read_only:
        make_directory(root, storage.directory_mode, parents=True)
    if not root.is_dir():
        raise NotALogError(f"{root} is not a directory")
    line = f"cometlog {layout.FORMAT_VERSION}\n"
    try:
        with os.fdopen(open_checked(marker, os.O_RDONLY), "rb") as file:
            text = file.read(_MARKER_BYTES_MAX).decode("ascii", "replace")
    except FileNotFoundError:
        if read_only:
            raise NotALogError(f"{root} holds no log: {marker} is missing") from None
        check_file_system(root, allow_network=storage.allow_network_file_system)
        _write_marker(marker, line, storage.file_mode)
        _remove_left_overs(root)
        return
    word, _, version = text.strip().partition(" ")
    if word != "cometlog" or not version.isdecimal():
        raise NotALogError(f"{marker} says {text[:40]!r}, not {line!r}")
    if int(version) > layout.FORMAT_VERSION:
        raise NewerFormatError(
            f"{marker} says format {version}; this engine reads up to {layout.FORMAT_VERSION}"
        )
    if not read_only:
        _remove_left_overs(root)


def _remove_left_overs(root: Path) -> None:
    """Remove what processes left that were killed before their marker was in place, now that there is one."""
    with suppress(OSError):
        for left_over in root.glob(f"{FORMAT_FILE}.tmp.*"):
            left_over.unlink(missing_ok=True)


def _write_marker(marker: Path, line: str, file_mode: int) -> None:
    """Put the marker in place, durable before anything that a sync promises to keep lies beside it."""
    temporary = marker.with_name(f"{FORMAT_FILE}.tmp.{os.getpid()}.{os.urandom(4).hex()}")
    fd = create_exclusive(temporary, file_mode)
    try:
        with os.fdopen(fd, "wb") as file:  # text would import a codec, which takes a descriptor of its own
            file.write(line.encode())
            file.flush()
            os.fsync(fd)
        sync_ancestors(marker.parent)
        try:
            temporary.rename(marker)
        except FileNotFoundError:
            if not marker.exists():  # else another process put it in place, and took this one for a left-over
                raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(marker.parent, follow=True)
