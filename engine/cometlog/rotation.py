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

from cometlog.errors import CorruptionError
from cometlog.kernel import layout
from cometlog.kernel.mapping import Mapping
from cometlog.segment import BASE_MAX, NUMBER_MAX, Segment, SegmentHeader, SegmentName, byte_offset

FIRST_BYTES = 1 << 20
STEP_BYTES = 1 << 18


def capacity_for(segment_size_bytes: int) -> int:
    """Return the units for frames in a segment file of this length."""
    return (segment_size_bytes - layout.SEGMENT_HEADER_BYTES) // layout.UNIT_BYTES


def batch_bytes_max_for(segment_size_bytes: int) -> int:
    """Return the most bytes of a batch, offsets included, that a log with segments of this length takes."""
    return min(capacity_for(segment_size_bytes) * layout.UNIT_BYTES // 2, layout.MAX_BATCH_BYTES)


class PreparedFile:
    """A segment file under a temporary name: allocated, mapped, populated, not yet published."""

    def __init__(self, directory: Path, name: str, fd: int, mapping: Mapping, backed_bytes: int) -> None:
        self.path = directory / name
        self.fd = fd
        self.mapping = mapping
        self.backed_bytes = backed_bytes

    @classmethod
    def make(cls, directory: Path, length: int, file_mode: int, *, populate: bool) -> "PreparedFile":
        """Create the file here and now. Raises OSError, with nothing left behind, where the disk is full."""
        name = f"next.tmp.{os.getpid()}.{os.urandom(4).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(directory / name, flags, file_mode)
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
        except BaseException:
            os.close(fd)
            (directory / name).unlink()
            raise
        return cls(directory, name, fd, mapping, backed)

    def publish(self, header: SegmentHeader) -> Segment | None:
        """Write the header and link the file to its final name; None if somebody else's is there already."""
        final = self.path.with_name(SegmentName(header.number, header.base).file_name)
        backed_units = (self.backed_bytes - layout.SEGMENT_HEADER_BYTES) // layout.UNIT_BYTES
        self.mapping.write(0, header.encode())
        self.mapping.store_release(layout.SEGMENT_BACKED, backed_units)
        try:
            os.link(self.path, final)
        except FileExistsError:
            return None
        self.path.unlink()
        return Segment.adopt(final, self.fd, self.mapping, header)

    def discard(self) -> None:
        """Remove the file; whoever else prepares has the same right to."""
        self.mapping.close()
        os.close(self.fd)
        with suppress(FileNotFoundError):
            self.path.unlink()


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


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
