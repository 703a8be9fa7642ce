"""Section A: the engine's write paths and other systems, each beside those that survive the same (CLAIMS.md A1 to A5)."""

from __future__ import annotations

from typing import NamedTuple

from cometbench.alternatives import CLASSES, REFERENCE, ratio_to_engine, rows_of
from cometbench.benchmark import ENGINE_SUBJECT, Benchmark, ConfigValue
from cometbench.experiment import Experiment
from cometbench.model import Run
from cometbench.services.shared import KAFKA
from cometbench.stats import estimate
from cometbench.tables import DURABILITY_TEXT
from cometbench.units import format_ns, format_range, format_value
from experiments.q_quick import workload_of

_BATCHES = (1, 100, 1000)
_KILL, _CRASH, _POWER = CLASSES

_SUBJECTS = "cometbench.subjects"
_RAW_FILE = f"{_SUBJECTS}.raw_file:RawFile"
_SQLITE = f"{_SUBJECTS}.sqlite:Sqlite"
_LMDB = f"{_SUBJECTS}.lmdb:Lmdb"
_ROCKSDB = f"{_SUBJECTS}.rocksdb:RocksDb"
_REDIS = f"{_SUBJECTS}.redis_streams:RedisStreams"
_NATS = f"{_SUBJECTS}.nats_jetstream:NatsJetstream"
_KAFKA = f"{_SUBJECTS}.kafka:Kafka"
_SERVICES = "cometbench.services"


class System(NamedTuple):
    """One row of the table: a system in one setting, and what its acknowledgement promises in that setting."""

    subject: str
    implementation: str
    durability: str
    config: dict[str, ConfigValue]
    service: str = ""


SYSTEMS = (
    System("mmap", ENGINE_SUBJECT, _CRASH, {"write_path": "mmap", "preset": "multi_process"}),
    System("buffered", ENGINE_SUBJECT, _CRASH, {"write_path": "buffered"}),
    System(
        "mmap_sync",
        ENGINE_SUBJECT,
        _POWER,
        {"write_path": "mmap", "preset": "multi_process", "sync_every": 1},
    ),
    System("sync", ENGINE_SUBJECT, _POWER, {"write_path": "sync", "preset": "multi_process"}),
    System("async", ENGINE_SUBJECT, _POWER, {"write_path": "async", "preset": "multi_process"}),
    System("raw_file_buffered", _RAW_FILE, _KILL, {"buffered": True}),
    System("raw_file", _RAW_FILE, _CRASH, {"sync": False}),
    System("raw_file_sync", _RAW_FILE, _POWER, {"sync": True}),
    System("sqlite_off", _SQLITE, _CRASH, {"synchronous": "OFF"}),
    System("sqlite_normal", _SQLITE, _CRASH, {"synchronous": "NORMAL"}),
    System("sqlite_full", _SQLITE, _POWER, {"synchronous": "FULL"}),
    System("lmdb_nosync", _LMDB, _CRASH, {"sync": False}),
    System("lmdb_sync", _LMDB, _POWER, {"sync": True}),
    System("rocksdb", _ROCKSDB, _CRASH, {"sync": False}),
    System("rocksdb_sync", _ROCKSDB, _POWER, {"sync": True}),
    System("redis_everysec", _REDIS, _CRASH, {}, f"{_SERVICES}.redis:everysec"),
    System("redis_always", _REDIS, _POWER, {}, f"{_SERVICES}.redis:always"),
    System("nats", _NATS, _CRASH, {}, f"{_SERVICES}.nats:NatsServer"),
    System("nats_sync", _NATS, _POWER, {}, f"{_SERVICES}.nats:sync_always"),
    System("kafka_acks_1", _KAFKA, _CRASH, {"acks": "1"}, KAFKA),
    System("kafka_acks_all", _KAFKA, _CRASH, {"acks": "all"}, KAFKA),
    System("kafka_flush", _KAFKA, _POWER, {"acks": "all", "flush": True}, KAFKA),
)


def _benchmark(system: System, batch: int) -> Benchmark:
    return Benchmark(
        name=f"A.batch{batch}.{system.subject}",
        experiment="A",
        subject=system.subject,
        implementation=system.implementation,
        workload=workload_of(batch),
        batch=batch,
        durability=system.durability,
        rounds="other",
        service=system.service,
        config=system.config,
    )


def finding(run: Run) -> list[str]:
    """One sentence for each class and batch size, every system in it as a ratio to the engine; then what is missing."""
    lines = []
    for durability in CLASSES:
        rows = rows_of(run, durability)
        for batch in _BATCHES:
            found = [text for subject in rows if (text := _found(run, subject, batch, durability))]
            if found:
                lines.append(f"survives {DURABILITY_TEXT[durability]}, batch {batch:,}: {'; '.join(found)}")
    reasons = {
        m.failure: m.subject.split("_")[0]
        for m in run.measurements
        if m.experiment == "A" and m.failure is not None
    }
    return lines + [f"not measured, {system}: {reason}" for reason, system in reasons.items()]


def _found(run: Run, subject: str, batch: int, durability: str) -> str:
    row = next((m for m in rows_of(run, durability)[subject] if m.batch == batch and m.samples), None)
    if row is None:
        return ""
    time, ratio = estimate(row.samples, run.seed), ratio_to_engine(run, row)
    text = f"{subject} {format_ns(time.value)}"
    if ratio is None:
        return f"{text} [{format_range(time.low, time.high, 'ns')}]"
    interval = format_range(ratio.low, ratio.high, "x")
    return f"{text}, {format_value(ratio.value, 'x')} {REFERENCE[durability]} [{interval}]"


EXPERIMENT = Experiment(
    section="A",
    title="Against alternatives",
    question="What does one append cost in other systems that keep the same promise, and in the engine?",
    method=(
        "The same payload, one call per batch, returning when the system has acknowledged all of it: a transaction, a write batch, a "
        "pipeline, or messages whose every acknowledgement was awaited. Systems are grouped by what an acknowledged entry "
        "survives; ratios pair workers of one round with the engine's row of the same class. A server runs once for "
        "the whole run, with its data on the file system under test, and is stopped by SIGSTOP while others are "
        "measured. Each log is read back through the system's own reading interface and compared entry by entry."
    ),
    limitations=(
        "Servers pay for a socket and a second process, as they would on one machine; a network adds to it. They keep promises that "
        "the engine does not (replication, queries, remote clients), and their clients are Python's own. Each system runs "
        "with its defaults but for the setting named. Redis with everysec syncs once a second and NATS every two "
        "minutes: a power loss takes what came after. Kafka's acks=all on a single broker waits for its page cache "
        "like acks=1, so it survives a crash, not a power loss; kafka_flush (flush.messages=1) does. A batch is visible as "
        "a whole in the engine, SQLite, LMDB and RocksDB only. Kafka's broker takes records for 4 s before the first that counts."
    ),
    benchmarks=tuple(_benchmark(system, batch) for batch in _BATCHES for system in SYSTEMS),
    finding=finding,
)
