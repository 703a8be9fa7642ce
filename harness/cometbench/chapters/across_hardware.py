"""Across hardware: the same appends in multiples of what each machine charges, and ratios, the guide's among them."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullLocator

from cometbench.chapter import Chapter, Drawing, Shown
from cometbench.figure import INK, MUTED, SERIES, Figure, Row, axes, canvas, finish, n_text
from cometbench.frames import paired_ratio
from cometbench.guide import guide_machine, guide_run
from cometbench.model import MEMORY_FILE_SYSTEMS, Run
from cometbench.stats import Estimate, estimate, median_of_worker_medians
from cometbench.units import significant

_MARKERS = ("o", "s", "^", "D", "v", "P")


class Place(NamedTuple):
    """A run and what a reader calls the machine and file system it is from."""

    label: str
    run: Run


class Scaled(NamedTuple):
    """An append and the probe that its time is divided by; bandwidth turns into the time of the append's bytes."""

    label: str
    measurement: str
    probe: str


_SCALED = (
    Scaled("sync, 1 entry / fsync", "G.sync.batch1", "floor.fdatasync_128"),
    Scaled("async, 1 entry / fsync", "G.async.batch1", "floor.fdatasync_128"),
    Scaled("buffered, 1 entry / syscall", "G.buffered.batch1", "floor.write_128"),
    Scaled("mmap, 1 entry / timer", "G.mmap.batch1", "floor.clock_read"),
    Scaled("mmap, 1,000 entries / memcpy", "Q.batch1000.mmap.processes1", "floor.memcpy_hot"),
    Scaled("mmap, 10,000 entries / memcpy", "Q.batch10000.mmap.processes1", "floor.memcpy_hot"),
)
_RATIOS = (
    ("sync / buffered", "G.sync.batch1", "G.buffered.batch1", "Q.batch1.buffered.processes1"),
    ("async / buffered", "G.async.batch1", "G.buffered.batch1", "Q.batch1.buffered.processes1"),
    ("mmap / buffered", "G.mmap.batch1", "G.buffered.batch1", "Q.batch1.buffered.processes1"),
    ("sync / mmap", "G.sync.batch1", "G.mmap.batch1", "G.mmap.batch1"),
)


def _places(shown: Shown) -> list[Place]:
    system = shown.run.environment.get("file_system")
    here = Place(f"{shown.machine.label}, {system}" if system else shown.machine.label, shown.run)
    return [here, *(Place(one.label, one.run) for one in shown.neighbours)]


def in_multiples_of_probes(shown: Shown) -> Figure | None:
    """Each append in multiples of its machine's own probe, a row for each; None without one."""
    values = [
        (place, row, value)
        for place in _places(shown)
        for row in _SCALED
        if (value := _scaled(place.run, row)) is not None
    ]
    if not values:
        return None
    rows: list[Row] = [
        [place.label, place.run.run_id, row.measurement, row.probe, *value] for place, row, value in values
    ]
    points = [(place.label, row.label, value) for place, row, value in values]
    figure = _dots(points, [row.label for row in _SCALED], "multiples of what the machine itself charges")
    return finish(
        figure,
        "across-probes",
        "In multiples of each machine's own probes",
        description="Times of appends in multiples of four probes of the same machine on a log scale, one marker for each machine",
        caption=(
            "Lower is better; 1 is the least the machine charges: one fdatasync, one write of 128 bytes, one reading of the clock, "
            f"a copy of the same bytes in the cache. Bars are 95 % intervals ({n_text([value.workers for *_, value in values])}); "
            "the probe is a median of the same run. The guide published no probes, so it is not here."
            f"{_in_memory(_places(shown))}"
            f" Runs: {', '.join(dict.fromkeys(place.run.run_id for place, *_ in values))}."
        ),
        columns=["machine", "run", "append", "probe", "multiple", "low", "high", "workers"],
        rows=rows,
    )


def ratios(shown: Shown) -> Figure | None:
    """Ratios that carry across machines, the guide's Apple M2 among them; None where this run has none."""
    found = [
        (place.label, label, ratio, place.run.run_id)
        for place in _places(shown)
        for label, above, below, _ in _RATIOS
        if (ratio := paired_ratio(place.run, above, below)) is not None
    ]
    if not found:
        return None
    points = [(place, label, ratio) for place, label, ratio, _ in found]
    guide = guide_run()
    published = [
        (guide_machine().label, label, ratio)
        for label, above, _, below in _RATIOS
        if (ratio := _published(guide, above, below)) is not None
    ]
    rows: list[Row] = [[place, run_id, label, *ratio] for place, label, ratio, run_id in found]
    rows += [[place, guide.run_id, label, ratio.value, None, None, None] for place, label, ratio in published]
    figure = _dots(points, [label for label, *_ in _RATIOS], "ratio of times of one append", hollow=published)
    return finish(
        figure,
        "across-ratios",
        "Ratios across machines",
        description="Ratios between write paths on a log scale, one marker for each machine, the guide's as hollow rings",
        caption=(
            "A ratio within one machine carries to another; a time does not. Hollow rings: the guide's Apple M2. Paired within rounds "
            f"({n_text([ratio.workers for _, _, ratio, _ in found])}), bars are 95 % intervals.{_in_memory(_places(shown))}"
        ),
        columns=["machine", "run", "ratio", "value", "low", "high", "rounds"],
        rows=rows,
    )


def _in_memory(places: list[Place]) -> str:
    """Say of runs in memory what their synced rows are not."""
    found = {str(place.run.environment.get("file_system")) for place in places} & set(MEMORY_FILE_SYSTEMS)
    if not found:
        return ""
    return f" On {', '.join(sorted(found))} a sync reaches no disk: what sync and async cost there is code alone."


def _scaled(run: Run, row: Scaled) -> Estimate | None:
    measurement, probe = run.find(row.measurement), run.find(row.probe)
    if measurement is None or probe is None or not measurement.samples or not probe.samples:
        return None
    charged = median_of_worker_medians(probe.samples)
    if probe.unit == "bytes_per_second":
        size = measurement.extra.get("entry_bytes_mean")
        if size is None:
            return None
        charged = float(size) * measurement.batch / charged * 1e9
    time = estimate(measurement.samples, run.seed)
    return Estimate(time.value / charged, time.low / charged, time.high / charged, time.workers)


def _published(guide: Run, above: str, below: str) -> Estimate | None:
    first, second = guide.find(above), guide.find(below)
    if first is None or second is None:
        return None
    ratio = first.samples[0].values[0] / second.samples[0].values[0]
    return Estimate(ratio, ratio, ratio, 1)


def _dots(
    points: list[tuple[str, str, Estimate]],
    labels: list[str],
    across: str,
    hollow: list[tuple[str, str, Estimate]] | None = None,
) -> Canvas:
    """Draw one row for each label, one marker for each place, places named below the panel in their own colours."""
    places = list(dict.fromkeys(place for place, _, _ in points))
    figure = canvas(5.4, 1.1 + 0.34 * len(labels) + 0.2 * len(places))
    panel = axes(figure, 1, 1, 1)
    step = 0.5 / max(1, len(places))
    for place, label, value in hollow or []:
        panel.plot(
            [value.value],
            [labels.index(label)],
            "o",
            markerfacecolor="none",
            markeredgecolor=INK,
            markersize=9,
            label=place if label == labels[0] else None,
        )
        _value(panel, value, labels.index(label), INK)
    for place, label, value in points:
        at = places.index(place)
        position = labels.index(label) + (at - (len(places) - 1) / 2) * step
        panel.errorbar(
            [value.value],
            [position],
            xerr=[[max(0.0, value.value - value.low)], [max(0.0, value.high - value.value)]],
            fmt=_MARKERS[at % len(_MARKERS)],
            color=SERIES[at % len(SERIES)],
            markersize=5,
            capsize=2,
        )
        _value(panel, value, position, SERIES[at % len(SERIES)])
    panel.axvline(1.0, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    panel.set_xscale("log")
    panel.margins(x=0.18)
    panel.set_ylim(len(labels) - 0.4, -0.6)
    panel.set_yticks(range(len(labels)), labels)
    panel.grid(False, axis="y")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel(across)
    for at, place in enumerate(places):
        panel.plot(
            [], [], _MARKERS[at % len(_MARKERS)], color=SERIES[at % len(SERIES)], markersize=5, label=place
        )
    panel.legend(
        loc="lower left", bbox_to_anchor=(-0.45, 1.0), ncols=1, fontsize=8.5, frameon=False, handletextpad=0.2
    )
    return figure


def _value(panel: Axes, value: Estimate, position: float, color: str) -> None:
    panel.annotate(
        f"{significant(value.value)}x",
        (value.high, position),
        (7, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=color,
    )


CHAPTER = Chapter(
    order=140,
    title="Across hardware",
    drawings=(
        Drawing(
            "In multiples of each machine's own probes",
            in_multiples_of_probes,
            "appends beside the probes of its machine",
        ),
        Drawing("Ratios across machines", ratios, "two write paths in the same rounds (section G)"),
    ),
)
