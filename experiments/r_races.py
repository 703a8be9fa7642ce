"""Section R: what races between processes do to the data, to readers of the index, and to throughput."""

from __future__ import annotations

from cometbench.benchmark import ConfigValue
from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.stats import median_of_worker_medians, paired_ratio

_BUSY_INDEX: dict[str, ConfigValue] = {
    "preset": "multi_process",
    "indexing.boundary_interval_entries": 10,
    "storage.checkpoint_interval_ms": 1,
}


def _probe(
    name: str, function: str, values: dict[str, str], config: dict[str, ConfigValue], **fields: int
) -> Probe:
    return Probe(
        name=f"R.{name}",
        experiment="R",
        subject="mmap",
        implementation=f"cometbench.probes.{function}:measure",
        values=values,
        workload="json_event",
        seconds=0.5,
        durability="survives_process_crash",
        config=config,
        batch=fields.get("batch", 1),
        processes=fields.get("processes", 1),
    )


_CONTENTION = _probe(
    "contention",
    "contention",
    {"entries": "entries", "appends": "appends", "stops": "stops", "rate": "entries/s"},
    {"preset": "multi_process"},
    processes=8,
)
_INDEX = _probe(
    "index",
    "index_race",
    {"violations": "per lookup", "own_again": "of lookups", "torn_again": "of lookups", "tries_max": "tries"},
    _BUSY_INDEX,
    batch=50,
)
_IMPACT = _probe(
    "impact",
    "race_impact",
    {"apart": "entries/s", "together": "entries/s", "races": "entries/s"},
    _BUSY_INDEX,
    batch=10,
    processes=2,
)


def finding(run: Run) -> list[str]:
    """Entries checked, tries at the index, and throughput ratios."""
    lines = []
    entries, stops = run.find("R.contention.entries"), run.find("R.contention.stops")
    if entries is not None and stops is not None and entries.samples and stops.samples:
        checked = entries.verification
        lines.append(
            f"8 writers on one shard, stopped {sum(one.values[0] for one in stops.samples):,.0f} times: "
            f"{checked.entries_found:,} of {checked.entries_expected:,} acknowledged entries are there, once and in order"
        )
    violations = run.find("R.index.violations")
    if violations is not None and violations.samples:
        found = {value: run.find(f"R.index.{value}") for value in _INDEX.values}
        own, torn, tries = (found[value] for value in ("own_again", "torn_again", "tries_max"))
        assert own is not None
        assert torn is not None
        assert tries is not None
        lines.append(
            f"{violations.extra['trials']:,.0f} lookups in a round: {median_of_worker_medians(own.samples):.2%} read the index "
            f"again beside the engine's own checkpoints, {median_of_worker_medians(torn.samples):.0%} beside a process that "
            f"tears it; {max(one.values[0] for one in tries.samples):.0f} tries at most, "
            f"{max(one.values[0] for one in violations.samples):g} violations a lookup"
        )
    lines += [
        f"{text}: {ratio} of the throughput"
        for text, first, second in (
            ("writers on one shard instead of one each", "together", "apart"),
            ("and their index torn and read", "races", "together"),
        )
        if (ratio := _ratio(run, first, second))
    ]
    return lines


def _ratio(run: Run, first: str, second: str) -> str:
    upper, lower = run.find(f"R.impact.{first}"), run.find(f"R.impact.{second}")
    if upper is None or lower is None or not upper.samples or not lower.samples:
        return ""
    ratio = paired_ratio(upper.samples, lower.samples, run.seed)
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


EXPERIMENT = Experiment(
    section="R",
    title="Races between processes",
    question="Do writers that get in each other's way lose anything, do readers of the index get through, and what does it cost?",
    method=(
        "Contention: 8 processes on one shard with batches of 1 to 1000, while one of them after the other is stopped "
        "(SIGSTOP) for up to 5 ms and continued; then every acknowledged number is looked up and each writer's entries must "
        "stand once and in order. Index: clients that open the log anew for each lookup count how often they read the "
        "index file, beside a writer whose index is brought up to date every millisecond, then also beside a process that "
        "cuts the file to nothing and writes it again in two pieces. Impact: two writers, a reader and the tearing process "
        "run in three stretches of one round and differ in what they share alone."
    ),
    limitations=(
        "Random stops hit an append in its middle rarely; the fault suites stop and kill writers at every step. The engine "
        "never rewrites an index in pieces, so a harness process does. Four processes on few CPUs compete for those too, in "
        "all three stretches alike."
    ),
    benchmarks=(),
    probes=(_CONTENTION, _INDEX, _IMPACT),
    finding=finding,
)
