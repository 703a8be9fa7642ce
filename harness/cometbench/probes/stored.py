"""What a closed log takes: bytes of its frames by the segments' own tails, and blocks on disk."""

from __future__ import annotations

from pathlib import Path

from cometlog.kernel import layout
from cometlog.segment import Segment, tail_parts


def frame_bytes(log: Path) -> int:
    """Return the bytes of all frames, headers and padding included; what is backed ahead of the tail is not."""
    units = 0
    for path in log.rglob("*.seg"):
        segment = Segment(path, writable=False)
        units += tail_parts(segment.tail())[1]
        segment.close()
    return units * layout.UNIT_BYTES


def disk_bytes(log: Path) -> int:
    """Return the bytes of all blocks of all files."""
    return sum(path.stat().st_blocks * 512 for path in log.rglob("*") if path.is_file())
