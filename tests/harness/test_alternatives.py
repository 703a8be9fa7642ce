"""Section A: rows of a class stand together and are compared with the engine's row of that class alone; what is missing says so."""

from __future__ import annotations

import made_up
from cometbench.alternatives import missing, ratio_to_engine, table_a
from cometbench.checkout import find_checkout
from cometbench.evaluate import evaluate_claims
from cometbench.experiment import load_experiments
from test_cli_measuring import cometbench

EXPERIMENT = load_experiments(find_checkout())["A"]
COMMAND = "redis-server is not installed; install it with: apt-get install redis-server"


def row(subject, value, durability, batch=1, failure=None):
    made = made_up.measurement(
        f"A.batch{batch}.{subject}", value, subject=subject, batch=batch, experiment="A"
    )
    changes = {"durability": durability, "failure": failure} | ({"samples": []} if failure else {})
    return made.model_copy(update=changes)


RUN = made_up.run(
    [
        row("kafka_flush", 3_000_000, "survives_power_loss"),
        row("mmap_sync", 300_000, "survives_power_loss"),
        row("raw_file_buffered", 300, "lost_on_kill"),
        row("redis_always", 1, "survives_power_loss", failure=COMMAND),
        row("lmdb_nosync", 4_000, "survives_process_crash"),
        row("mmap", 80, "survives_process_crash"),
        row("mmap", 1_600, "survives_process_crash", batch=100),
        row("redis_everysec", 1, "survives_process_crash", failure=COMMAND),
        *made_up.control(),
    ]
)


def test_rows_stand_by_class_then_by_batch():
    cells = [(cells[0], cells[1], cells[2], cells[5]) for cells in table_a(RUN).rows]
    assert cells == [
        ("nothing", "1", "raw_file_buffered", "–"),
        ("process crash", "1", "lmdb_nosync", "50.0x"),
        ("process crash", "1", "mmap", "–"),
        ("process crash", "1", "redis_everysec", "–"),
        ("process crash", "100", "mmap", "–"),
        ("power loss", "1", "kafka_flush", "10.0x"),
        ("power loss", "1", "mmap_sync", "–"),
        ("power loss", "1", "redis_always", "–"),
    ]


def test_no_row_is_compared_with_another_class_or_batch():
    buffered, only_other_batch = (
        RUN.find("A.batch1.raw_file_buffered"),
        made_up.run(
            [
                row("mmap", 1_600, "survives_process_crash", batch=100),
                row("lmdb", 4_000, "survives_process_crash"),
            ]
        ),
    )
    assert ratio_to_engine(RUN, buffered) is None
    assert ratio_to_engine(only_other_batch, only_other_batch.find("A.batch1.lmdb")) is None


def test_findings_give_ratios_by_class_and_what_is_missing():
    lines = EXPERIMENT.finding(RUN)
    assert lines[0].startswith("survives nothing, batch 1: raw_file_buffered 300 ns")
    assert (
        "survives process crash, batch 1: lmdb_nosync 4.00 µs, 50.0x mmap [50.0–50.0x]; mmap 80.0 ns"
        in lines[1]
    )
    assert any("kafka_flush 3.00 ms, 10.0x mmap_sync" in line for line in lines)
    assert lines[-1] == f"not measured, redis: {COMMAND}"


def test_a_missing_system_is_a_claim_that_was_not_measured_with_the_command():
    claims = {claim.id: claim for claim in evaluate_claims(RUN)}
    assert claims["A5.slowdown.redis"].verdict == "not measured"
    assert COMMAND in claims["A5.slowdown.redis"].reason
    assert claims["A5.slowdown.lmdb"].verdict == "reproduced"
    rows = [" | ".join(row) for row in table_a(RUN).rows]
    assert f"process crash | 1 | redis_everysec | – | – | – | – | – | {COMMAND}" in rows


def test_a_required_system_that_was_not_measured_is_named():
    assert missing(RUN, ["kafka", "mmap"]) == []
    assert missing(RUN, ["redis"]) == [
        f"A.batch1.redis_always is required: {COMMAND}",
        f"A.batch1.redis_everysec is required: {COMMAND}",
    ]
    assert missing(RUN, ["pulsar"]) == [
        "pulsar is required and is no system of this run; there are kafka, lmdb, mmap, raw, redis"
    ]


def test_a_run_without_a_required_system_fails(tmp_path, extra):
    places = ["--results", tmp_path / "results", "--directory", tmp_path / "bench", "--extra", extra]
    done = cometbench(
        "alternatives", *places, "--profile", "smoke", "--sections", "floors", "--require", "kafka"
    )
    assert done.returncode == 1
    assert "FAILED kafka is required and is no system of this run" in done.stderr


def test_every_benchmark_says_what_it_survives_and_each_system_has_every_batch_size():
    classes = {benchmark.durability for benchmark in EXPERIMENT.benchmarks}
    assert classes == {"lost_on_kill", "survives_process_crash", "survives_power_loss"}
    batches: dict[str, list[int]] = {}
    for benchmark in EXPERIMENT.benchmarks:
        batches.setdefault(benchmark.subject, []).append(benchmark.batch)
    assert set(map(tuple, batches.values())) == {(1, 100, 1000)}
