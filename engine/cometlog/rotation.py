"""Publishing a segment: the first of a shard, and the next after a sealed one (PROTOCOL E).

Thread safety: ``rotate`` may run in any number of processes at once for the same segment; every step is idempotent and one link
wins. Within a client the shard's lock serialises it.

Invariants: a segment is published complete, by link; numbers are never reused; ``base`` of the next segment follows from the
sealed tail, which is final.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from cometlog.control import boot_identity_of
from cometlog.errors import CorruptionError
from cometlog.files import create_exclusive
from cometlog.kernel import layout
from cometlog.kernel.mapping import Mapping
from cometlog.segment import BASE_MAX, NUMBER_MAX, Segment, SegmentHeader, SegmentName, byte_offset

FIRST_BYTES = 768 << 10
"""Of a new shard's first segment: with its other files an idle shard takes less than 1 MiB of disk."""
STEP_BYTES = 1 << 18


def capacity_for(segment_size_bytes: int) -> int:
    """Return the units for frames in a segment file of this length."""
    return (segment_size_bytes - layout.SEGMENT_HEADER_BYTES) // layout.UNIT_BYTES


def batch_bytes_max_for(segment_size_bytes: int) -> int:
    """Return the most bytes of a batch, offsets included, that a log with segments of this length takes."""
    return min(capacity_for(segment_size_bytes) * layout.UNIT_BYTES // 2, layout.MAX_BATCH_BYTES)


class PreparedFile:
    """A segment file under a temporary name: allocated, mapped, populated, not yet published.

    ``directory_fd``: the shard's directory, so that nothing is written elsewhere when the path leads elsewhere meanwhile.
    """

    def __init__(
        self, directory: Path, name: str, fd: int, mapping: Mapping, backed_bytes: int, device_and_inode: tuple[int, int],
        directory_fd: int,
    ) -> None:  # fmt: skip
        self.path = directory / name
        self._directory_fd = directory_fd
        self.fd = fd
        self.mapping = mapping
        self.backed_bytes = backed_bytes
        self.device_and_inode = device_and_inode

    @classmethod
    def make(
        cls, directory: Path, length: int, file_mode: int, *, populate: bool, directory_fd: int
    ) -> "PreparedFile":
        """Create the file here and now. Raises OSError, with nothing left behind, where the disk is full."""
        name = f"next.tmp.{os.getpid()}.{os.urandom(4).hex()}"
        fd = create_exclusive(directory / name, file_mode, directory_fd)
        backed = min(length, FIRST_BYTES)
        try:
            try:
                os.posix_fallocate(fd, 0, backed)
            except OSError:
                # On a disk that is nearly full, the least that the helper thread would begin with.
                os.ftruncate(fd, 0)
                backed = min(length, STEP_BYTES)
                os.posix_fallocate(fd, 0, backed)
            mapping = Mapping(fd, length, True)
            if populate:
                mapping.populate_write(0, backed)
            info = os.fstat(fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(name, dir_fd=directory_fd)
            os.close(fd)
            raise
        return cls(directory, name, fd, mapping, backed, (info.st_dev, info.st_ino), directory_fd)

    def publish(self, header: SegmentHeader, *, synced: bool = False) -> Segment | None:
        """Write the header and link the file to its final name; None if somebody else's is there already.

        ``synced``: the header is on disk before the name can be, where recovery has no segment before to fall back to. Raises
        OSError, with nothing left behind, where it cannot be synced or linked.
        """
        final = self.path.with_name(SegmentName(header.number, header.base).file_name)
        backed_units = (self.backed_bytes - layout.SEGMENT_HEADER_BYTES) // layout.UNIT_BYTES
        self.mapping.write(0, header.encode())
        # Nobody else maps this file yet: the link below orders header and `backed` for whoever opens the name.
        self.mapping.store_release(layout.SEGMENT_BACKED, backed_units)
        self.mapping.write(layout.SEGMENT_BOOT_IDENTITY, boot_identity_of(*self.device_and_inode))
        place = self._directory_fd
        try:
            if synced:
                os.fdatasync(self.fd)
            os.link(self.path.name, final.name, src_dir_fd=place, dst_dir_fd=place)
        except FileExistsError:
            self.discard()
            return None
        except OSError as error:
            self.discard()
            error.filename, error.filename2 = str(self.path), str(final)
            raise
        self._unlink()
        return Segment.adopt(final, self.fd, self.mapping, header)

    def _unlink(self) -> None:
        """Remove the temporary name. One that stays does no harm, and whoever holds the shard alone removes it."""
        with suppress(OSError):
            os.unlink(self.path.name, dir_fd=self._directory_fd)

    def discard(self) -> None:
        """Remove the file; whoever else prepares has the same right to."""
        self._unlink()
        self.mapping.close()
        os.close(self.fd)


def new_header(
    number: int, base: int, *, capacity_units: int, previous_uuid: bytes = bytes(16), epoch: int = 1
) -> SegmentHeader:
    """Return the header of a segment that is about to be published, with a new uuid."""
    return SegmentHeader(number, base, os.urandom(16), previous_uuid, epoch, capacity_units, time.time_ns())


def next_header(segment: Segment, capacity_units: int) -> SegmentHeader:
    """Return the header of the segment that follows a sealed one."""
    base = segment.base + (segment.tail() >> layout.TAIL_ENTRIES_SHIFT)
    if segment.number >= NUMBER_MAX or base > BASE_MAX:
        raise CorruptionError(
            f"no segment can follow: the next would be number {segment.number + 1} (at most {NUMBER_MAX}) "
            f"with base {base} (at most {BASE_MAX})",
            file=str(segment.path), offset=layout.SEGMENT_NUMBER,
        )  # fmt: skip
    return new_header(
        segment.number + 1, base,
        capacity_units=capacity_units, previous_uuid=segment.header.uuid, epoch=segment.header.epoch,
    )  # fmt: skip


def file_length_for(capacity_units: int) -> int:
    """Return the length in bytes of a fully backed segment file."""
    return byte_offset(capacity_units)
