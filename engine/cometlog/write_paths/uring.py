"""The uring write path: async with one system call less: an io_uring takes the write and, linked behind it, the fdatasync.

Durable means: a returned append survives the death of the process and power loss. The index follows in the background, as with async.
Each process has a ring of its own for each shard, empty between appends: a forked child attaches with a new one.
"""

import errno
import time
from contextlib import suppress
from pathlib import Path

from cometlog.errors import WritePathUnavailableError
from cometlog.kernel.frame_writer import FrameWriter
from cometlog.kernel.ring import Ring
from cometlog.segment import Segment
from cometlog.write_paths.async_checkpoint import AsyncPath

_REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)
_DISABLED = Path("/proc/sys/kernel/io_uring_disabled")


class UringPath(AsyncPath):
    """Holds lock byte 4 around one submission of write and sync, and the commit."""

    name = "uring"

    def _attach(self) -> None:
        self._ring = open_ring()
        super()._attach()

    def _new_frame_writer(self) -> FrameWriter:
        return FrameWriter(self._ring)

    def _put(self, items: list[bytes], data_bytes: int, encoded: tuple[bytes, int] | None) -> None:
        self._put_ns = time.monotonic_ns()
        super()._put(items, data_bytes, encoded)

    def _sync_frame(self, segment: Segment) -> int:
        """Hear how the sync behind the frame ended; its time has the write in it."""
        del segment
        self._ring.check_sync()
        return self._put_ns

    def close(self) -> None:
        """Leave the shard, and give the ring back once no append uses it."""
        super().close()
        self._ring.close()


def open_ring() -> Ring:
    """Return a new ring; raises WritePathUnavailableError where the kernel has no io_uring for this process."""
    try:
        return Ring()
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        disabled = "unknown"
        with suppress(OSError):
            disabled = _DISABLED.read_text().strip()
        raise WritePathUnavailableError(
            f"write_path='uring' needs io_uring, which the kernel refuses: {error.strerror} (kernel.io_uring_disabled is {disabled}; "
            f"seccomp filters of containers refuse it too); allow it, or open with write_path='async', which promises the same"
        ) from error
