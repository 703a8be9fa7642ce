"""The works that are profiled, by name, as plain data; what their values mean is in `work.py` and the engine's subject."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cometbench.benchmark import ConfigValue

MEMORY_DIRECTORY = Path("/dev/shm")
_GIB = 1 << 30
WRITE_PATHS = ("buffered", "mmap", "async", "sync")
BATCHES = (1, 10, 100, 1000, 10_000)


def append(write_path: str, batch: int, **more: ConfigValue) -> dict[str, ConfigValue]:
    """Return the work of appending batches on a write path, uncompressed unless `more` says otherwise."""
    workload = {1: "json_line", 10: "json_item"}.get(batch, "json_event")
    common: dict[str, ConfigValue] = {"kind": "append", "workload": workload, "threshold_bytes": _GIB}
    return {**common, "write_path": write_path, "batch": batch, **more}


def _orders(batch: int, threshold_bytes: int) -> dict[str, ConfigValue]:
    return append("buffered", batch, workload="json_order", threshold_bytes=threshold_bytes)


WORKS: Mapping[str, Mapping[str, ConfigValue]] = {
    **{f"batch{batch}_{path}": append(path, batch) for path in WRITE_PATHS for batch in BATCHES},
    "orders1_plain": _orders(1, _GIB),
    "orders1_compressed": _orders(1, 256),
    "orders100_plain": _orders(100, _GIB),
    "orders100_compressed": _orders(100, 256),
    "read_bytes": {"kind": "read", "form": "bytes", "batch": 1000},
    "read_views": {"kind": "read", "form": "views", "batch": 1000},
    "wait": {"kind": "wait"},
    "cold_map": {"kind": "cold_map"},
}


def with_entries(work: Mapping[str, ConfigValue], workload: str) -> Mapping[str, ConfigValue]:
    """Return the work on other entries, where it appends any; "" leaves it its own."""
    return {**work, "workload": workload} if workload and "workload" in work else work
