"""Section S: the guide's service level objectives under open-loop load, and the goal of this project for the single append."""

from __future__ import annotations

from cometbench.benchmark import ENGINE_SUBJECT, ConfigValue
from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.probes.open_loop import LOADS, values_of
from cometbench.stats import median_of_worker_medians
from cometbench.units import format_ns
from cometbench.views import estimate_per

_SYNC_MS = 100
# Of a round in profile full, where rounds add up.
_SECONDS_MAX = 1.0
PROCESSES = 2
SUBJECTS = {
    "mmap": "mmap, one process",
    "buffered": "buffered, one process",
    "mmap_synced": "mmap, one process, a sync every 100 ms",
    "buffered_synced": "buffered, one process, a sync every 100 ms",
    "processes2": "mmap, two processes",
    "processes2_synced": "mmap, two processes, a sync every 100 ms",
}


def under_load(
    name: str,
    config: dict[str, ConfigValue],
    *,
    subject: str = "mmap",
    implementation: str = ENGINE_SUBJECT,
    processes: int = 1,
    seconds: float = 1.0,
    loads: tuple[int, ...] = LOADS,
    rounds: str = "probe",
) -> Probe:
    """Return a probe of single appends under open-loop load."""
    return Probe(
        name=name,
        experiment=name.partition(".")[0],
        subject=subject,
        implementation="cometbench.probes.open_loop:measure",
        values=values_of(loads),
        workload="json_shared" if processes > 1 else "json_line",
        processes=processes,
        seconds=seconds,
        durability="survives_process_crash",
        rounds=rounds,
        config={
            "implementation": implementation,
            "loads": ",".join(map(str, loads)),
            "seconds_max": _SECONDS_MAX,
            **config,
        },
    )


def _subject(name: str) -> Probe:
    shared = name.startswith("processes")
    path = "buffered" if name.startswith("buffered") else "mmap"
    config: dict[str, ConfigValue] = {
        "write_path": path,
        "preset": "multi_process" if shared else "default",
    }
    synced = name.endswith("synced")
    return under_load(
        f"S.{name}",
        config | ({"sync_ms": _SYNC_MS} if synced else {}),
        subject=path,
        processes=PROCESSES if shared else 1,
        seconds=1.8 if synced else 1.5,
        rounds="other" if name == "mmap" else "probe",
    )


_HEALTH = Probe(
    name="S.health",
    experiment="S",
    subject="mmap",
    implementation="cometbench.probes.lag:measure",
    values={"lag_median": "entries", "lag_max": "entries", "error_percent": "%"},
    workload="json_event",
    batch=100,
    processes=3,
    durability="survives_process_crash",
    config={"preset": "default", "entries_per_s": 100_000},
)


_OWN = Probe(
    name="S.own",
    experiment="S",
    subject="mmap",
    implementation="cometbench.probes.own_levels:measure",
    values={
        "p50": "ns",
        "p99": "ns",
        "harness_p50": "ns",
        "harness_p99": "ns",
        "lag": "entries",
        "error_percent": "%",
    },
    workload="json_line",
    durability="survives_process_crash",
    config={"write_path": "mmap", "preset": "default"},
)


def percentiles(run: Run, name: str) -> str:
    """Say p50, p99 and p99.9 of a measurement of all rounds together."""
    measurement = run.find(name)
    if measurement is None or measurement.latency is None:
        return ""
    found = []
    for per, text in (("p50", "p50"), ("p99", "p99"), ("p99_9", "p99.9")):
        try:
            value = format_ns(estimate_per(measurement, per, run.seed).value)  # type: ignore[arg-type]
        except ValueError:
            value = "hidden (too few samples)"
        found.append(f"{text} {value}")
    return ", ".join(found)


def finding(run: Run) -> list[str]:
    """Percentiles at half the capacity, beside the stall meter's; then lag and errors."""
    lines = []
    for name, text in SUBJECTS.items():
        capacity, response = run.find(f"S.{name}.capacity"), percentiles(run, f"S.{name}.load50_response")
        if capacity is None or not capacity.samples or not response:
            continue
        lines.append(
            f"{text}, at half of {median_of_worker_medians(capacity.samples):,.0f} appends/s: response {response}; "
            f"service {percentiles(run, f'S.{name}.load50_service')}; doing nothing at that pace "
            f"{percentiles(run, f'S.{name}.idle_response')}; reading the clock adds "
            f"{capacity.extra['timer_overhead_ns']} ns to each"
        )
    lag, highest, errors = (run.find(f"S.health.{value}") for value in _HEALTH.values)
    if lag and highest and errors and lag.samples and highest.samples and errors.samples:
        lines.append(
            f"a group that reads beside a writer of 100,000 entries/s lags by {median_of_worker_medians(lag.samples):,.0f} "
            f"entries in the median of a round's looks and {median_of_worker_medians(highest.samples):,.0f} at most; "
            f"{median_of_worker_medians(errors.samples):g} % of the appends raised an error"
        )
    found = [run.find(name) for name in _OWN.measurement_names()]
    values = [median_of_worker_medians(one.samples) for one in found if one is not None and one.samples]
    if len(values) == len(found):
        p50, p99, harness_p50, harness_p99, behind, failed = values
        lines.append(
            f"the engine by itself (Client.slo): p50 {format_ns(p50)} and p99 {format_ns(p99)} where the harness saw "
            f"{format_ns(harness_p50)} and {format_ns(harness_p99)} with the price of the clock in each; a lag of {behind:,.0f} "
            f"where exactly that many were left; {failed:g} % errors"
        )
    return lines


EXPERIMENT = Experiment(
    section="S",
    title="Service level objectives",
    question="What does a caller wait for one append when appends come at their own times, not when the last one is done?",
    method=(
        "Capacity first: appends back to back through the measuring loop. Then a seeded Poisson schedule at 10, 25, 50 "
        "and 80 % of it; for each append the clock says when it was due, started and ended. Service runs from start to "
        "end, response from when it was due. Percentiles are those of log-bucketed histograms whose counts were added "
        "over processes and rounds, with intervals from resampled rounds; one with fewer than 100 samples beyond it is "
        "hidden. A stall meter does nothing at the pace of half the capacity, in the same processes: what it waits for "
        "is the platform's. Verdicts are for half the capacity, against the good limit. Lag is read from the engine "
        "every millisecond beside a writer of 100,000 entries/s in batches of 100, and errors are counted where appends raise them. "
        "What the engine states by itself is asked for after 100,000 appends that the harness timed as well."
    ),
    limitations=(
        "The load is made by the process that appends, which waits awake: the CPU is never cold, and every process needs "
        "a CPU of its own, so two processes stand for many here and more than the machine has CPUs would measure the "
        "scheduler. The helper thread, the syncing thread and whatever else runs compete for the same CPUs. Capacity and "
        "pace include two clock readings a call. A run keeps histograms, not each append; "
        "`cometbench latency --readings` keeps those."
    ),
    benchmarks=(),
    probes=(*(_subject(name) for name in SUBJECTS), _HEALTH, _OWN),
    finding=finding,
)
