"""Statistics of a shard, read from its shared slots: any process sees what all have done."""

from dataclasses import dataclass
from pathlib import Path

from cometlog.control import Control
from cometlog.errors import CorruptionError
from cometlog.kernel import layout


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """Counters since the control file was made (a boot, or a deleted file, starts them anew), and the durable position.

    ``frames``, ``entries`` and ``bytes`` count appends of the mmap path; ``durable_entry`` is the entry number below which
    everything is on stable storage.
    """

    frames: int
    entries: int
    bytes: int
    fenced: int
    rotations: int
    repairs: int
    durable_entry: int
    write_path: str | None
    poisoned: bool


def read_statistics(directory: Path) -> ShardStatistics:
    """Return the statistics of the shard in ``directory``; zeros where nobody has written on this boot."""
    try:
        control = Control(directory / "control", writable=False)
    except (
        FileNotFoundError,
        CorruptionError,
    ):  # the latter is what a power loss leaves of a file that is never synced
        return ShardStatistics(0, 0, 0, 0, 0, 0, 0, None, False)
    try:
        return ShardStatistics(
            frames=control.sum_over_slots(layout.SLOT_FRAMES),
            entries=control.sum_over_slots(layout.SLOT_ENTRIES),
            bytes=control.sum_over_slots(layout.SLOT_BYTES),
            fenced=control.sum_over_slots(layout.SLOT_FENCED),
            rotations=control.sum_over_slots(layout.SLOT_ROTATIONS),
            repairs=control.sum_over_slots(layout.SLOT_REPAIRS),
            durable_entry=control.durable_entry,
            write_path=control.write_path,
            poisoned=control.poisoned,
        )
    finally:
        control.close()
