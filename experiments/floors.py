"""Machine floors: what one primitive costs here, and the controls; measured in every run and printed beside the tables."""

from __future__ import annotations

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark
from cometbench.evaluate import CONTROLS, FORKED_AND_FRESH
from cometbench.experiment import Experiment
from cometbench.findings import gain_text, sentence
from cometbench.model import Run
from cometbench.stats import median_of_worker_medians

_MIB = 1 << 20
_FLOORS: dict[str, tuple[str, int, str]] = {
    # name: (metric, bytes per call, what one call is)
    "clock_read": ("time_per_append", 0, "one clock_gettime"),
    "cas": ("time_per_append", 0, "one uncontended compare-and-swap"),
    "memcpy_hot": ("bandwidth", 64 * 1024, "copy between two cached buffers"),
    "memcpy_fresh_map": ("bandwidth", _MIB, "copy into an allocated file mapping, first touch included"),
    "write_128": ("time_per_append", 128, "write() of 128 bytes to a new file"),
    "write_1mib": ("time_per_append", _MIB, "write() of 1 MiB to a new file"),
    "fdatasync_128": ("time_per_append", 128, "write() of 128 bytes and fdatasync"),
    "fallocate_populate_mib": ("time_per_append", _MIB, "fallocate, map and populate 1 MiB"),
}


def _benchmark(name: str) -> Benchmark:
    metric, bytes_per_call, _ = _FLOORS[name]
    return Benchmark(
        name=f"floor.{name}",
        experiment="floor",
        subject=name,
        implementation="cometbench.subjects.floor:Floor",
        workload="none",
        metric=metric,
        bytes_per_call=bytes_per_call,
        durability="survives_power_loss" if name.startswith("fdatasync") else "none",
        rounds="main",
        config={"function": name},
    )


def _control(name: str, path: str, *, fresh: bool = False) -> Benchmark:
    return Benchmark(
        name=name,
        experiment="control",
        subject=path,
        implementation=ENGINE_SUBJECT,
        workload="json_line",
        durability="survives_process_crash",
        fresh=fresh,
        config={"write_path": path, "preset": "multi_process"},
    )


def finding(run: Run) -> list[str]:
    """One sentence per floor that was measured, and one on what the controls have shown."""
    lines = []
    for name, (metric, _, what) in _FLOORS.items():
        floor = run.find(f"floor.{name}")
        if floor is not None and floor.samples:
            value = median_of_worker_medians(floor.samples)
            lines.append(
                f"{what}: {value / 1e9:.2f} GB/s" if metric == "bandwidth" else f"{what}: {value:,.1f} ns"
            )
    return lines + sentence(
        "The same appends measured twice a round: on the mapped path {mmap} as fast the second time, on the buffered one "
        "{buffered}; in an interpreter started for them instead of a forked process: {fresh}.",
        mmap=gain_text(run, *CONTROLS["mmap"]),
        buffered=gain_text(run, *CONTROLS["buffered"]),
        fresh=gain_text(run, *FORKED_AND_FRESH),
    )


EXPERIMENT = Experiment(
    section="floors",
    title="Machine floors",
    question=(
        "What do the primitives that an append is made of cost on this machine, without Python and without "
        "a log?"
    ),
    method=(
        "C loops in pyperf worker processes, interleaved with everything else; files lie in the bench "
        "directory. Controls: an A/A control runs single appends twice a round under two names, and how far their ratio strays "
        "from 1 is the noise that a verdict on a ratio has to exceed. The mmap path has one, and the paths that make system calls "
        "have that of buffered. A further control is the mmap path's benchmark in an interpreter of its own, where all others are "
        "forked from one that has imported what they need: it shows what that changes."
    ),
    limitations=(
        "A floor is a lower bound of its own primitive, not of a log: an append combines several of them."
    ),
    benchmarks=(
        *(_benchmark(name) for name in _FLOORS),
        *(_control(name, path) for path, names in CONTROLS.items() for name in names),
        _control(FORKED_AND_FRESH[1], "mmap", fresh=True),
    ),
    finding=finding,
)
