"""The stretch of a mapped segment that is known to be readable: bad disks and short files end in an error, never in a signal.

Thread safety: belongs to the one walk or reader that owns it. Invariant: no byte is touched that the file's length did not cover when
its stretch was faulted in by a call that fails with an error.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress

from cometlog.errors import CorruptionError
from cometlog.kernel import layout
from cometlog.kernel.scan import STOP_WINDOW, Walk
from cometlog.segment import Segment, byte_offset

_EHWPOISON = 133  # Python has no name for it
UNREADABLE = frozenset([errno.EFAULT, errno.EIO, _EHWPOISON])
"""What the kernel says of bytes that the file or the disk does not give; anything else is a want of something and may pass."""
WINDOW_UNITS = (1 << 18) // layout.UNIT_BYTES
"""Units that are faulted in at a time: 256 KiB."""


class Window:
    """Faults a segment in, piece by piece, as walks go on."""

    def __init__(self, segment: Segment, stream: str | None) -> None:
        self._segment = segment
        self._stream = stream
        self._readable = (0, 0)

    def drive(self, walk: Walk, units: int, step: Callable[[int], int], covered_units: int = 0) -> int:
        """Call ``step`` with the units readable so far, fault in what it needs, until it stops otherwise or needs more than ``units``.

        The caller has seen that the file covers ``units``, and ``covered_units`` where that is more: what lies between is faulted in
        ahead of its use where that goes well. Raises CorruptionError naming the place that cannot be read.
        """
        start, stop = self._readable
        readable = stop if start <= walk.unit < stop else walk.unit
        while True:
            reason = step(min(readable, units))
            if reason != STOP_WINDOW or walk.needed_units > units:
                return reason
            wanted = max(walk.needed_units, walk.unit + WINDOW_UNITS)
            readable = self._make_readable(walk.unit, min(units, wanted))
            if readable < min(covered_units, wanted):
                with suppress(OSError):
                    readable = self._populate(walk.unit, readable, min(covered_units, wanted))

    def readable_from(self, unit: int) -> int:
        """Return up to which unit memory is faulted in without a gap from ``unit`` on."""
        start, stop = self._readable
        return stop if start <= unit < stop else unit

    def ensure(self, unit: int) -> None:
        """Have the word at a unit faulted in, which lies in the file."""
        start, stop = self._readable
        if not start <= unit < stop:
            self._make_readable(unit, unit + 1)

    def _make_readable(self, start: int, stop: int) -> int:
        try:
            return self._populate(start, start, stop)
        except OSError as error:
            if error.errno not in UNREADABLE:
                raise
            if self._is_hole_of_a_full_disk(start, stop):
                raise OSError(
                    errno.ENOSPC, "no room to map zeros that were never allocated", str(self._segment.path)
                ) from error
            raise CorruptionError(
                f"units {start} to {stop} cannot be read: {error.strerror}",
                file=str(self._segment.path), offset=byte_offset(start), stream=self._stream,
            ) from error  # fmt: skip

    def _populate(self, start: int, present: int, stop: int) -> int:
        """Fault in the units from ``present`` to ``stop``, where those from ``start`` on are there; return ``stop``."""
        self._segment.mapping.populate_read(byte_offset(present), (stop - present) * layout.UNIT_BYTES)
        known_start, known_stop = self._readable
        self._readable = (known_start, stop) if known_start <= start <= known_stop else (start, stop)
        return stop

    def _is_hole_of_a_full_disk(self, start: int, stop: int) -> bool:
        """Return whether the bytes can be read by a call: then only the map lacks a page for them (tmpfs)."""
        length = (stop - start) * layout.UNIT_BYTES
        try:
            return len(os.pread(self._segment.fd, length, byte_offset(start))) == length
        except OSError:
            return False
