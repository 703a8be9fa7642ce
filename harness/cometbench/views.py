"""Ways to look at a measurement: per append call, per entry, per second, as a plain count, or as a percentile.

Invariant: a `time_per_append` value is one process's wall time per append call, so `processes` writers make
`processes * batch` entries in that time. A rate is always computed from the median time, never as a median
of rates: the two differ, and the report must not show a time and a rate that contradict each other.
"""

from __future__ import annotations

from cometbench import stats
from cometbench.histogram import Histogram
from cometbench.model import Measurement, Sample
from cometbench.registry import Per
from cometbench.stats import Estimate

NS_PER_SECOND = 1e9
PERCENTS: dict[str, float] = {"p50": 50, "p99": 99, "p99_9": 99.9}


class ViewError(ValueError):
    """The measurement's metric cannot be expressed as asked; the message names both."""


def samples_per(measurement: Measurement, per: Per) -> list[Sample]:
    """Return the samples as ns per append, ns per entry, or as stored ("count").

    Raises ViewError when the metric is not a time, and for "second" and percentiles, which have no samples of their own.
    """
    if per in PERCENTS:
        raise ViewError(f"{measurement.name}: a percentile is that of all rounds together, see estimate_per")
    if per == "count":
        return list(measurement.samples)
    _require_time(measurement, per)
    if per == "second":
        raise ViewError(f"{measurement.name}: a rate is computed from the median time, see estimate_per")
    divisor = measurement.batch if per == "entry" else 1
    return [
        sample.model_copy(update={"values": [value / divisor for value in sample.values]})
        for sample in measurement.samples
    ]


def estimate_per(measurement: Measurement, per: Per, seed: int) -> Estimate:
    """Return the headline with its interval as ns, entries per second of all writers, a count, or a percentile in ns.

    Raises ViewError when the metric is not a time or there are no histograms, ValueError without samples and for a
    percentile that rests on too few.
    """
    if per in PERCENTS:
        return stats.percentile_of_rounds(histograms_of(measurement), PERCENTS[per], seed)
    if per != "second":
        return stats.estimate(samples_per(measurement, per), seed)
    _require_time(measurement, per)
    time = stats.estimate(measurement.samples, seed)
    entries = measurement.processes * measurement.batch * NS_PER_SECOND
    return Estimate(entries / time.value, entries / time.high, entries / time.low, time.workers)


def histograms_of(measurement: Measurement) -> list[Histogram]:
    """Return one histogram a round. Raises ViewError where there are none."""
    if measurement.latency is None or not measurement.latency.histograms:
        raise ViewError(f"{measurement.name} holds no histograms, so it has no percentiles")
    return [Histogram.from_text(text) for text in measurement.latency.histograms]


def _require_time(measurement: Measurement, per: Per) -> None:
    if measurement.metric != "time_per_append":
        raise ViewError(f"{measurement.name} holds {measurement.metric}, which has no value per {per}")
