"""Made-up measurements and runs: every value is chosen by the test, none is measured."""

from __future__ import annotations

from collections.abc import Sequence

from cometbench.histogram import Histogram
from cometbench.latency import summarise_histograms
from cometbench.model import Durability, LatencySummary, Machine, Measurement, Run, Sample, Verification

MACHINE = Machine(
    machine_id="made-up-0123abcd", label="Made-up machine", hardware={"cpu": "none", "cores": 2}
)
SPREAD = (1.0, 1.02, 0.98, 1.01, 0.99, 1.03, 0.97)
BATCHES = (1, 10, 100, 1000, 10000)
DURABILITY: dict[str, Durability] = {
    "sync": "survives_power_loss",
    "async": "survives_power_loss",
    "buffered": "survives_process_crash",
    "mmap": "survives_process_crash",
}


def samples(value: float, workers: int = 5, spread: Sequence[float] = SPREAD) -> list[Sample]:
    """One sample per round around `value`; the same rounds for every measurement, so all of them pair."""
    return [
        Sample(round=number, order=0, values=[value * spread[number % len(spread)]] * 3)
        for number in range(workers)
    ]


def measurement(
    name: str,
    value: float,
    *,
    subject: str = "mmap",
    batch: int = 1,
    processes: int = 1,
    workers: int = 5,
    experiment: str = "Q",
    metric: str = "time_per_append",
    unit: str = "ns",
    verification: Verification | None = None,
) -> Measurement:
    """Return a measurement around `value` whose log was read back whole, unless said otherwise."""
    return Measurement(
        name=name,
        experiment=experiment,
        subject=subject,
        batch=batch,
        processes=processes,
        metric=metric,
        unit=unit,
        durability=DURABILITY.get(subject, "none"),
        file_system="ext4",
        samples=samples(value, workers),
        verification=verification or Verification(status="ok", entries_expected=1000, entries_found=1000),
        extra={"entry_bytes_mean": 105.0},
    )


def floors() -> list[Measurement]:
    """Return the floors that the report's multiples need."""
    values = {"clock_read": 25.0, "cas": 6.0, "write_128": 900.0, "write_1mib": 250e3, "fdatasync_128": 180e3}
    found = [
        measurement(f"floor.{name}", value, subject="floor", experiment="floor")
        for name, value in values.items()
    ]
    bandwidth = measurement(
        "floor.memcpy_hot",
        11e9,
        subject="floor",
        experiment="floor",
        metric="bandwidth",
        unit="bytes_per_second",
    )
    return [*found, bandwidth]


def section_q(workers: int = 5) -> list[Measurement]:
    """All of section Q: fixed cost plus cost per entry for each reading."""
    shapes = (
        ("buffered", "buffered.processes1", 1, 1500.0, 60.0),
        ("mmap", "mmap.processes1", 1, 90.0, 22.0),
        ("mmap", "mmap.one_writer", 1, 95.0, 22.0),
        ("mmap", "mmap.processes2", 2, 160.0, 25.0),
        ("mmap", "mmap.processes4", 4, 330.0, 48.0),
        ("mmap", "mmap.processes8", 8, 700.0, 96.0),
    )
    return [
        measurement(
            f"Q.batch{batch}.{suffix}",
            fixed + each * batch,
            subject=subject,
            batch=batch,
            processes=processes,
            workers=workers,
        )
        for batch in BATCHES
        for subject, suffix, processes, fixed, each in shapes
    ]


def section_g(workers: int = 5) -> list[Measurement]:
    """All of section G, with a latency pass and syscall counts."""
    found = []
    times = (("buffered", 1560.0, 1.0), ("sync", 900e3, 9.0), ("async", 240e3, 5.0), ("mmap", 112.0, 0.0))
    for path, value, syscalls in times:
        found.append(measurement(f"G.{path}.batch1", value, subject=path, experiment="G", workers=workers))
        latency = LatencySummary(
            count=50_000,
            p50_ns=value,
            p90_ns=value * 1.2,
            p99_ns=value * 3,
            timer_overhead_ns=40,
            key=f"G.{path}.latency",
        )
        found.append(
            measurement(f"G.{path}.latency", value, subject=path, experiment="G", workers=workers).model_copy(
                update={"latency": latency, "metric": "latency"}
            )
        )
        found.append(
            measurement(
                f"G.{path}.syscalls",
                syscalls,
                subject=path,
                experiment="G",
                workers=workers,
                metric="count_per_append",
                unit="syscalls",
            ).model_copy(update={"extra": {"appends": 1_000_000.0}})
        )
    return found


def timed(name: str, rounds: Sequence[Histogram], *, subject: str = "mmap") -> Measurement:
    """Return a measurement of many samples with one histogram a round."""
    one = measurement(
        name, 1.0, subject=subject, experiment=name.partition(".")[0], workers=len(rounds), metric="response"
    )
    return one.model_copy(
        update={
            "samples": [
                Sample(round=number, order=0, values=[histogram.quantile(50)])
                for number, histogram in enumerate(rounds)
            ],
            "latency": summarise_histograms([histogram.to_text() for histogram in rounds], 70.0),
            "extra": {"timer_overhead_ns": 70.0},
        }
    )


def around(typical_ns: int, rare_ns: int, count: int = 20_000) -> Histogram:
    """Return a histogram in which 1 in 50 samples takes `rare_ns`: its p50 is typical, its p99 is rare."""
    rare = count // 50
    return Histogram.of([typical_ns] * (count - rare) + [rare_ns] * rare)


def under_load(
    probe: str, typical_ns: int, rare_ns: int, idle_ns: int, workers: int = 5
) -> list[Measurement]:
    """Return a probe of open-loop load: response times grow with the load, service and stall meter do not."""
    subject = "buffered" if "buffered" in probe else "mmap"
    found = [
        measurement(
            f"{probe}.capacity", 1e6, experiment="S", metric="capacity", unit="appends/s", workers=workers
        )
    ]
    found[0] = found[0].model_copy(update={"extra": {"timer_overhead_ns": 70.0}})
    found.append(timed(f"{probe}.idle_response", [around(80, idle_ns)] * workers, subject=subject))
    for load in (10, 25, 50, 80):
        waiting = around(typical_ns, rare_ns * load // 50)
        found.append(timed(f"{probe}.load{load}_response", [waiting] * workers, subject=subject))
        found.append(
            timed(
                f"{probe}.load{load}_service", [around(typical_ns, 2 * typical_ns)] * workers, subject=subject
            )
        )
    return found


def section_s(workers: int = 5) -> list[Measurement]:
    """Return every subject of section S under load."""
    paths = {
        "mmap": 150,
        "buffered": 3_000,
        "mmap_synced": 160,
        "buffered_synced": 3_200,
        "processes2": 200,
        "processes2_synced": 250,
    }
    return [
        one
        for name, typical in paths.items()
        for one in under_load(f"S.{name}", typical, 20 * typical, 900, workers)
    ]


def goals(workers: int = 5) -> list[Measurement]:
    """Every measurement of the project's goals."""
    single = {
        "writer_append.mmap": 90.0,
        "os_write": 1100.0,
        "empty_c_call": 40.0,
        "client_append.mmap": 260.0,
    }
    found = [
        measurement(f"goal.{name}", value, experiment="goal", workers=workers)
        for name, value in single.items()
    ]
    for batch in (100, 1000, 10000):
        for subject, each in (("mmap", 22.0), ("c_loop", 14.0)):
            name = f"goal.batch{batch}.{subject}"
            found.append(
                measurement(
                    name, each * batch, subject=subject, batch=batch, experiment="goal", workers=workers
                )
            )
    return found


def control(first: float = 100.0, second: float = 100.0, workers: int = 5) -> list[Measurement]:
    """Return the A/A controls of both paths; equal values mean a silent machine."""
    return [
        measurement(f"control.{name}.{number}", value, subject=subject, experiment="control", workers=workers)
        for name, subject in (("aa", "mmap"), ("buffered", "buffered"))
        for number, value in ((1, first), (2, second))
    ]


def run(measurements: Sequence[Measurement] = (), *, with_floors: bool = True) -> Run:
    """Return a finished run without claims."""
    return Run(
        run_id="20250131T120000Z-0123abc-quick",
        machine_id=MACHINE.machine_id,
        profile="quick",
        started_utc="2025-01-31T12:00:00Z",
        finished_utc="2025-01-31T12:04:00Z",
        commit="0123abc4567",
        dirty=False,
        versions={"python": "3.11.7", "cometlog": "0.1.0"},
        seed=7,
        environment={"kernel": "6.18", "file_system": "ext4", "governor": None},
        floors=floors() if with_floors else [],
        measurements=list(measurements),
    )


def whole_run(workers: int = 5) -> Run:
    """Return a run that holds everything sections Q, G and the latencies of S, the goals and the control need."""
    sections = [*section_q(workers), *section_g(workers), *section_s(workers)]
    return run([*sections, *goals(workers), *control(workers=workers)])


def _counted(name: str, value: float, unit: str, **changes: object) -> Measurement:
    one = measurement(
        name, value, experiment=name.partition(".")[0], metric=name.rpartition(".")[2], unit=unit
    )
    return one.model_copy(update=changes)


def section_c() -> list[Measurement]:
    """Return compression with and without a dictionary and the preset: slowdowns and bytes saved."""
    found = []
    for batch in (1, 10, 100):
        for name, value in (("off", 500.0), ("on", 9_000.0)):
            found.append(measurement(f"C.batch{batch}.{name}", value * batch, batch=batch, experiment="C"))
        for name, value in (("off", 500.0), ("zstd", 8_000.0), ("dictionary", 4_000.0)):
            found.append(_counted(f"C.dictionary.{name}_batch{batch}", value * batch, "ns"))
        for name, saved in (("zstd", 40.0), ("dictionary", 75.0)):
            found.append(_counted(f"C.dictionary.{name}_batch{batch}_saved", saved + batch / 10, "%"))
    for batch in (1, 100):
        for name, value in (("default", 500.0), ("high", 40_000.0)):
            found.append(_counted(f"C.profiles.{name}_batch{batch}", value * batch, "ns"))
        found.append(_counted(f"C.profiles.high_batch{batch}_saved", 78.0, "%"))
    return found


def section_m() -> list[Measurement]:
    """Return allocations of a call on two paths."""
    return [
        _counted(f"M.allocations.q{batch}_{path}_allocations", value, "allocations")
        for batch in BATCHES
        for path, value in (("buffered", 20.0), ("mmap", 4.0))
    ]


def section_a() -> list[Measurement]:
    """Return systems of every class of durability."""
    times: tuple[tuple[str, float, Durability], ...] = (
        ("raw_file_buffered", 500.0, "lost_on_kill"),
        ("mmap", 480.0, "survives_process_crash"),
        ("sqlite_normal", 21e3, "survives_process_crash"),
        ("mmap_sync", 1.2e6, "survives_power_loss"),
        ("kafka_flush", 11e6, "survives_power_loss"),
    )
    return [
        measurement(f"A.batch1.{subject}", value, subject=subject, experiment="A").model_copy(
            update={"durability": durability}
        )
        for subject, value, durability in times
    ]


def section_t() -> list[Measurement]:
    """Return two advices, one that pays and one that costs, and a preset."""
    values = {"one_shard": 1000.0, "shards32": 1500.0, "one_shard_batch100": 300.0}
    presets = {"default_lines_batch1": 100.0, "high_compression_lines_batch1": 300.0}
    return [
        *(_counted(f"T.contention.{name}", value, "ns") for name, value in values.items()),
        *(_counted(f"T.presets.{name}", value, "ns") for name, value in presets.items()),
    ]


def section_y() -> list[Measurement]:
    """Return the time budgets of two works with py-spy's share, and the calibrator's bias."""
    found = [_counted("Y.calibrator.bias", 3.5, "points")]
    for work, shares in (("batch1_mmap", (60.0, 5.0, 30.0, 5.0)), ("batch1_sync", (10.0, 20.0, 1.0, 65.0))):
        for name, value in zip(("user", "syscalls", "faults", "blocked"), shares, strict=True):
            found.append(_counted(f"Y.budget.{work}_{name}", value, "% of wall time"))
        found.append(_counted(f"Y.budget.{work}_ns", 900.0, "ns"))
        found.append(_counted(f"Y.py_spy_{work}.rusage_in_syscalls", shares[1], "%", subject="py-spy"))
        found.append(
            _counted(
                f"Y.py_spy_{work}.in_syscalls",
                shares[1],
                "%",
                subject="py-spy",
                extra={"half_width_points": 3.0},
            )
        )
    return found


def run_with_every_figure() -> Run:
    """Return a run that every figure of the report can be drawn from."""
    rest = [*section_c(), *section_m(), *section_a(), *section_t(), *section_y()]
    known = whole_run()
    return known.model_copy(update={"measurements": [*known.measurements, *rest]})
