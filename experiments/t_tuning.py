"""Section T: the tuning checklist and the hardware notes, each advice with and without (T11 is a matter of profiles)."""

from __future__ import annotations

from cometbench.benchmark import ConfigValue
from cometbench.experiment import Experiment
from cometbench.findings import failures, gain, gain_text, sentence, value_text
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.probes.variants import variants_probe
from cometbench.units import format_range, significant

PRESETS = ("ultra_low_latency", "high_throughput", "high_compression", "multi_process")
PRESET_WORKLOADS: dict[str, dict[str, ConfigValue]] = {
    "lines_batch1": {"workload": "json_line"},
    "events_batch100": {"workload": "json_event", "batch": 100},
    "orders_batch100": {"workload": "json_order", "batch": 100},
}
# The largest segment that the engine takes stands for the guide's 10 GB.
_DISKS: dict[str, dict[str, ConfigValue]] = {
    "default": {},
    "hdd": {
        "segment_size_bytes": 8 << 30,
        "storage.checkpoint_interval_ms": 5000,
        "compression.threshold_bytes": 256,
    },
    "nvme": {"storage.checkpoint_interval_ms": 500, "indexing.max_index_entries": 100_000},
}
_LARGER: dict[str, ConfigValue] = {"segment_size_bytes": 1 << 30}
_SMALLER_THRESHOLD: dict[str, ConfigValue] = {"compression.threshold_bytes": 512}
_TUNED_CPU: dict[str, ConfigValue] = {
    "compression.threshold_bytes": 10_240,
    "indexing.boundary_interval_entries": 1000,
}
_DOCUMENTS: dict[str, ConfigValue] = {"workload": "json_document", "group": "documents"}

VARIANTS = (
    variants_probe(
        "T.cpu",
        {
            "default_documents": _DOCUMENTS,
            "tuned_documents": {**_DOCUMENTS, **_TUNED_CPU},
            "default_lines": {"workload": "json_line"},
            "tuned_lines": {"workload": "json_line", **_TUNED_CPU},
            "boundary100_lines": {"workload": "json_line", "indexing.boundary_interval_entries": 100},
        },
        {"rest_ms": 2},
        sizes=("default_documents_stored", "tuned_documents_stored"),
    ),
    variants_probe(
        "T.io",
        {
            "default": {},
            "larger_segments": _LARGER,
            "threshold512": _SMALLER_THRESHOLD,
            "both": {**_LARGER, **_SMALLER_THRESHOLD},
        },
        {"workload": "json_order", "batch": 100, "sync_every": 1},
    ),
    variants_probe(
        "T.contention",
        {
            "one_shard": {},
            "shards32": {"shards": 32},
            "one_shard_batch100": {"batch": 100},
            "shards32_batch100": {"shards": 32, "batch": 100},
        },
        {"workload": "json_shared", "preset": "multi_process", "processes": 4},
    ),
    variants_probe(
        "T.cores",
        {
            "one_process": {},
            "two_processes": {"processes": 2, "shards": 2},
            "one_thread": {"threads": 1},
            "four_threads": {"threads": 4, "shards": 4},
        },
        {"workload": "json_event", "batch": 100, "memory": True, "rest_ms": 2},
    ),
    variants_probe(
        "T.storage",
        {
            "disk": {},
            "memory": {"memory": True},
            "disk_synced": {"sync_every": 1},
            "memory_synced": {"memory": True, "sync_every": 1},
        },
        {"workload": "json_event", "batch": 100},
    ),
    variants_probe(
        "T.writes",
        {
            f"{path}_batch{batch}": {"write_path": path, "batch": batch, "group": path}
            for path in ("buffered", "mmap")
            for batch in (1, 100, 1000)
        },
        {"workload": "json_event", "rest_ms": 2},
        seconds=0.4,
    ),
    variants_probe(
        "T.disks",
        {
            f"{place}_{disk}": {**settings, "memory": place == "memory", "group": place}
            for place in ("disk", "memory")
            for disk, settings in _DISKS.items()
        },
        {"workload": "json_order", "batch": 100, "sync_every": 10},
    ),
    variants_probe(
        "T.workers",
        {f"workers{count}": {"compression.workers": count} for count in (1, 2, 4)},
        {"workload": "json_order", "batch": 2000, "compression.threshold_bytes": 256},
    ),
    variants_probe(
        "T.presets",
        {
            f"{preset}_{name}": {"preset": preset, "group": name, **workload}
            for name, workload in PRESET_WORKLOADS.items()
            for preset in ("default", *PRESETS)
        },
        {"rest_ms": 2},
        seconds=0.8,
    ),
)


def _probe(name: str, function: str, values: dict[str, str], seconds: float = 0.4) -> Probe:
    return Probe(
        name=name,
        experiment="T",
        subject="cometlog",
        implementation=f"cometbench.probes.disk:{function}",
        values=values,
        seconds=seconds,
    )


PROBES = (
    *VARIANTS,
    _probe(
        "T.checksum",
        "checksums",
        dict.fromkeys(("append", "instruction", "table", "append_by_table"), "ns"),
        0.2,
    ),
    _probe("T.disk", "floor", {"sequential_write": "bytes/s", "random_read": "ns"}),
    _probe("T.seeks", "seeks", {"boundary1000": "ns", "boundary100": "ns"}),
    _probe(
        "T.access_times",
        "access_times",
        {f"{what}_{name}": "ns" for what in ("append", "read") for name in ("atime", "relatime", "noatime")},
    ),
)

ADVICE: dict[str, tuple[str, str]] = {
    # what is advised (or advised against): before, after
    "T1 threshold 10240, documents": ("T.cpu.default_documents", "T.cpu.tuned_documents"),
    "T1 both settings, 117-byte lines": ("T.cpu.default_lines", "T.cpu.tuned_lines"),
    "T1 boundary 1000 instead of 100": ("T.cpu.boundary100_lines", "T.cpu.default_lines"),
    "T2 larger segments": ("T.io.default", "T.io.larger_segments"),
    "T2 threshold 512": ("T.io.default", "T.io.threshold512"),
    "T3 32 shards": ("T.contention.one_shard", "T.contention.shards32"),
    "T3 batches of 100": ("T.contention.one_shard", "T.contention.one_shard_batch100"),
    "T4 two cores": ("T.cores.one_process", "T.cores.two_processes"),
    "T4 four threads": ("T.cores.one_thread", "T.cores.four_threads"),
    "T4 checksum by SIMD": ("T.checksum.append_by_table", "T.checksum.append"),
    "T4 memory instead of disk": ("T.storage.disk", "T.storage.memory"),
    "T4 memory instead of disk, synced": ("T.storage.disk_synced", "T.storage.memory_synced"),
    "T4 batches of 100, buffered": ("T.writes.buffered_batch1", "T.writes.buffered_batch100"),
    "T4 writes ten times larger, buffered": ("T.writes.buffered_batch100", "T.writes.buffered_batch1000"),
    "T5 settings for hard disks": ("T.disks.disk_default", "T.disks.disk_hdd"),
    "T5 settings for NVMe": ("T.disks.disk_default", "T.disks.disk_nvme"),
    "T6 4 compression workers": ("T.workers.workers1", "T.workers.workers4"),
    "T7 noatime instead of relatime": ("T.access_times.append_relatime", "T.access_times.append_noatime"),
}


def finding(run: Run) -> list[str]:
    """Each advice with its gain; the best that a preset does anywhere; the disk's own floor; what could not be measured."""
    lines = [
        line
        for advice, (before, after) in ADVICE.items()
        for line in sentence(f"{advice}: {{gain}} as fast.", gain=gain_text(run, before, after))
    ]
    lines += _presets(run)
    lines += sentence(
        "T1's documents take {before} of their bytes with the default threshold and {after} with 10240.",
        before=value_text(run, "T.cpu.default_documents_stored"),
        after=value_text(run, "T.cpu.tuned_documents_stored"),
    )
    lines += sentence(
        "The disk writes {rate} in sequence and reads a random page in {read}; reading an entry by its number takes {seek} "
        "from the page cache, {near} with boundaries 100 entries apart.",
        rate=value_text(run, "T.disk.sequential_write"),
        read=value_text(run, "T.disk.random_read"),
        seek=value_text(run, "T.seeks.boundary1000"),
        near=value_text(run, "T.seeks.boundary100"),
    )
    return lines + failures(run, "T.access_times.append_noatime", "T.disk.random_read", "T.checksum.append")


def _presets(run: Run) -> list[str]:
    lines = []
    for name in PRESET_WORKLOADS:
        gains = {
            preset: found
            for preset in PRESETS
            if (found := gain(run, f"T.presets.default_{name}", f"T.presets.{preset}_{name}")) is not None
        }
        if gains:
            preset, best = max(gains.items(), key=lambda item: item[1].value)
            interval = format_range(best.low, best.high, "x")
            lines.append(
                f"T9 {name.replace('_', ', ')}: the fastest preset, {preset}, is {significant(best.value)}x "
                f"[{interval}] as fast as the default."
            )
    return lines


EXPERIMENT = Experiment(
    section="T",
    title="Tuning checklist",
    question="Which of the guide's tuning advice pays here, by how much, and which of its warnings hold?",
    method=(
        "Each advice as a pair of settings that append the same entries in turns, in one process and one round; the gain "
        "is the time before by the time after. A value holds as many entries for each of them, and where nothing is synced it "
        "is four bursts after pauses, each within what the engine populates ahead. T2, T5 and T7 sync, because without a "
        "sync no disk is waited for. T3 and the cores of T4 use real processes, the latter on tmpfs, where no disk is in the "
        "way. T4's SIMD row sets the checksum by the CPU's instruction against one by a table: the append was measured with the "
        "instruction, and the difference of the two checksums added. tmpfs stands "
        "for storage that is as fast as memory. T7 mounts one image three ways, in a mount namespace of its own. Reads of "
        "T10 pass the page cache by O_DIRECT; seeks read single entries by random number."
    ),
    limitations=(
        "The guide states no size for its advice, so the verdict is about the direction; where it says that something will "
        "not help, a gain refutes it. A hard disk and an NVMe disk need that hardware: T5 shows their settings on this disk "
        "and on tmpfs. Segments rotate only where a value writes more than 64 MiB, so the quick profile shows no effect of "
        "larger ones. No append reads, so access times could only touch readers, and relatime writes one at most a day. "
        "The engine compresses on the calling thread with 1 worker, which is also what 0 workers would mean."
    ),
    benchmarks=(),
    probes=PROBES,
    finding=finding,
)
