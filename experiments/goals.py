"""The speed goals that are ratios within one run: an append against the least the machine allows."""

from __future__ import annotations

import dataclasses
from typing import Any

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark, ConfigValue
from cometbench.experiment import Experiment
from cometbench.goals import FRAMES, SHARED_SYNCS, evaluate_goals
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.probes.variants import variants_probe
from experiments.q_quick import BURST_BYTES_MAX, workload_of

BATCHES = (100, 1000, 10_000)

# Bursts that the pages populated ahead hold; a worker's values together fill more than a segment, so that a rotation is among them.
_WRITER = Benchmark(
    name="goal.writer_append.mmap",
    experiment="goal",
    subject="mmap",
    implementation=ENGINE_SUBJECT,
    workload="json_line",
    durability="survives_process_crash",
    rounds="main",
    value_bytes_max=BURST_BYTES_MAX,
    config={"write_path": "mmap", "preset": "default", "via": "writer", "rest_ms": 30},
)
_SYSCALLS = dataclasses.replace(
    _WRITER,
    name="goal.mmap.syscalls",
    config={"write_path": "mmap", "preset": "default", "segment_size_bytes": 32 << 20},
    value_bytes_max=0,
    appends_max=1_000_000,
)


def _batch_pair(batch: int) -> tuple[Benchmark, Benchmark]:
    mmap = dataclasses.replace(
        _WRITER, name=f"goal.batch{batch}.mmap", batch=batch, workload=workload_of(batch)
    )
    return mmap, dataclasses.replace(
        mmap,
        name=f"goal.batch{batch}.c_loop",
        subject="c_loop",
        implementation="cometbench.subjects.c_loop:CLoop",
        config={},
    )


_PER_READ = 10_000


def _probe(name: str, function: str, values: tuple[str, ...], **fields: Any) -> Probe:
    return Probe(
        name=f"goal.{name}",
        experiment="goal",
        implementation=f"cometbench.probes.{function}",
        values={value: "blocks" if value == "blocks" else "ns" for value in values},
        subject="mmap",
        **{"durability": "survives_process_crash", "rounds": "probe", **fields},
    )


def _shared_syncs(kind: str) -> Probe:
    """Return the probe of durable single appends by 1, 2, 4 and 8 writers, which take turns."""
    variants: dict[str, dict[str, ConfigValue]] = {
        f"n{writers}": {kind: writers} for writers in (1, *SHARED_SYNCS)
    }
    probe = variants_probe(
        f"goal.durable_{kind}",
        variants,
        {"workload": "json_line", "write_path": "mmap", "sync_every": 1},
        seconds=2.0,
    )
    return dataclasses.replace(
        probe,
        subject="mmap",
        workload="json_line",
        processes=max(SHARED_SYNCS),
        durability="survives_power_loss",
        rounds="probe",
    )


_PROBES = (
    _probe(
        "ack", "acknowledging:acknowledge", ("ack", "empty_call", "blocks"), workload="json_line", batch=1000
    ),
    *(
        _probe(
            f"read{per_frame}",
            "reading:read_log",
            ("checksum", "zero_copy", "bytes", "entries"),
            workload="json_line",
            batch=per_frame,
            config={"per_frame": per_frame, "per_read": _PER_READ},
        )
        for per_frame in FRAMES
    ),
    _probe("wake", "waking:wake", ("log_p50", "pipe_p50"), processes=2, seconds=4.0),
    _probe("logging", "logging_handlers:log_records", ("log_handler", "file_handler")),
    _probe(
        "durable_batch",
        "durable_batch:measure",
        ("log", "pwrite"),
        workload="json_event",
        batch=1000,
        durability="survives_power_loss",
        seconds=0.75,
    ),
    *(_shared_syncs(kind) for kind in ("threads", "processes")),
    _probe(
        "writers",
        "writers:measure",
        (
            "one",
            "shared",
            "shards16",
            "batch100_one",
            "batch100_shared",
            "c_loop",
            "allowed",
        ),
        workload="json_line",
        processes=2,
        seconds=0.5,
    ),
    _probe(
        "ten_gb",
        "ten_gb:measure",
        ("opened", "filled", "c_loop"),
        workload="json_line",
        batch=1000,
        rounds="other",
        config={"shard_bytes": 10_000_000_000},
    ),
)


def finding(run: Run) -> list[str]:
    """Each goal that this run can judge: measured value with its interval, bound, verdict."""
    return [
        f"{result.goal.title}: {result.estimate.value:.3f} [{result.estimate.low:.3f}, "
        f"{result.estimate.high:.3f}] {result.unit},"
        f" at most {result.goal.bound:.3f}: {result.verdict} ({result.reason})"
        for result in evaluate_goals(run)
        if result.estimate is not None
    ]


EXPERIMENT = Experiment(
    section="goals",
    title="Speed goals",
    question=(
        "How close do an append, a durable append, several writers, 10 GB, a read, an acknowledgement and a wake-up "
        "come to the least that this machine and Python allow?"
    ),
    method=(
        "Ratios of workers of one round, all on new files: writer.append against os.write of the same bytes"
        " and against an empty C call in the same loop, client.append against writer.append, batches "
        "against a C loop that copies the same bytes objects one by one into a map that was allocated and "
        "populated beforehand. A value is a burst of at most 16 MiB after a pause of 30 ms, in which the "
        "engine's helper thread populates pages ahead; rotation falls into the bursts. Reading: a log of "
        f"160,000 entries from first to last, {_PER_READ:,} entries a read, checksums verified, beside one CRC32C pass over "
        "the same mapped bytes; without a copy means the places of all entries in the map. Waking: a consumer "
        "asleep in `batches`, and a reader of a multiprocessing.Pipe, from the clock reading before append or "
        "send to the message in hand. Logging: the same logger calls through both handlers with one formatter. "
        "Durable: a batch of 1,000 and a sync, beside pwrite of the same bytes at growing offsets of an allocated "
        "file and fdatasync; single appends with a sync each by 1, 2, 4 and 8 threads of one client, or processes. "
        "Several writers: processes, as many as CPUs and at most 8, in bursts of 16 MiB in all after a "
        "pause of 30 ms, from the first start to the last end; the C loop of as many takes each entry's place by "
        "compare-and-swap of one word and copies it into a populated map; on 16 shards each writer has a shard of its"
        " own. 10 GB: batches of 1,000 without a pause, and a C loop whose helper thread makes, allocates and "
        "populates 64 MiB files at most two ahead; the log is closed after 0.3 s and opened three times, until an "
        "append has returned. The sides of each take turns in one process, but those of 10 GB, which follow one "
        "another in an order that changes from round to round; everything read is compared with what was written, of "
        "10 GB the count and samples of every part."
    ),
    limitations=(
        "The C loop pays neither page faults nor rotation. A writer that never pauses is bound by how fast "
        "the file system hands out pages (floor fallocate_populate_mib); section Q shows it. Where other "
        "work takes the second CPU, the helper falls behind and the log pays the page faults itself. Where "
        "a system call is cheap the 1/7 goal asks for less than Python's own call costs; the goal is then "
        "the second one. The log that is read is in the page cache. The pipe keeps nothing; the log's entry "
        "survives the process. Other work on the CPUs delays whoever wakes, and leaves its caches cold. Several "
        "writers on all CPUs leave none to their helper threads, and a burst that outgrows what was populated pays "
        "page faults; their time includes how far apart they start. A disk that other work keeps busy makes syncs "
        "slower on one side or the other, and where its own sync is short the kernel's wake-ups weigh more than what "
        "is shared. Where the CPUs are busy, one writer waits for one after each sync and several wait at once: that "
        "flatters sharing. Now and then a sync of the log also writes some of what was populated ahead, and what "
        "its helper thread allocates in the other side's turn is in the other's sync. 10 GB are bound by how fast the file "
        "system hands out pages and, beyond what the kernel lets be dirty, by the disk: on both sides, but not always"
        " on the same bytes; it is the bench directory's file system alone (one on tmpfs shows the other). The shard "
        "is opened from the page cache; what was allocated ahead behind its last entry is looked at and can take "
        "longer than all else. Profiles that are short leave 10 GB out."
    ),
    benchmarks=(
        _WRITER,
        dataclasses.replace(
            _WRITER, name="goal.client_append.mmap", config={**_WRITER.config, "via": "client"}
        ),
        dataclasses.replace(
            _WRITER,
            name="goal.os_write",
            subject="os_write",
            implementation="cometbench.subjects.os_write:OsWrite",
            config={},
        ),
        dataclasses.replace(
            _WRITER,
            name="goal.empty_c_call",
            subject="empty_c_call",
            durability="none",
            config={},
            implementation="cometbench.subjects.empty_call:EmptyCall",
        ),
        *(benchmark for batch in BATCHES for benchmark in _batch_pair(batch)),
    ),
    probes=_PROBES,
    syscalls=(_SYSCALLS,),
    finding=finding,
)
