"""Section A, the part that needs no server: raw files (CLAIMS.md A4)."""

from __future__ import annotations

from cometbench.benchmark import Benchmark
from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.stats import estimate
from experiments.q_quick import workload_of

_BATCHES = (1, 100, 1000)


def _raw(batch: int, sync: bool) -> Benchmark:
    return Benchmark(
        name=f"A.batch{batch}.raw_file{'_sync' if sync else ''}",
        experiment="A",
        subject="raw_file_sync" if sync else "raw_file",
        implementation="cometbench.subjects.raw_file:RawFile",
        workload=workload_of(batch),
        batch=batch,
        durability="survives_power_loss" if sync else "survives_process_crash",
        rounds="other",
        config={"sync": sync},
    )


def finding(run: Run) -> list[str]:
    """Say what each reading took per append."""
    lines = []
    for benchmark in EXPERIMENT.benchmarks:
        found = run.find(benchmark.name)
        if found is not None and found.samples:
            value = estimate(found.samples, run.seed)
            lines.append(
                f"{benchmark.name}: {value.value:,.0f} ns [{value.low:,.0f}, {value.high:,.0f}] per append"
            )
    return lines


EXPERIMENT = Experiment(
    section="A",
    title="Raw files",
    question="What does the plainest append-only file cost: length-prefixed frames, one write() per append?",
    method=(
        "Frames are joined in Python and handed to one write(), with and without fdatasync; read back and "
        "compared."
    ),
    limitations=(
        "No checksum, no index, no recovery, no second process: it is the yardstick, not an alternative to "
        "a log."
    ),
    benchmarks=tuple(_raw(batch, sync) for batch in _BATCHES for sync in (False, True)),
    finding=finding,
)
