"""What limits a log is named from outside, while real processes write it."""

import dataclasses
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog
from cometlog.health import Health
from support import MIB, STREAM, Worker, make_config, payload, wait_until

STATISTICS_WORKERS = Path(__file__).with_name("statistics_workers.py")


def begin(start_worker: type[Worker], root: Path, kind: str, count: int = 1) -> list[Worker]:
    workers = [
        start_worker("work", script=STATISTICS_WORKERS, root=str(root), kind=kind) for _ in range(count)
    ]
    for worker in workers:
        assert worker.hear() == "ready"
    for worker in workers:
        worker.tell()
    return workers


@pytest.mark.parametrize(
    ("kind", "writers", "bottleneck", "words"),
    [
        ("compress small entries", 1, "cpu", "raise compression.threshold_bytes"),
        ("append singles", 1, "cpu", "append batches"),
        ("sync each append", 1, "io", "sync once for many entries"),
        ("append singles", 2, "contention", "2 writers append 1.0 entries at a time"),
        ("idle", 1, "none", "nobody appended or synced"),
    ],
)
def test_the_bottleneck_of_a_provoked_case_is_named(
    root: Path, start_worker: type[Worker], kind: str, writers: int, bottleneck: str, words: str
) -> None:
    workers = begin(start_worker, root, kind, writers)
    with cometlog.open(root, read_only=True) as client:
        if kind != "idle":
            wait_until(lambda: client.stats()[STREAM].frames > 1000 * writers, "the writers to get going")
        found = client.health(window_s=0.4)
    for worker in workers:
        worker.kill()
    assert found.bottleneck == bottleneck, found
    assert words in found.reasons[0], found
    assert (found.verdict, found.stalled_writers, found.poisoned) == ("ok", (), ())
    assert found.evidence["writers"] == (0 if kind == "idle" else writers)
    assert found.window_s >= 0.4


def test_writers_that_do_something_else_most_of_the_time_are_limited_by_nothing_here(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"entry"])
        found = client.health(window_s=0.05)
        assert (found.bottleneck, found.verdict) == ("none", "ok")
        with pytest.raises(TypeError):
            found.evidence["cpu_share"] = 1.0  # type: ignore[index]
        with pytest.raises(dataclasses.FrozenInstanceError):
            found.verdict = "failing"  # type: ignore[misc]


def test_a_log_without_streams_is_well(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        found = client.health(window_s=0.01)
    assert (found.verdict, found.bottleneck, found.evidence["writers"]) == ("ok", "none", 0)


@pytest.mark.parametrize("window_s", [0, -1, 3601, float("nan"), "1", True, None])
def test_a_window_out_of_range_is_refused_with_its_limits(root: Path, window_s: float) -> None:
    with (
        cometlog.open(root, make_config()) as client,
        pytest.raises(cometlog.ConfigurationError, match=r"window_s is 0\.01 to 3600 seconds, got"),
    ):
        client.health(window_s=window_s)


def test_a_writer_that_stands_still_is_named(root: Path, start_worker: type[Worker]) -> None:
    (worker,) = begin(start_worker, root, "append singles")

    def stopped_inside() -> Health | None:
        worker.stop()
        with cometlog.open(root, read_only=True) as client:
            found = client.health(window_s=0.05)
        if found.stalled_writers:
            return found
        worker.go_on()
        return None

    found = wait_until(stopped_inside, "the writer to be stopped inside an append")
    assert found.verdict == "attention"
    assert [writer.pid for writer in found.stalled_writers] == [worker.pid]
    assert f"process {worker.pid} stands still" in found.reasons[-1]
    worker.signal(signal.SIGKILL)


def test_a_shard_whose_sync_failed_is_named(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [payload(0, 0)])
        client._write_path(STREAM).shard.control.poison()  # type: ignore[attr-defined]
        found = client.health(window_s=0.01)
    assert (found.verdict, found.poisoned) == ("failing", (STREAM,))
    assert f"a sync of {STREAM} failed" in found.reasons[-1]


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={64 * MIB}", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_nearly_full_is_named_with_its_numbers(small_file_system: Path) -> None:
    with cometlog.open(small_file_system / "log", make_config(8 * MIB)) as client:
        client.append(STREAM, [b"entry"])
        assert client.health(window_s=0.01).verdict == "ok"
        (small_file_system / "filling").write_bytes(bytes(50 * MIB))
        found = client.health(window_s=0.01)
    assert found.verdict == "attention"
    assert found.free_bytes < 16 * MIB
    assert f"{found.free_bytes} of {64 * MIB} bytes are free" in found.reasons[-1]
