"""Section C: what compressing an append costs and saves, with and without a trained dictionary; storage recipes (P3, K3, S5)."""

from __future__ import annotations

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark, ConfigValue
from cometbench.experiment import Experiment
from cometbench.findings import gain_text, sentence, value_text
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.probes.variants import variants_probe

BATCHES = (1, 10, 100)
OFF_BYTES, ON_BYTES = 1 << 30, 256
_THRESHOLDS = {"off": OFF_BYTES, "on": ON_BYTES}
_DICTIONARY: dict[str, ConfigValue] = {
    "compression.threshold_bytes": ON_BYTES,
    "dictionary_samples": 2000,
    "dictionary_workload": "json_order",
}
_ORDERS: dict[str, ConfigValue] = {"workload": "json_order", "rest_ms": 2}


def _benchmark(batch: int, name: str) -> Benchmark:
    return Benchmark(
        name=f"C.batch{batch}.{name}",
        experiment="C",
        subject="mmap",
        implementation=ENGINE_SUBJECT,
        workload="json_order",
        batch=batch,
        durability="survives_process_crash",
        rounds="probe",
        config={"compression.threshold_bytes": _THRESHOLDS[name]},
    )


def _by_batch(**settings: dict[str, ConfigValue]) -> dict[str, dict[str, ConfigValue]]:
    return {
        f"{name}_batch{batch}": {"batch": batch, "group": str(batch), **setting}
        for name, setting in settings.items()
        for batch in BATCHES
    }


def _sizes(names: tuple[str, ...], size: str) -> tuple[str, ...]:
    return tuple(f"{name}_batch{batch}_{size}" for name in names for batch in BATCHES)


_OFF: dict[str, ConfigValue] = {"compression.threshold_bytes": OFF_BYTES}
_ON: dict[str, ConfigValue] = {"compression.threshold_bytes": ON_BYTES}
_RECIPE: dict[str, ConfigValue] = {
    "preset": "high_compression",
    "compression.threshold_bytes": 128,
    "batch": 100,
}

PROBES = (
    variants_probe(
        "C.dictionary",
        _by_batch(off=_OFF, zstd=_ON, dictionary=_DICTIONARY),
        _ORDERS,
        sizes=_sizes(("zstd", "dictionary"), "saved") + _sizes(("zstd", "dictionary"), "ratio"),
    ),
    variants_probe(
        "C.buffered",
        _by_batch(off=_OFF, on=_ON),
        {"workload": "json_order", "write_path": "buffered"},
        seconds=0.4,
    ),
    variants_probe(
        "C.profiles",
        {
            "default_batch1": {"group": "single"},
            "high_batch1": {"preset": "high_compression", "group": "single"},
            "default_batch100": {"batch": 100},
            "high_batch100": {"preset": "high_compression", "batch": 100},
            "recipe_orders": _RECIPE,
            "recipe_lines": {**_RECIPE, "workload": "json_line"},
        },
        _ORDERS,
        sizes=(
            *("high_batch1_saved", "high_batch100_saved", "high_batch100_ratio"),
            *("recipe_orders_stored", "recipe_orders_ratio", "recipe_lines_stored", "recipe_lines_ratio"),
        ),
    ),
    Probe(
        name="C.default",
        experiment="C",
        subject="cometlog",
        implementation="cometbench.probes.compression:default_threshold",
        values={"violations": "violations"},
        rounds="once",
    ),
)


def finding(run: Run) -> list[str]:
    """Cost and saving at each batch size, then the dictionary, the recipes and what the objective would need."""
    lines = []
    for batch in BATCHES:
        lines += sentence(
            "Batch of {batch}: compression makes an append {slower} slower without a pause, {burst} slower in bursts, and "
            "saves {saved} of the bytes; with a trained dictionary it is {dictionary} slower in bursts and saves {more}.",
            batch=str(batch),
            slower=gain_text(run, f"C.batch{batch}.on", f"C.batch{batch}.off"),
            burst=gain_text(run, f"C.dictionary.zstd_batch{batch}", f"C.dictionary.off_batch{batch}"),
            saved=value_text(run, f"C.dictionary.zstd_batch{batch}_saved"),
            dictionary=gain_text(
                run, f"C.dictionary.dictionary_batch{batch}", f"C.dictionary.off_batch{batch}"
            ),
            more=value_text(run, f"C.dictionary.dictionary_batch{batch}_saved"),
        )
    lines += sentence(
        "The preset high_compression saves {single} of single orders and {batch} in batches of 100, {slower} slower there "
        "than the default.",
        single=value_text(run, "C.profiles.high_batch1_saved"),
        batch=value_text(run, "C.profiles.high_batch100_saved"),
        slower=gain_text(run, "C.profiles.high_batch100", "C.profiles.default_batch100"),
    )
    lines += sentence(
        "The recipe for minimum storage stores {orders} of each byte of orders; the guide's own 117-byte lines stay below "
        "its threshold of 128 bytes and take {lines}.",
        orders=value_text(run, "C.profiles.recipe_orders_stored"),
        lines=value_text(run, "C.profiles.recipe_lines_stored"),
    )
    return lines


EXPERIMENT = Experiment(
    section="C",
    title="Compression",
    question="What does compressing an append of about 800-byte orders cost in time, and how many bytes does it save?",
    method=(
        "JSON order logs, every one different, in calls of 1, 10 and 100; off is a threshold of 1 GiB, on one of 256 "
        "bytes, both on the mmap path of a new log, each in a process of its own, ratios paired within rounds; off and on "
        "again on the buffered path, and off, zstd and zstd with a dictionary side by side in one process that takes them "
        "in turns, in bursts with a pause in which pages are populated ahead. The dictionary has at most 64 KiB and was "
        "trained on 2,000 other orders. Bytes saved are those of the "
        "frames, headers and padding included, against those given; every log is read back and compared."
    ),
    limitations=(
        "What is saved depends on the entries more than on anything else: these hold random ids that no compressor can "
        "shorten, and a dictionary knows the rest of them by heart. One thread writes; compressed frames are made by the "
        "calling thread. The guide's entries are not published, so its ~37 % is compared with other orders of that size. "
        "A writer that never pauses is bound by how fast the file system hands out pages, which compressing needs fewer of: its "
        "slowdown without a pause is the smaller one."
    ),
    benchmarks=tuple(_benchmark(batch, name) for batch in BATCHES for name in ("off", "on")),
    probes=PROBES,
    finding=finding,
)
