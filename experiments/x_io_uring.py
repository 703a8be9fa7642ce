"""Section X, the part that is a matter of system calls: an io_uring write path (X2)."""

from __future__ import annotations

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark
from cometbench.experiment import Experiment
from cometbench.findings import failures, gain_text, sentence, value_text
from cometbench.model import Run

BATCHES = (1, 100)
SUBMISSIONS = (1, 8, 32)
_WAYS = ("uring", "pwrite")


def _durable(write_path: str, batch: int) -> Benchmark:
    return Benchmark(
        name=f"X.uring.batch{batch}.{write_path}",
        experiment="X",
        subject=write_path,
        implementation=ENGINE_SUBJECT,
        workload="json_line",
        batch=batch,
        durability="survives_power_loss",
        rounds="other",
        config={"write_path": write_path},
    )


def _undurable(way: str, writes: int) -> Benchmark:
    return Benchmark(
        name=f"X.uring.writes{writes}.{way}",
        experiment="X",
        subject=f"{way}_writes",
        implementation="cometbench.subjects.uring_writes:UringWrites",
        workload="json_line",
        batch=writes,
        durability="survives_process_crash",
        rounds="other",
        config={"via": way},
    )


_DURABLE = tuple(_durable(path, batch) for batch in BATCHES for path in ("uring", "async", "sync"))
_UNDURABLE = tuple(_undurable(way, writes) for writes in SUBMISSIONS for way in _WAYS)


def finding(run: Run) -> list[str]:
    """Both questions with their ratios: as fast as what makes the same promise, and as fast as plain writes; then the reason."""
    lines = []
    for batch in BATCHES:
        ours = f"X.uring.batch{batch}.uring"
        lines += sentence(
            f"Batch {batch}, durable when it returns: uring takes {{time}}, {{async_}} the speed of async and {{sync}} that of "
            f"sync.",
            time=value_text(run, ours),
            async_=gain_text(run, f"X.uring.batch{batch}.async", ours),
            sync=gain_text(run, f"X.uring.batch{batch}.sync", ours),
        )
    for writes in SUBMISSIONS:
        ours = f"X.uring.writes{writes}.uring"
        lines += sentence(
            f"{writes} bare writes in one submission, no sync: {{time}}, {{pwrite}} the speed of as many calls of pwrite.",
            time=value_text(run, ours),
            pwrite=gain_text(run, f"X.uring.writes{writes}.pwrite", ours),
        )
    lines += sentence(
        "What limits the gain: one bare write takes {ours} through io_uring and {theirs} by pwrite. Every sync, and every buffered "
        "write where the file system cannot promise not to wait (ext4, tmpfs), goes to a worker thread of the kernel, which has to "
        "be woken and has to wake; the one call that a durable append saves costs less than that.",
        ours=value_text(run, "X.uring.writes1.uring"),
        theirs=value_text(run, "X.uring.writes1.pwrite"),
    )
    return [*lines, *failures(run, "X.uring.batch1.uring")]


EXPERIMENT = Experiment(
    section="X-uring",
    title="io_uring",
    question="Is a write path that submits write and sync to io_uring 20 to 30 % faster than one that makes system calls?",
    method=(
        "Equal durability: the uring path against async, from which it differs in nothing but one io_uring_enter in the place "
        "of pwrite and fdatasync, and against sync, which also syncs an index. Without a sync: 1, 8 and 32 bare writes in one "
        "submission against as many calls of pwrite of the same bytes into the same kind of file. One writer, interleaved, every "
        "log and file read back."
    ),
    limitations=(
        "The ring is used in the plainest way: no registered buffers or files, no polling thread of the kernel, which would "
        "take a CPU of its own. What the file system does not write without waiting goes through a worker thread of the "
        "kernel. Each pwrite is a call from Python, each write of a submission is not, which flatters io_uring. Skipped "
        "with the reason where the kernel refuses io_uring."
    ),
    benchmarks=(*_DURABLE, *_UNDURABLE),
    finding=finding,
)
