"""Section Q: time of one append call by batch size, one process against many on one shard."""

from __future__ import annotations

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark
from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.probes.ack_allocations import SHARDS
from cometbench.stats import estimate, median_of_worker_medians, paired_ratio

BATCHES = (1, 10, 100, 1000, 10_000)
PROCESSES = (2, 4, 8)
_WORKLOADS = {1: "json_line", 10: "json_item"}
# The same for one writer and for many: a burst that the pages populated ahead hold (the engine's lead is at most 32 MiB of frames).
BURST_BYTES_MAX = 16 << 20


def workload_of(batch: int) -> str:
    """Return the single-process payload that CLAIMS.md names for this batch size."""
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
        value_bytes_max=BURST_BYTES_MAX,
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
        value_bytes_max=BURST_BYTES_MAX,
        config={"write_path": "mmap", "preset": "multi_process"},
    )


_ACK = Probe(
    name="Q.ack",
    experiment="Q",
    subject="consumer",
    implementation="cometbench.probes.ack_allocations:measure",
    values={
        "time_one": "ns",
        "time_batch": "ns",
        "allocations_one": "allocations",
        "allocations_batch": "allocations",
        "allocations_read_batch": "allocations",
    },
    workload="json_line",
)


def finding(run: Run) -> list[str]:
    """One append alone and with others, what a batch of 1000 saves per entry, and what an acknowledgement costs.

    As far as this run holds them.
    """
    lines = []
    for reading in (
        "buffered.processes1",
        "mmap.processes1",
        "mmap.one_writer",
        *(f"mmap.processes{n}" for n in PROCESSES),
    ):
        one, thousand = run.find(f"Q.batch1.{reading}"), run.find(f"Q.batch1000.{reading}")
        if one is None or thousand is None or not one.samples or not thousand.samples:
            continue
        single, batch = estimate(one.samples, run.seed), estimate(thousand.samples, run.seed)
        gain = paired_ratio(one.samples, thousand.samples, run.seed)
        rate = 1e9 * one.processes / single.value
        lines.append(
            f"{reading}: one append takes {single.value:,.0f} ns [{single.low:,.0f}, {single.high:,.0f}]"
            f" ({rate:,.0f} entries/s in all), a batch of 1000 {batch.value / 1000:,.1f} us;"
            f" an entry in it costs {gain.value * 1000:,.1f} times less than alone"
        )
    found = [run.find(name) for name in _ACK.measurement_names()]
    values = [median_of_worker_medians(one.samples) for one in found if one is not None and one.samples]
    if len(values) == len(found):
        lines.append(
            f"acknowledging one entry takes {values[0]:,.0f} ns and {values[2]:g} allocations, a batch over {SHARDS} shards "
            f"{values[1]:,.0f} ns and {values[3]:g}; handing a read batch to the consumer, {values[4]:g} a call"
        )
    return lines


EXPERIMENT = Experiment(
    section="Q",
    title="Quick performance numbers",
    question=(
        "What does one append call take for 1 to 10,000 entries, alone and with other processes on the same"
        " shard?"
    ),
    method=(
        "Back-to-back calls of a writer handle on a new log; batches are lists built beforehand, every "
        "entry differs. Single process: buffered and mmap, default config. Multi-process mode: one writer "
        "process, then 2, 4 and 8 real processes started by a barrier; their value runs from the first "
        "start to the last end. A value is a burst of at most 16 MiB, of all writers together. Every log is read "
        "back and compared entry by entry. Acknowledgements go to the handle of a group's position; what Python's "
        "allocators see during each call is counted."
    ),
    limitations=(
        "Closed loop: a caller that waits between calls sees colder caches. Between bursts the mmap path's helper "
        "populates pages ahead; a writer that never pauses is bound by how fast the file system hands out pages, "
        "which K1's 60 s show. With more processes than CPUs the value includes waiting for a CPU. Pages reach the page "
        "cache, not the disk. The shared line "
        "has 47 bytes, not the guide's 44, because every entry of every process carries an id of its own."
    ),
    benchmarks=(
        *(_single(batch, path) for batch in BATCHES for path in ("buffered", "mmap")),
        *(_shared(batch, processes) for batch in BATCHES for processes in (1, *PROCESSES)),
    ),
    probes=(_ACK,),
    finding=finding,
)
