"""The metrics of a log, whatever system collects them: names, meanings, and the values of each stream."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cometlog.latency import LatencyHistogram
from cometlog.statistics import ShardStatistics


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a stream. ``name`` without prefix and without the suffixes of a system; ``counts`` only rises."""

    name: str
    description: str
    unit: str
    value: Callable[[ShardStatistics], float | None]
    counts: bool = True


def _seconds(field: str) -> Callable[[ShardStatistics], float]:
    return lambda found: float(getattr(found, field)) / 1e9


def _count(field: str) -> Callable[[ShardStatistics], float]:
    return lambda found: float(getattr(found, field))


METRICS = (
    Metric("appends", "Appends, whatever their size.", "", _count("frames")),
    Metric("entries", "Entries appended.", "", _count("entries")),
    Metric("stored_bytes", "Bytes appended, as stored.", "", _count("bytes")),
    Metric(
        "errors", "Appends that raised something other than their caller's mistake.", "", _count("errors")
    ),
    Metric("fenced", "Appends that others gave up on.", "", _count("fenced")),
    Metric("retries", "Claims at which another writer was faster.", "", _count("retries")),
    Metric("rotations", "Segments begun.", "", _count("rotations")),
    Metric("recoveries", "Recoveries run.", "", _count("recoveries")),
    Metric("repairs", "Words of dead writers that live ones repaired.", "", _count("repairs")),
    Metric("syncs", "Times that data was synced.", "", _count("syncs")),
    Metric("sync_seconds", "Time in the system calls that sync.", "s", _seconds("sync_time_ns")),
    Metric("sync_wait_seconds", "Time that callers took for syncs.", "s", _seconds("sync_wait_ns")),
    Metric("lock_wait_seconds", "Time that appends waited for a lock.", "s", _seconds("lock_wait_ns")),
    Metric("growth_wait_seconds", "Time that appends waited for room.", "s", _seconds("growth_wait_ns")),
    Metric("checkpoints", "Times that an index was brought up to date.", "", _count("checkpoints")),
    Metric("compressions", "Batches given to the compressor.", "", _count("compressions")),
    Metric("compression_input_bytes", "Bytes of these batches.", "", _count("compression_bytes_before")),
    Metric("compression_stored_bytes", "Bytes stored for them.", "", _count("compression_bytes_stored")),
    Metric("compression_seconds", "Time in the compressor.", "s", _seconds("compress_time_ns")),
    Metric("delivered", "Entries delivered to consumer groups, again included.", "", _count("delivered")),
    Metric("handler_errors", "Times that a consumer's handler raised.", "", _count("handler_errors")),
    Metric("handler_retries", "Times that a handler was called again.", "", _count("handler_retries")),
    Metric(
        "live_writers",
        "Processes that have the shard open to write.",
        "",
        _count("live_writers"),
        counts=False,
    ),
    Metric(
        "durable_entry", "Entry number below which all is durable.", "", _count("durable_entry"), counts=False
    ),
    Metric(
        "poisoned", "1 where a sync failed and appends are refused.", "", _count("poisoned"), counts=False
    ),
)

LATENCY_NAME = "append_latency"
LATENCY_DESCRIPTION = (
    "Latency of appends; every 64th is measured. writers: alone, or shared with others on the shard."
)


def latencies(statistics: ShardStatistics) -> Mapping[str, LatencyHistogram]:
    """Return the two histograms of a stream by the value of their label ``writers``."""
    return {"alone": statistics.latency, "shared": statistics.latency_shared}
