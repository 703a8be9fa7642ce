"""Who a log is to the systems it is forwarded to: a random number in the file ``.identity`` of its root, made by its first forwarder.

Streams of many logs may go to one cluster under the same names; the identity keeps their idempotency keys, positions and transactions
apart. Format: FORMAT.md, "Files". A copy of a log has the identity of the original: remove the file from a copy that forwards too.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from cometlog.errors import NotALogError
from cometlog.files import create_exclusive, open_checked, sync_directory

IDENTITY_FILE = ".identity"
_BYTES = 6
_LINE_BYTES = 2 * _BYTES + 1


def log_identity(root: Path, file_mode: int) -> str:
    """Return the identity, 12 hexadecimal digits, making it where there is none. Raises NotALogError for a file that holds none."""
    path = root / IDENTITY_FILE
    if not os.path.lexists(path):
        _make(path, file_mode)
    with os.fdopen(open_checked(path, os.O_RDONLY), "rb") as file:
        line = file.read(_LINE_BYTES + 1).decode("ascii", "replace")
    if not re.fullmatch(r"[0-9a-f]{12}\n", line):
        raise NotALogError(
            f"{path} says {line[:20]!r}, not 12 hexadecimal digits; remove it to have a new one made"
        )
    return line.strip()


def _make(path: Path, file_mode: int) -> None:
    """Put the file in place, complete and durable; harmless if another process did."""
    temporary = path.with_name(f"{IDENTITY_FILE}.tmp.{os.getpid()}.{os.urandom(4).hex()}")
    fd = create_exclusive(temporary, file_mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(f"{os.urandom(_BYTES).hex()}\n".encode())
            file.flush()
            os.fsync(fd)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent, follow=True)
