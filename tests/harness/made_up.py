"""Made-up measurements and runs: every value is chosen by the test, none is measured."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Return the A/A control; equal values mean a silent machine."""
    return [
        measurement("control.aa.1", first, experiment="control", workers=workers),
        measurement("control.aa.2", second, experiment="control", workers=workers),
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
    """Return a run that holds everything sections Q and G, the goals and the control need."""
    return run([*section_q(workers), *section_g(workers), *goals(workers), *control(workers=workers)])
