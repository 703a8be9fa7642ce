"""The table of open-loop latency: a row for each subject and load, percentiles of all rounds together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cometbench.histogram import Histogram
from cometbench.model import Measurement
from cometbench.stats import median_of_worker_medians
from cometbench.tables import Table
from cometbench.units import DASH, format_count, format_ns
from cometbench.views import histograms_of

PERCENTILES = (50, 90, 99, 99.9)
_IDLE = "idle_response"


class Load(NamedTuple):
    """One probe's histograms at one load, in percent of its capacity; the stall meter has no service time."""

    percent: int | None
    response: Histogram
    service: Histogram | None


class Loaded(NamedTuple):
    """A subject under open-loop load: what its probe measured."""

    probe: str
    capacity_per_s: float
    timer_overhead_ns: float
    loads: tuple[Load, ...]


def loaded(measurements: Sequence[Measurement]) -> list[Loaded]:
    """Return every probe under open-loop load that has values, in order."""
    by_name = {one.name: one for one in measurements if one.failure is None}
    found = []
    for name, capacity in by_name.items():
        probe, _, value = name.rpartition(".")
        idle = by_name.get(f"{probe}.{_IDLE}")
        if value != "capacity" or idle is None:
            continue
        loads = [Load(None, _merged(idle), None)]
        for other, response in by_name.items():
            if other.startswith(f"{probe}.load") and other.endswith("_response"):
                percent = int(other.removeprefix(f"{probe}.load").removesuffix("_response"))
                service = by_name[f"{probe}.load{percent}_service"]
                loads.append(Load(percent, _merged(response), _merged(service)))
        overhead = float(capacity.extra.get("timer_overhead_ns", 0.0))
        found.append(Loaded(probe, median_of_worker_medians(capacity.samples), overhead, tuple(loads)))
    return found


def table_latency(measurements: Sequence[Measurement]) -> Table:
    """Response and service percentiles by subject and load, the stall meter's first."""
    rows = []
    probes = loaded(measurements)
    for one in probes:
        for load in one.loads:
            offered = one.capacity_per_s * (load.percent if load.percent is not None else 50) / 100
            rows.append(
                [
                    one.probe.partition(".")[2],
                    "stall meter" if load.percent is None else f"{load.percent} %",
                    f"{format_count(offered)}/s",
                    *(_shown(load.response, percent) for percent in PERCENTILES),
                    *(
                        DASH if load.service is None else _shown(load.service, percent)
                        for percent in PERCENTILES
                    ),
                    f"{load.response.count:,}",
                ]
            )
    overheads = sorted(one.timer_overhead_ns for one in probes)
    note = (
        "Response: from when an append was due to its end; service: from its start. Loads in percent of the capacity; "
        "the stall meter does nothing at the pace of half of it. A dash: fewer than 100 samples lie beyond."
    )
    if overheads:
        note += f" Two clock readings and an empty call take {overheads[0]:.0f} to {overheads[-1]:.0f} ns of each."
    heads = [f"{kind} p{percent:g}" for kind in ("response", "service") for percent in PERCENTILES]
    columns = ["subject", "load", "offered", *heads, "n"]
    return Table("latency", "Latency of single appends under open-loop load", columns, rows, note)


def _merged(measurement: Measurement) -> Histogram:
    return Histogram.merged(histograms_of(measurement))


def _shown(histogram: Histogram, percent: float) -> str:
    value = histogram.percentile(percent)
    return DASH if value is None else format_ns(value)
