"""Section F: the guide's pitfalls, each before and after (F1 is section Q's)."""

from __future__ import annotations

from cometbench.experiment import Experiment
from cometbench.findings import gain_text, sentence, value_text
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.probes.variants import variants_probe

WRITERS = 4
_HANDLER_WAYS = ("inside", "queued", "pooled")
_SHARD_VALUES = {"append": "ns", "consume": "ns", "anonymous": "bytes", "disk": "bytes"}

PROBES = (
    variants_probe(
        "F.writers",
        {"one_shard": {}, "shards16": {"shards": 16}},
        {"workload": "json_shared", "preset": "multi_process", "processes": WRITERS},
    ),
    Probe(
        name="F.handler",
        experiment="F",
        subject="cometlog",
        implementation="cometbench.probes.handlers:slow_handler",
        values={
            f"{way}_{what}": unit
            for way in _HANDLER_WAYS
            for what, unit in (("acknowledged", "ns"), ("handled", "ns"), ("lost", "entries"))
        },
        workload="json_line",
        seconds=0.4,
    ),
    variants_probe(
        "F.threshold",
        {
            "from10_batch1": {"compression.threshold_bytes": 10, "group": "single"},
            "from2048_batch1": {"compression.threshold_bytes": 2048, "group": "single"},
            "from10_batch100": {"compression.threshold_bytes": 10, "batch": 100},
            "from2048_batch100": {"compression.threshold_bytes": 2048, "batch": 100},
        },
        {"workload": "json_line", "rest_ms": 2},
        sizes=tuple(f"from{start}_batch{batch}_stored" for start in (10, 2048) for batch in (1, 100)),
        seconds=0.4,
    ),
    Probe(
        name="F.shards",
        experiment="F",
        subject="cometlog",
        implementation="cometbench.probes.shards:few_and_many",
        values={f"{name}_{count}": unit for count in ("few", "many") for name, unit in _SHARD_VALUES.items()}
        | {"new_on_disk": "ns"},
        workload="json_item",
        batch=10,
        fresh=True,
        seconds=1.0,
    ),
)


def finding(run: Run) -> list[str]:
    """Each pitfall with its gain, and what the guide's advice costs where it costs something."""
    return [
        *sentence(
            "F2: four writers on shards of their own append {gain} as fast as on one: {own} an entry instead of {shared}.",
            gain=gain_text(run, "F.writers.one_shard", "F.writers.shards16"),
            shared=value_text(run, "F.writers.one_shard"),
            own=value_text(run, "F.writers.shards16"),
        ),
        *sentence(
            "F3: a queue that is acknowledged at once acknowledges {gain} as fast as a slow handler in the batch, but a "
            "consumer killed at that moment had acknowledged {lost} that nobody handled; with a pool that is waited for, "
            "entries are handled {pooled} as fast as in the batch, and a kill lost {none}.",
            gain=gain_text(run, "F.handler.inside_acknowledged", "F.handler.queued_acknowledged"),
            lost=value_text(run, "F.handler.queued_lost"),
            pooled=gain_text(run, "F.handler.inside_handled", "F.handler.pooled_handled"),
            none=value_text(run, "F.handler.pooled_lost"),
        ),
        *sentence(
            "F4: leaving 117-byte lines alone is {single} as fast as compressing single ones, which store {grown} of each "
            "byte, and {batch} as fast in batches of 100, where compressing stores {shrunk}.",
            single=gain_text(run, "F.threshold.from10_batch1", "F.threshold.from2048_batch1"),
            grown=value_text(run, "F.threshold.from10_batch1_stored"),
            batch=gain_text(run, "F.threshold.from10_batch100", "F.threshold.from2048_batch100"),
            shrunk=value_text(run, "F.threshold.from10_batch100_stored"),
        ),
        *sentence(
            "F5: over 16 shards instead of 256, appending is {append} and consuming {consume} as fast; 256 shards take "
            "{disk} on disk and {memory} of memory, and each new one {new} to make.",
            append=gain_text(run, "F.shards.append_many", "F.shards.append_few"),
            consume=gain_text(run, "F.shards.consume_many", "F.shards.consume_few"),
            disk=value_text(run, "F.shards.disk_many"),
            memory=value_text(run, "F.shards.anonymous_many"),
            new=value_text(run, "F.shards.new_on_disk"),
        ),
    ]


EXPERIMENT = Experiment(
    section="F",
    title="Pitfalls",
    question="How much does each of the guide's five pitfalls cost, and what does the guide's way around it cost instead?",
    method=(
        "Before and after in one process and one round, in turns. F2: four real writer processes, on one shard and each "
        "on its own of 16. F3: a handler that waits 0.2 ms an entry, inside the batch of 50, behind a queue with four "
        "threads that is acknowledged at once, and in a pool of four that is waited for; then a consumer of each kind is "
        "killed, and what it had acknowledged is compared with what it had handled. F4: thresholds of 10 and 2048 bytes "
        "under lines of 117. F5: the same batches of 10 dealt out to 16 and to 256 shards and consumed by one group, on "
        "tmpfs. Every log is read back; every handled entry is compared."
    ),
    limitations=(
        "The guide states a size for F1 only (see section Q); for the others the verdict is about the direction. With more "
        "writers than CPUs, writers of F2 wait for a CPU rather than for each other. The handler's wait stands for a "
        "database that answers several requests at once; one that does not gains nothing from either way."
    ),
    benchmarks=(),
    probes=PROBES,
    finding=finding,
)
