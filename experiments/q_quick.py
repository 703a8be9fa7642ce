"""Section Q: time of one append call by batch size, one process against many on one shard."""

from __future__ import annotations

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark
from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.stats import estimate, median_of_worker_medians, paired_ratio

BATCHES = (1, 10, 100, 1000, 10_000)
PROCESSES = (2, 4, 8)
_WORKLOADS = {1: "json_line", 10: "json_item"}


def workload_of(batch: int) -> str:
    """The single-process payload that CLAIMS.md names for this batch size."""
    return _WORKLOADS.get(batch, "json_event")


def _single(batch: int, write_path: str) -> Benchmark:
    return Benchmark(
        name=f"Q.batch{batch}.{write_path}.processes1",
        experiment="Q",
        subject=write_path,
        implementation=ENGINE_SUBJECT,
        workload=workload_of(batch),
        batch=batch,
        durability="survives_process_crash",
        config={"write_path": write_path, "preset": "default"},
    )


def _shared(batch: int, processes: int) -> Benchmark:
    return Benchmark(
        name=f"Q.batch{batch}.mmap.{'one_writer' if processes == 1 else f'processes{processes}'}",
        experiment="Q",
        subject="mmap",
        implementation=ENGINE_SUBJECT,
        workload="json_shared",
        batch=batch,
        processes=processes,
        durability="survives_process_crash",
        config={"write_path": "mmap", "preset": "multi_process"},
    )


def finding(run: Run) -> list[str]:
    """Per batch size what each reading took; then what a batch of 1000 saves per entry."""
    lines = []
    for batch in BATCHES:
        for reading in ("buffered.processes1", "mmap.processes1", "mmap.one_writer", *(f"mmap.processes{n}" for n in PROCESSES)):
            found = run.find(f"Q.batch{batch}.{reading}")
            if found is None or not found.samples:
                continue
            value = estimate(found.samples, run.seed)
            per_entry = value.value / batch
            rate = 1e9 * batch * found.processes / value.value
            lines.append(
                f"batch of {batch}, {reading}: {value.value:,.0f} ns [{value.low:,.0f}, {value.high:,.0f}] per append,"
                f" {per_entry:,.1f} ns per entry and process, {rate:,.0f} entries/s in all"
            )
    for path in ("buffered", "mmap"):
        one, thousand = run.find(f"Q.batch1.{path}.processes1"), run.find(f"Q.batch1000.{path}.processes1")
        if one is not None and thousand is not None and one.samples and thousand.samples:
            ratio = paired_ratio(one.samples, thousand.samples, run.seed)
            lines.append(f"{path}: an entry in a batch of 1000 is {ratio.value * 1000:,.1f}x cheaper than one appended alone")
            lines.append(f"{path}: a batch of 1000 takes {median_of_worker_medians(thousand.samples) / 1000:,.2f} us")
    return lines


EXPERIMENT = Experiment(
    section="Q",
    title="Quick performance numbers",
    question="What does one append call take for 1 to 10,000 entries, alone and with other processes on the same shard?",
    method=(
        "Back-to-back calls of a writer handle on a new log; batches are lists built beforehand, every entry differs. "
        "Single process: buffered and mmap, default config. Multi-process mode: one writer process, then 2, 4 and 8 real "
        "processes started by a barrier; their value runs from the first start to the last end. Every log is read back "
        "and compared entry by entry."
    ),
    limitations=(
        "Closed loop: a caller that waits between calls sees colder caches. With more processes than CPUs the value "
        "includes waiting for a CPU. Pages reach the page cache, not the disk. The shared line has 47 bytes, not the "
        "guide's 44, because every entry of every process carries an id of its own."
    ),
    benchmarks=(
        *(_single(batch, path) for batch in BATCHES for path in ("buffered", "mmap")),
        *(_shared(batch, processes) for batch in BATCHES for processes in (1, *PROCESSES)),
    ),
    finding=finding,
)
