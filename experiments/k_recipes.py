"""Section K: the guide's recipes, each with the configuration that it names."""

from __future__ import annotations

from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.stats import median_of_worker_medians
from experiments.s_objectives import percentiles, under_load

_MIB = 1 << 20
_MILLION = Probe(
    name="K.million",
    experiment="K",
    subject="mmap",
    implementation="cometbench.probes.sustained:measure",
    values={"rate": "entries/s", "short_seconds": "of the seconds", "response": "ns"},
    workload="json_event",
    batch=1000,
    seconds=30.0,
    durability="survives_process_crash",
    rounds="once",
    config={
        "preset": "high_throughput",
        "shards": 16,
        "offered_per_s": 1_200_000,
        "required_per_s": 1_000_000,
        "segment_size_bytes": 64 * _MIB,
        "retention.max_shard_bytes": 128 * _MIB,
        "retention.interval_s": 1.0,
    },
)
_SUB_MILLISECOND = under_load(
    "K.sub_millisecond",
    {
        "write_path": "mmap",
        "preset": "default",
        "compression.threshold_bytes": _MIB,
        "storage.checkpoint_interval_ms": 30_000,
    },
    loads=(50, 80),
    seconds=1.0,
)


def finding(run: Run) -> list[str]:
    """What each recipe reached."""
    lines = []
    rate, short = run.find("K.million.rate"), run.find("K.million.short_seconds")
    if rate is not None and short is not None and rate.samples and short.samples:
        seconds = float(rate.extra["trials"])
        lines.append(
            f"1 M events/s: {median_of_worker_medians(rate.samples):,.0f} entries/s acknowledged of 1,200,000 offered; "
            f"{short.samples[0].values[0] * seconds:.0f} of {seconds:.0f} seconds had fewer than 1 M, the slowest "
            f"{float(rate.extra['slowest_second_per_s']):,.0f}; a batch of 1000 from when it was due: "
            f"{percentiles(run, 'K.million.response')}"
        )
    for load in (50, 80):
        text = percentiles(run, f"K.sub_millisecond.load{load}_response")
        if text:
            lines.append(
                f"sub-millisecond: response at {load} % of the capacity {text}; doing nothing at half of it "
                f"{percentiles(run, 'K.sub_millisecond.idle_response')}"
            )
    return lines


EXPERIMENT = Experiment(
    section="K",
    title="Recipes",
    question="Does each recipe of the guide give what its name says?",
    method=(
        "1 M events/s: `high_throughput`, 16 shards, batches of 1000 from one process, due by a Poisson schedule of 1.2 M "
        "entries/s for 60 s in profile full (6 s in quick); each second is judged by itself. Segments have 64 MiB and "
        "retention keeps about 128 MiB a shard, so that the log fits a small disk; what is kept is compared with what was "
        "appended, what retention removed is counted. Sub-millisecond p99: one shard, compression from 1 MiB, a checkpoint "
        "every 30 s, open loop as in section S."
    ),
    limitations=(
        "The million is offered, not the most that goes: section P measures that. One long run has no noise estimate, so "
        "its rate alone is inconclusive and the seconds are the evidence. Nothing reads the log meanwhile."
    ),
    benchmarks=(),
    probes=(_MILLION, _SUB_MILLISECOND),
    finding=finding,
)
