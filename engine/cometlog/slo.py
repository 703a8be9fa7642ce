"""The guide's service level objectives, judged by what the log itself has counted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cometlog.errors import CorruptionError
from cometlog.group_offsets import GroupOffsets
from cometlog.latency import SAMPLING, LatencyHistogram
from cometlog.statistics import ShardStatistics, read_statistics

Verdict = Literal["good", "acceptable", "investigate", "unknown"]

MEDIAN_SAMPLES_MIN = 100
P99_SAMPLES_MIN = 1000
APPENDS_MIN = 10_000
"""Appends without an error that it takes to tell 0.01 % from more."""


@dataclass(frozen=True, slots=True)
class SloRow:
    """One objective: ``value`` in ``unit`` (None: unknown), judged by its limits.

    Where ``good`` is below ``acceptable``, a value below ``good`` is good, and one below ``acceptable`` acceptable; where it is
    above, as for the compression ratio, values above them are. Anything else is to be investigated. ``reason`` says what the value
    was taken from, or why there is none.
    """

    id: str
    metric: str
    value: float | None
    unit: str
    good: float
    acceptable: float
    verdict: Verdict
    reason: str


def judge(value: float, good: float, acceptable: float) -> Verdict:
    """Return the verdict on a value; a limit itself is outside, as in the guide."""
    sign = 1 if good < acceptable else -1
    if sign * value < sign * good:
        return "good"
    return "acceptable" if sign * value < sign * acceptable else "investigate"


def objectives(shards: Mapping[str, Path], next_entry: Callable[[str], int]) -> list[SloRow]:
    """Return the seven rows for some shards (stream to directory); ``next_entry`` says where a stream ends."""
    statistics = [read_statistics(directory) for directory in shards.values()]
    alone = sum((found.latency for found in statistics), LatencyHistogram())
    shared = sum((found.latency_shared for found in statistics), LatencyHistogram())
    return [
        _latency("S1", "write p50", alone, 50, (5, 10), "while one writer appended to its shard"),
        _latency("S2", "write p99", alone, 99, (50, 100), "while one writer appended to its shard"),
        _latency(
            "S3", "multi-process p50", shared, 50, (50, 100), "while several writers appended to a shard"
        ),
        _latency(
            "S4", "multi-process p99", shared, 99, (200, 500), "while several writers appended to a shard"
        ),
        _compression(statistics),
        _lag(shards, next_entry),
        _errors(statistics),
    ]


def _row(
    identity: str, metric: str, value: float, unit: str, limits: tuple[float, float], reason: str
) -> SloRow:
    return SloRow(identity, metric, value, unit, *limits, judge(value, *limits), reason)


def _unknown(identity: str, metric: str, unit: str, limits: tuple[float, float], reason: str) -> SloRow:
    return SloRow(identity, metric, None, unit, *limits, "unknown", reason)


def _latency(
    identity: str,
    metric: str,
    histogram: LatencyHistogram,
    percent: int,
    limits: tuple[float, float],
    when: str,
) -> SloRow:
    count, needed = histogram.sample_count, MEDIAN_SAMPLES_MIN if percent == 50 else P99_SAMPLES_MIN
    value_ns = histogram.percentile_ns(percent)
    if value_ns is None or count < needed:
        return _unknown(
            identity, metric, "us", limits,
            f"{count} samples {when}, {needed} are needed; every {SAMPLING}th append is measured",
        )  # fmt: skip
    return _row(
        identity, metric, value_ns / 1000, "us", limits, f"{count} samples {when}, every {SAMPLING}th append"
    )


def _compression(statistics: list[ShardStatistics]) -> SloRow:
    before = sum(found.compression_bytes_before for found in statistics)
    stored = sum(found.compression_bytes_stored for found in statistics)
    limits = (10.0, 5.0)
    if not stored:
        return _unknown(
            "S5",
            "compression ratio",
            ":1",
            limits,
            "no batch reached compression.threshold_bytes, so none was compressed",
        )
    reason = f"{before} bytes were given to the compressor and stored as {stored}"
    return _row("S5", "compression ratio", before / stored, ":1", limits, reason)


def _lag(shards: Mapping[str, Path], next_entry: Callable[[str], int]) -> SloRow:
    limits = (1000.0, 10_000.0)
    lags: list[tuple[int, str, str]] = []
    damaged = []
    for stream, directory in shards.items():
        try:
            offsets = GroupOffsets(directory, stream)
        except FileNotFoundError:
            continue
        except CorruptionError as error:
            damaged.append(str(error))
            continue
        try:
            lags += [
                (max(0, next_entry(stream) - line.position), line.name, stream)
                for line in offsets.lines() if line.position is not None
            ]  # fmt: skip
        except CorruptionError as error:
            damaged.append(str(error))
        finally:
            offsets.close()
    if not lags:
        reason = damaged[0] if damaged else "there is no consumer group"
        return _unknown("S6", "consumer lag", "entries", limits, reason)
    worst, group, stream = max(lags)
    return _row(
        "S6",
        "consumer lag",
        worst,
        "entries",
        limits,
        f"the largest of {len(lags)}: group {group!r} on {stream}",
    )


def _errors(statistics: list[ShardStatistics]) -> SloRow:
    errors, appends = sum(found.errors for found in statistics), sum(found.frames for found in statistics)
    limits = (0.01, 0.1)
    reason = f"{errors} errors, {appends} appends"
    if errors == 0 and appends < APPENDS_MIN:
        return _unknown(
            "S7", "error rate", "%", limits, f"{reason}; {APPENDS_MIN} are needed to tell {limits[0]} %"
        )
    return _row("S7", "error rate", 100 * errors / (errors + appends), "%", limits, reason)
