"""What the machine itself charges for the least that an append must do, from the floors of the same run.

A path that writes files pays at least one `write` of its bytes (and the sync, where it syncs); a mapped path
at least one compare-and-swap and a copy of its bytes at the speed of the hot cache.
"""

from __future__ import annotations

from typing import NamedTuple

from cometbench.model import Measurement, Run
from cometbench.stats import median_of_worker_medians

MIB = 1 << 20
SYNCED_SUBJECTS = frozenset({"sync", "async", "mmap_sync", "uring"})
WRITE_SUBJECTS = frozenset({"buffered", "os_write"})
MAPPED_SUBJECTS = frozenset({"mmap", "c_loop"})


class FloorCost(NamedTuple):
    """The least cost of one append call and the floors it is made of."""

    text: str
    cost_ns: float


def floor_of(run: Run, measurement: Measurement) -> FloorCost | None:
    """Return the least cost of one append of `measurement`, or None when the run lacks a floor for it."""
    size = _bytes_per_append(measurement)
    if measurement.metric != "time_per_append" or size is None:
        return None
    if measurement.subject in SYNCED_SUBJECTS:
        return _sum(run, ["floor.fdatasync_128"], 0.0)
    if measurement.subject in WRITE_SUBJECTS:
        return _largest_write(run, size)
    if measurement.subject in MAPPED_SUBJECTS:
        return _sum(run, ["floor.cas"], size)
    return None


def floor_value(run: Run, name: str) -> float | None:
    """Median of a floor in its own unit, or None when it was not measured."""
    floor = run.find(name)
    return median_of_worker_medians(floor.samples) if floor is not None and floor.samples else None


def _bytes_per_append(measurement: Measurement) -> float | None:
    mean = measurement.extra.get("entry_bytes_mean")
    return float(mean) * measurement.batch if mean is not None else None


def _sum(run: Run, names: list[str], copied_bytes: float) -> FloorCost | None:
    total, parts = 0.0, list(names)
    for name in names:
        value = floor_value(run, name)
        if value is None:
            return None
        total += value
    if copied_bytes:
        bandwidth = floor_value(run, "floor.memcpy_hot")
        if bandwidth is None:
            return None
        total += copied_bytes / bandwidth * 1e9
        parts.append(f"{copied_bytes:,.0f} B at floor.memcpy_hot")
    return FloorCost(" + ".join(parts), total)


def _largest_write(run: Run, size: float) -> FloorCost | None:
    small, large = floor_value(run, "floor.write_128"), floor_value(run, "floor.write_1mib")
    if small is None or large is None:
        return None
    scaled = large * size / MIB
    if scaled > small:
        return FloorCost(f"{size:,.0f} B at floor.write_1mib", scaled)
    return FloorCost("floor.write_128", small)
