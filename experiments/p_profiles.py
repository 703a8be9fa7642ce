"""Section P: the guide's performance profiles, each by the preset that this engine has for it."""

from __future__ import annotations

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark, ConfigValue
from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.stats import estimate
from experiments.s_objectives import percentiles, under_load


def _ultra_low_latency(path: str) -> Benchmark:
    return Benchmark(
        name=f"P.ultra_low_latency.{path}",
        experiment="P",
        subject=path,
        implementation=ENGINE_SUBJECT,
        workload="json_line",
        durability="survives_process_crash",
        rounds="other",
        config={"write_path": path, "preset": "ultra_low_latency"},
    )


def _throughput(name: str, config: dict[str, ConfigValue], processes: int = 1) -> Probe:
    return Probe(
        name=f"P.{name}",
        experiment="P",
        subject="mmap",
        implementation="cometbench.probes.throughput:measure",
        values={"rate": "entries/s", "new_shards_rate": "entries/s"},
        workload="json_event",
        batch=1000,
        processes=processes,
        seconds=0.3,
        durability="survives_process_crash",
        config=config,
    )


_THROUGHPUT = {
    "shards16": "one process, 16 shards",
    "shards32": "one process, 32 shards",
    "processes8": "8 processes, 16 shards, two each",
}
_BATCHER = under_load(
    "P.batcher",
    {"write_path": "mmap", "preset": "default"},
    implementation="cometbench.subjects.batcher:BatcherSubject",
    loads=(10, 50),
)


def finding(run: Run) -> list[str]:
    """Time or rate of each profile."""
    lines = []
    for path in ("mmap", "buffered"):
        one = run.find(f"P.ultra_low_latency.{path}")
        if one is not None and one.samples:
            value = estimate(one.samples, run.seed)
            lines.append(
                f"ultra-low latency, {path}: {value.value:,.0f} ns [{value.low:,.0f}, {value.high:,.0f}] an append"
            )
    for name, text in _THROUGHPUT.items():
        for rate, when in (("rate", ""), ("new_shards_rate", ", while the shards are new")):
            found = run.find(f"P.{name}.{rate}")
            if found is not None and found.samples:
                value = estimate(found.samples, run.seed)
                lines.append(
                    f"batches of 1000, {text}{when}: {value.value / 1e6:.1f} M entries/s "
                    f"[{value.low / 1e6:.1f}, {value.high / 1e6:.1f}]"
                )
    for load in (10, 50):
        text = percentiles(run, f"P.batcher.load{load}_service")
        if text:
            lines.append(f"Batcher.add returns, at {load} % of what it can take: {text}")
    return lines


EXPERIMENT = Experiment(
    section="P",
    title="Performance profiles",
    question="Does each preset give what the guide promises for its profile?",
    method=(
        "Ultra-low latency: single appends back to back with `ultra_low_latency`. Maximum throughput: batches of 1000 to 16 "
        "and to 32 shards in turn, `high_throughput`. Multi-process: 8 processes, 16 shards assigned by process, "
        "`multi_process`, from one barrier on. Each shard is filled with 4 MiB first, beyond its first growth: the rate is that of "
        "shards at work, and that of the filling stands beside it. Batcher: `add` under open-loop load as in section S, the time "
        "until it returns; the entries are in the log once it is closed. Every shard is read back whole."
    ),
    limitations=(
        "Throughput is a burst of at most 512 MiB, which the page cache takes; the disk follows later. What the helper thread had "
        "allocated ahead when the filling ended, at most 32 MiB a shard, is not paid for in the timed part. A log that is opened "
        "for a moment sees the rate of new shards, not that of shards at work. With more processes than CPUs they share them. The "
        "batcher's thread appends in the same interpreter, so that an `add` may wait for it."
    ),
    benchmarks=(_ultra_low_latency("mmap"), _ultra_low_latency("buffered")),
    probes=(
        _throughput("shards16", {"preset": "high_throughput", "shards": 16}),
        _throughput("shards32", {"preset": "high_throughput", "shards": 32}),
        _throughput("processes8", {"preset": "multi_process", "shards": 16}, processes=8),
        _BATCHER,
    ),
    finding=finding,
)
