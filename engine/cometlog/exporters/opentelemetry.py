"""OpenTelemetry: observable instruments that read the shared statistics at each collection. Needs the extra ``cometlog[otel]``.

::

    cometlog.exporters.opentelemetry.observe(client)

One process of those that use a log needs them: what they read is what all have done. OpenTelemetry has no observable histogram, so
latencies are gauges of percentiles, with the count of samples they are taken from.
"""

import time
from collections.abc import Callable, Iterable
from threading import Lock

from cometlog.client import Client
from cometlog.errors import ClosedError, ExtraMissingError
from cometlog.exporters.metrics import LATENCY_DESCRIPTION, LATENCY_NAME, METRICS, Metric, latencies
from cometlog.statistics import ShardStatistics

try:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter
except ImportError as error:
    raise ExtraMissingError(
        "cometlog.exporters.opentelemetry needs the package opentelemetry-api: pip install cometlog[otel]"
    ) from error

PERCENTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
_SAME_COLLECTION_S = 0.05


class _Snapshot:
    """The statistics of one collection, which asks each instrument by itself; nothing once the client is closed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = Lock()
        self._taken_s = float("-inf")
        self._found: dict[str, ShardStatistics] = {}

    def read(self) -> dict[str, ShardStatistics]:
        with self._lock:
            if time.monotonic() - self._taken_s > _SAME_COLLECTION_S:
                try:
                    self._found = self._client.stats()
                except ClosedError:
                    self._found = {}
                self._taken_s = time.monotonic()
            return self._found


def observe(client: Client, meter: Meter | None = None) -> None:
    """Register every metric of every stream of a client's log with a meter, or with the global one of the name "cometlog".

    ``client`` may be read-only; it stays the caller's to close, after which the instruments observe nothing.
    """
    meter = get_meter("cometlog") if meter is None else meter
    snapshot = _Snapshot(client)
    for metric in METRICS:
        create = meter.create_observable_counter if metric.counts else meter.create_observable_gauge
        create(
            f"cometlog.{metric.name}",
            [_values_of(metric, snapshot)],
            unit=metric.unit,
            description=metric.description,
        )
    meter.create_observable_gauge(
        f"cometlog.{LATENCY_NAME}", [_percentiles_of(snapshot)], unit="s", description=LATENCY_DESCRIPTION
    )
    meter.create_observable_counter(
        f"cometlog.{LATENCY_NAME}.samples", [_samples_of(snapshot)], description="Appends that were measured."
    )


_Callback = Callable[[CallbackOptions], Iterable[Observation]]


def _values_of(metric: Metric, snapshot: _Snapshot) -> _Callback:
    def values(_options: CallbackOptions) -> Iterable[Observation]:
        for stream, statistics in snapshot.read().items():
            value = metric.value(statistics)
            if value is not None:
                yield Observation(value, {"stream": stream})

    return values


def _percentiles_of(snapshot: _Snapshot) -> _Callback:
    def percentiles(_options: CallbackOptions) -> Iterable[Observation]:
        for stream, statistics in snapshot.read().items():
            for writers, histogram in latencies(statistics).items():
                for name, percent in PERCENTILES.items():
                    value_ns = histogram.percentile_ns(percent)
                    if value_ns is not None:
                        yield Observation(
                            value_ns / 1e9, {"stream": stream, "writers": writers, "percentile": name}
                        )

    return percentiles


def _samples_of(snapshot: _Snapshot) -> _Callback:
    def samples(_options: CallbackOptions) -> Iterable[Observation]:
        for stream, statistics in snapshot.read().items():
            for writers, histogram in latencies(statistics).items():
                yield Observation(histogram.sample_count, {"stream": stream, "writers": writers})

    return samples
