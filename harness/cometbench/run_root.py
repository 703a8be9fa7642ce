"""The run root: one directory under the bench directory that holds every log of a run and dies with it.

The manager owns it through a file lock, so that a root whose manager was killed is recognised and swept by
the next run, and a root in use by another run is left alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from cometbench.errors import UsageError

_PREFIX = "cometbench-run-"
_LOCK = "owner.lock"


class RunRoot:
    """Context manager: makes the root, sweeps stale ones before, removes its own afterwards."""

    def __init__(self, directory: Path) -> None:
        """`directory` is made where it is missing. Raises UsageError when it cannot be written."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            sweep(directory)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
        except OSError as error:
            raise UsageError(f"bench directory {directory} cannot be used: {error.strerror}") from error
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def fresh(self, name: str) -> Path:
        """Make a new empty directory for one worker."""
        path = self.path / name
        path.mkdir()
        return path

    def drop(self, path: Path) -> None:
        """Remove a worker's directory, and with it its dirty pages."""
        shutil.rmtree(path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep(directory: Path) -> list[Path]:
    """Remove run roots whose manager is gone; returns them."""
    swept = []
    for root in sorted(directory.glob(f"{_PREFIX}*")):
        try:
            lock = os.open(root / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(root, ignore_errors=True)
            swept.append(root)
        finally:
            os.close(lock)
    return swept
