"""Section M: allocations of appends and acknowledgements, memory of index, buffers and of a typical deployment."""

from __future__ import annotations

from cometbench.experiment import Experiment
from cometbench.findings import failures, sentence, value_text
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.probes.allocations import value_units

_MEMORY = "cometbench.probes.memory"


def _probe(
    name: str, implementation: str, values: dict[str, str], rounds: str = "probe", seconds: float = 1.0
) -> Probe:
    return Probe(
        name=f"M.{name}",
        experiment="M",
        subject="cometlog",
        implementation=implementation,
        values=values,
        rounds=rounds,
        seconds=seconds,
        fresh=True,
    )


PROBES = (
    _probe(
        "allocations",
        "cometbench.probes.allocations:count_allocations",
        value_units(),
        rounds="other",
    ),
    _probe(
        "index",
        f"{_MEMORY}:index",
        {"disk_per_boundary": "bytes", "memory_per_boundary": "bytes", "shards16": "bytes"},
        seconds=2.5,
    ),
    _probe("buffers", f"{_MEMORY}:compression_buffers", {"workers1": "bytes", "workers4": "bytes"}),
    _probe(
        "deployment",
        f"{_MEMORY}:deployment",
        {"anonymous": "bytes", "engine_anonymous": "bytes", "file_pages": "bytes"},
    ),
)


def finding(run: Run) -> list[str]:
    """Allocations first, then what stays resident."""
    return [
        *sentence(
            "An append on the mmap path makes {one} alone, {hundred} in a batch of 100 and {most} in one of 10,000, with "
            "{bytes} for the latter; on the buffered path {buffered} in a batch of 100. A thousand batches leave {kept} "
            "each behind.",
            one=value_text(run, "M.allocations.q1_mmap_allocations"),
            hundred=value_text(run, "M.allocations.q100_mmap_allocations"),
            most=value_text(run, "M.allocations.q10000_mmap_allocations"),
            bytes=value_text(run, "M.allocations.q10000_mmap_bytes"),
            buffered=value_text(run, "M.allocations.q100_buffered_allocations"),
            kept=value_text(run, "M.allocations.kept_blocks"),
        ),
        *sentence(
            "An acknowledgement through the hot handle makes {position}, a range {range}, a read batch through the "
            "consumer {batch}.",
            position=value_text(run, "M.allocations.ack_position_allocations"),
            range=value_text(run, "M.allocations.ack_position_range_allocations"),
            batch=value_text(run, "M.allocations.ack_batch_allocations"),
        ),
        *sentence(
            "Compressing a batch of 100 orders asks for {compressed}, appending it as it is for {plain}.",
            compressed=value_text(run, "M.allocations.c100_on_bytes"),
            plain=value_text(run, "M.allocations.c100_off_bytes"),
        ),
        *sentence(
            "A boundary takes {disk} on disk and {memory} in memory; 16 shards with 10,000 boundaries each take {all}.",
            disk=value_text(run, "M.index.disk_per_boundary"),
            memory=value_text(run, "M.index.memory_per_boundary"),
            all=value_text(run, "M.index.shards16"),
        ),
        *sentence(
            "Compressing batches of 4 MiB adds {four} with 4 workers and {one} with one.",
            four=value_text(run, "M.buffers.workers4"),
            one=value_text(run, "M.buffers.workers1"),
        ),
        *sentence(
            "The typical deployment has {anonymous} of anonymous memory, {engine} of it the engine's; {files} of mapped "
            "file pages are the page cache's.",
            anonymous=value_text(run, "M.deployment.anonymous"),
            engine=value_text(run, "M.deployment.engine_anonymous"),
            files=value_text(run, "M.deployment.file_pages"),
        ),
        *failures(run, "M.allocations.kept_blocks"),
    ]


EXPERIMENT = Experiment(
    section="M",
    title="Memory",
    question="How often does an append or an acknowledgement ask for memory, and how much stays resident?",
    method=(
        "Allocations are counted by a library that stands in for malloc in a process of its own, where Python takes its "
        "objects from malloc too: the median of 30 calls after a warm-up beyond the numbers that Python keeps ready, the "
        "appending thread's alone. Blocks that stay come from sys.getallocatedblocks, the index in memory from tracemalloc, "
        "resident memory from /proc, anonymous pages and file pages apart. The typical deployment is 16 shards written with "
        "compression from 256 bytes on and consumed by one group in the same process. What was written is read back."
    ),
    limitations=(
        "Python's free lists and the objects it keeps ready (whole numbers up to 256) are no allocations. An append returns an "
        "entry number or a range, and that object is counted; the entries themselves are the caller's. The guide counts Go's "
        "allocations, which are another kind of work. File pages belong to the page cache and are given up under pressure."
    ),
    benchmarks=(),
    probes=PROBES,
    finding=finding,
)
