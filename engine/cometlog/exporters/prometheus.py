"""Prometheus: a collector that reads the shared statistics at each scrape. Needs the extra ``cometlog[prometheus]``.

::

    prometheus_client.REGISTRY.register(cometlog.exporters.prometheus.Collector(client))

One process of those that use a log needs one: what it reads is what all have done. It keeps nothing between scrapes.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from cometlog.client import Client
from cometlog.errors import ExtraMissingError
from cometlog.exporters.metrics import LATENCY_DESCRIPTION, LATENCY_NAME, METRICS, latencies
from cometlog.kernel import layout
from cometlog.latency import LatencyHistogram, bucket_bounds_ns

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector as _Collector
except ImportError as error:
    raise ExtraMissingError(
        "cometlog.exporters.prometheus needs the package prometheus-client: pip install cometlog[prometheus]"
    ) from error

_LOW_BIT, _HIGH_BIT = 6, 34  # buckets from 64 ns to 17 s, one for each power of two


class Collector(_Collector):
    """Yields every metric of every stream of a client's log. ``client`` may be read-only; it stays the caller's to close."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def describe(self) -> list[Metric]:
        """Return nothing: registering a collector shall not read a log."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield counters, gauges and the latency histogram, by stream. Raises ClosedError once the client is closed."""
        found = self._client.stats()
        for metric in METRICS:
            kind = CounterMetricFamily if metric.counts else GaugeMetricFamily
            family = kind(f"cometlog_{metric.name}", metric.description, labels=["stream"])
            for stream, statistics in found.items():
                value = metric.value(statistics)
                if value is not None:
                    family.add_metric([stream], value)
            yield family
        histograms = HistogramMetricFamily(
            f"cometlog_{LATENCY_NAME}_seconds", LATENCY_DESCRIPTION, labels=["stream", "writers"]
        )
        for stream, statistics in found.items():
            for writers, histogram in latencies(statistics).items():
                histograms.add_metric([stream, writers], _buckets(histogram), histogram.sum_ns / 1e9)
        yield histograms


def _buckets(histogram: LatencyHistogram) -> Sequence[tuple[str, float]]:
    """Return (upper bound in s, samples up to it) for powers of two of a nanosecond, and for all."""
    at_or_below = list(accumulate(histogram.counts))
    ends = {bucket_bounds_ns(index)[1]: index for index in range(layout.LATENCY_BUCKETS)}
    bounds = (1 << bit for bit in range(_LOW_BIT, _HIGH_BIT + 1))
    return [(repr(bound / 1e9), at_or_below[ends[bound]]) for bound in bounds] + [("+Inf", at_or_below[-1])]
