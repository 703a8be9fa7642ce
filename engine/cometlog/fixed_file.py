"""Files of a fixed size that appear complete: made under a temporary name, allocated, and linked to their own."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cometlog.files import create_exclusive


def create_fixed_file(
    path: Path, head: bytes, size_bytes: int, file_mode: int, *,
    durable: bool = False, complete: Callable[[int], None] | None = None,
) -> None:  # fmt: skip
    """Put a file of zeros behind ``head`` in place; harmless if another process did. Raises OSError with nothing left behind.

    ``complete(fd)`` writes what depends on the file itself. ``durable``: its bytes are on stable storage before its name appears; the
    directory is the caller's to sync.
    """
    while not os.path.lexists(path):
        temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}.{os.urandom(4).hex()}")
        fd = create_exclusive(temporary, file_mode)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
            os.pwrite(fd, head, 0)
            if complete is not None:
                complete(fd)
            if durable:
                os.fsync(fd)
            # Whoever holds the shard alone may take a temporary file for a left-over: then once more.
            with suppress(FileExistsError, FileNotFoundError):
                os.link(temporary, path)
        finally:
            with suppress(OSError):  # whoever holds the shard alone removes what stays
                temporary.unlink()
            os.close(fd)
