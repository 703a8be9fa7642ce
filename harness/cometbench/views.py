"""Ways to look at a measurement's samples: per append call, per entry, per second, or as a plain count.

Invariant: a `time_per_append` value is one process's wall time per append call, so `processes` writers
together make `processes * batch` entries in that time.
"""

from __future__ import annotations

from cometbench.model import Measurement, Sample
from cometbench.registry import Per

NS_PER_SECOND = 1e9


class ViewError(ValueError):
    """The measurement's metric cannot be expressed as asked; the message names both."""


def samples_per(measurement: Measurement, per: Per) -> list[Sample]:
    """Return the samples as ns per append, ns per entry, entries per second (all writers), or as stored.

    Raises ViewError when the metric is not a time.
    """
    if per == "count":
        return list(measurement.samples)
    if measurement.metric != "time_per_append":
        raise ViewError(f"{measurement.name} holds {measurement.metric}, which has no value per {per}")
    return [
        sample.model_copy(update={"values": [_convert(measurement, per, v) for v in sample.values]})
        for sample in measurement.samples
    ]


def _convert(measurement: Measurement, per: Per, value_ns: float) -> float:
    if per == "entry":
        return value_ns / measurement.batch
    if per == "second":
        return measurement.processes * measurement.batch * NS_PER_SECOND / value_ns
    return value_ns
