"""Latencies and counters in shared memory: what is sampled, who sees it, what survives a kill or a damaged file."""

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import cometlog
from cometlog.control import Control
from cometlog.kernel import layout
from cometlog.kernel.histogram import bucket_index
from cometlog.latency import LatencyHistogram, bucket_bounds_ns
from cometlog.statistics import ShardStatistics
from support import KIB, PATHS, SHARD, SHARED_PATHS, STREAM, Worker, make_config, payload, read_all

STATISTICS_WORKERS = Path(__file__).with_name("statistics_workers.py")
CONFIG = make_config(64 * KIB, 3_600_000)
FILE = SHARD / "statistics"


def seen_from_outside(root: Path) -> ShardStatistics:
    with cometlog.open(root, read_only=True) as client:
        return client.stats()[STREAM]


def samples(found: ShardStatistics) -> int:
    return found.latency.sample_count + found.latency_shared.sample_count


def samples_due(root: Path) -> int:
    """What 1-in-64 sampling yields: every 64th append of each slot."""
    control = Control(root / SHARD / "control", writable=False)
    frames = [control.slot_counter(slot, layout.SLOT_FRAMES) for slot in range(layout.SLOT_COUNT)]
    control.close()
    return sum(count // layout.LATENCY_SAMPLING for count in frames)


# ---- Buckets ----


def test_buckets_follow_one_another_without_a_gap_and_none_is_wider_than_a_sixteenth() -> None:
    bounds = [bucket_bounds_ns(index) for index in range(layout.LATENCY_BUCKETS)]
    assert bounds[0] == (0, 1)
    assert [low for low, _ in bounds[1:]] == [end for _, end in bounds[:-1]]
    assert bounds[-1][1] == 1 << layout.LATENCY_TOP_BIT
    assert all((end - low) * 16 <= max(low, 16) for low, end in bounds)


def test_a_latency_counts_in_the_bucket_whose_bounds_hold_it(rng: random.Random) -> None:
    edges = [value + step for value in (16, 17, 31, 32, 1 << 20, 1 << 39) for step in (-1, 0, 1)]
    drawn = [rng.randrange(1 << rng.randrange(1, 41)) for _ in range(2000)]
    for value in [0, 1, *edges, *drawn]:
        low, end = bucket_bounds_ns(bucket_index(value))
        assert low <= value < end
    assert bucket_index(1 << 40) == bucket_index((1 << 64) - 1) == layout.LATENCY_BUCKETS - 1


def histogram_of(values: list[int]) -> LatencyHistogram:
    counts = [0] * layout.LATENCY_BUCKETS
    for value in values:
        counts[bucket_index(value)] += 1
    return LatencyHistogram(tuple(counts), sum(values), max(values, default=0))


def test_percentiles_are_at_most_a_sixteenth_above_the_true_ones(rng: random.Random) -> None:
    values = sorted(int(rng.lognormvariate(6, 2)) for _ in range(5000))
    histogram = histogram_of(values)
    for percent in (0, 1, 50, 99, 99.9, 100):
        true = values[max(0, -(-len(values) * percent // 100) - 1).__int__()]
        measured = histogram.percentile_ns(percent)
        assert measured is not None
        assert true <= measured <= true + true // 16 + 1
    assert histogram.percentile_ns(100) == values[-1]


def test_histograms_add_up_and_their_difference_is_what_came_between(rng: random.Random) -> None:
    first, second = ([rng.randrange(1, 1 << 30) for _ in range(100)] for _ in range(2))
    both = histogram_of(first) + histogram_of(second)
    assert both == histogram_of(first + second)
    assert both.since(histogram_of(first)).counts == histogram_of(second).counts
    assert (both.sample_count, both.mean_ns) == (200, sum(first + second) / 200)


def test_a_histogram_without_samples_has_no_percentile_and_a_percentage_has_limits() -> None:
    assert LatencyHistogram().percentile_ns(50) is None
    assert LatencyHistogram().mean_ns is None
    with pytest.raises(ValueError, match="0 to 100, got 101"):
        LatencyHistogram().percentile_ns(101)


# ---- What is sampled ----


@pytest.mark.parametrize("write_path", PATHS)
def test_every_64th_append_of_each_path_is_measured_alone_and_counted_across_reopening(
    root: Path, write_path: str
) -> None:
    appends = 0
    for singles, batches in ((63, 0), (1, 0), (50, 30), (0, 49)):
        with cometlog.open(root, CONFIG, write_path=write_path) as client:
            writer = client.writer(STREAM)
            for sequence in range(singles):
                writer.append(payload(0, sequence))
            for _ in range(batches):
                writer.extend([b"a", b"b", b"c"])
            appends += singles + batches
            found = client.stats()[STREAM]
            assert found.frames == appends
            assert found.latency.sample_count == samples_due(root) == appends // 64
            assert found.latency_shared.sample_count == 0
    assert found.entries == 114 + 3 * 79
    assert found.latency.sum_ns >= found.latency.max_ns > 0


def test_compressed_appends_are_measured_with_their_compression(root: Path) -> None:
    config = make_config(compression={"threshold_bytes": 100})
    with cometlog.open(root, config) as client:
        for sequence in range(130):
            client.append(STREAM, [payload(0, sequence, 1000)])
        found = client.stats()[STREAM]
    assert (found.frames, found.latency.sample_count) == (130, 2)
    assert (found.compressions, found.compressed, found.compression_bytes_before) == (130, 130, 130_000)
    assert found.compression_bytes_stored < 13_000
    assert found.compression_ratio == 130_000 / found.compression_bytes_stored
    assert found.compress_time_ns > 0


def test_batches_that_do_not_shrink_are_counted_as_stored_whole(root: Path, rng: random.Random) -> None:
    with cometlog.open(root, make_config(compression={"threshold_bytes": 100})) as client:
        client.append(STREAM, [rng.randbytes(1000)])
        found = client.stats()[STREAM]
    assert (found.compressions, found.compressed) == (1, 0)
    assert (found.compression_bytes_before, found.compression_bytes_stored) == (1000, 1000)


def test_samples_among_appends_of_another_writer_are_counted_apart(root: Path) -> None:
    with cometlog.open(root, CONFIG) as mine, cometlog.open(root, CONFIG) as theirs:
        writers = mine.writer(STREAM), theirs.writer(STREAM)
        for sequence in range(640):
            for writer in writers:
                writer.append(payload(0, sequence))
        found = mine.stats()[STREAM]
        assert (found.latency.sample_count, found.latency_shared.sample_count) == (0, 20)
        for sequence in range(640):
            writers[0].append(payload(0, sequence))
        found = mine.stats()[STREAM]  # what the other wrote last came before the first of these
        assert (found.latency.sample_count, found.latency_shared.sample_count) == (9, 21)


@pytest.mark.parametrize("write_path", SHARED_PATHS)
def test_what_three_processes_do_is_counted_exactly_and_seen_by_a_fourth(
    root: Path, start_worker: type[Worker], write_path: str
) -> None:
    each = {"singles": 500, "batches": 20, "batch_entries": 7}
    workers = [
        start_worker(
            "append_counted", script=STATISTICS_WORKERS, root=str(root), write_path=write_path, **each
        )
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.hear() == "ready"
    for worker in workers:
        worker.tell()
    for worker in workers:
        assert worker.hear() == "appended"
    found = seen_from_outside(root)
    assert (found.frames, found.entries, found.live_writers) == (3 * 520, 3 * 640, 3)
    assert samples(found) == samples_due(root)
    assert 3 * 520 // 64 - 3 <= samples(found) <= 3 * 520 // 64
    for worker in workers:
        worker.tell()
        assert worker.hear() == "left"
    left = seen_from_outside(root)
    assert (left.frames, left.live_writers, samples(left)) == (found.frames, 0, samples(found))
    assert len(read_all(root)) == 3 * 640


# ---- Counters ----


def test_syncs_checkpoints_and_their_times_are_counted(root: Path) -> None:
    with cometlog.open(root, CONFIG) as client:
        for turn in range(1, 4):
            client.append(STREAM, [payload(0, turn)])
            client.sync()
            client.sync()  # finds it done
            assert client.stats()[STREAM].syncs == turn
    found = seen_from_outside(root)
    assert found.checkpoints >= 1
    assert 0 < found.sync_time_ns <= found.sync_wait_ns


@pytest.mark.parametrize("write_path", ["sync", "async"])
def test_paths_that_sync_each_append_count_each(root: Path, write_path: str) -> None:
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        before = client.stats()
        writer = client.writer(STREAM)
        before = client.stats()[STREAM].syncs
        for sequence in range(5):
            writer.append(payload(0, sequence))
        found = client.stats()[STREAM]
        assert found.syncs == before + 5
        assert found.checkpoints == (5 if write_path == "sync" else 0)


def test_mistakes_of_the_caller_are_no_errors_and_a_poisoned_shard_is(root: Path) -> None:
    for write_path in ("mmap", "buffered"):
        with cometlog.open(root, CONFIG, write_path=write_path) as client:
            writer = client.writer(STREAM)
            before = client.stats()[STREAM].errors
            for mistake in (3, "text"):
                with pytest.raises(cometlog.EntryTypeError):
                    writer.append(mistake)  # type: ignore[arg-type]
            with pytest.raises(cometlog.BatchTooLargeError):
                writer.append(bytes(1 << 20))
            assert client.stats()[STREAM].errors == before
            client._write_path(STREAM).shard.control.poison()  # type: ignore[attr-defined]
            client._write_path(STREAM).shard.control.mapping.set_bits(
                layout.CONTROL_FLAGS, layout.FLAG_WAITING
            )  # type: ignore[attr-defined]
            for _ in range(2):
                with pytest.raises(cometlog.SyncError):
                    writer.append(b"refused")
            assert client.stats()[STREAM].errors == before + 2
        with pytest.raises(cometlog.ClosedError):
            writer.append(b"closed")
        assert seen_from_outside(root).errors == before + 2


def test_deliveries_errors_and_retries_of_handlers_are_counted_by_shard(root: Path) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [payload(0, sequence) for sequence in range(10)])
        consumer = client.consumer("shipper")
        calls = 0

        def handle(batch: cometlog.ReadBatch) -> None:
            nonlocal calls
            calls += 1
            if calls <= 2:
                raise OSError("down")
            consumer.stop()

        consumer.process(handle, STREAM, batch_size=10, max_retries=3, retry_delay=0.0)
        found = client.stats()[STREAM]
        assert (found.delivered, found.handler_errors, found.handler_retries) == (10, 2, 2)
        assert consumer.lag(STREAM) == 0


def test_a_forked_child_counts_in_the_same_statistics(root: Path) -> None:
    with cometlog.open(root, CONFIG) as client:
        writer = client.writer(STREAM)
        for sequence in range(64):
            writer.append(payload(0, sequence))
        child = os.fork()
        if child == 0:
            for sequence in range(128):
                writer.append(payload(1, sequence))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        found = client.stats()[STREAM]
        assert (found.frames, samples(found)) == (192, 3)


# ---- Kills and damage ----


@pytest.mark.parametrize("write_path", ["mmap", "async"])
def test_counts_of_a_killed_writer_stay(root: Path, start_worker: type[Worker], write_path: str) -> None:
    for turn in range(1, 4):
        worker = start_worker(
            "append_and_tell", script=STATISTICS_WORKERS, root=str(root), write_path=write_path
        )
        assert worker.hear() == "ready"
        before = seen_from_outside(root).frames
        worker.tell()
        acknowledged = [worker.hear() for _ in range(3 + turn)][-1]
        worker.kill()
        acknowledged = max([acknowledged, *worker.hear_rest()])
        found = seen_from_outside(root)
        entries = len(read_all(root))
        assert acknowledged <= found.frames - before < acknowledged + 51
        assert entries - turn <= found.frames <= entries  # one append a kill may be visible and not counted
        assert samples_due(root) - turn <= samples(found) <= samples_due(root)
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        client.append(STREAM, [b"goes on"])
        assert client.stats()[STREAM].frames == found.frames + 1


def cut(path: Path) -> None:
    os.truncate(path, 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    os.truncate(path, 1 << 20)


def other_magic(path: Path) -> None:
    path.write_bytes(b"COMETOLD" + path.read_bytes()[8:])


def newer_format(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:8] + struct.pack("<I", 2) + path.read_bytes()[12:])


def other_buckets(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:12] + struct.pack("<I", 100) + path.read_bytes()[16:])


def link_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [Path.unlink, cut, empty, lengthen, other_magic, newer_format, other_buckets, link_away, a_pipe]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("write_path", ["mmap", "buffered"])
def test_a_damaged_file_is_rebuilt_and_costs_no_append_and_no_read(
    root: Path, damage: Callable[[Path], None], write_path: str
) -> None:
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        for sequence in range(128):
            client.append(STREAM, [payload(0, sequence)])
    damage(root / FILE)
    with cometlog.open(root, read_only=True) as reader:
        assert len(list(reader.scan(STREAM))) == 128
        assert (samples(reader.stats()[STREAM]), reader.stats()[STREAM].frames) == (0, 128)
    with cometlog.open(root, CONFIG, write_path=write_path) as client:
        for sequence in range(64):
            client.append(STREAM, [payload(1, sequence)])
        client.sync()
        found = client.stats()[STREAM]
        assert (found.frames, samples(found), found.syncs) == (192, 1, 1)
    assert (root / FILE).lstat().st_size == layout.STATISTICS_SIZE_BYTES
    assert len(read_all(root)) == 192


def test_a_directory_in_its_place_leaves_nothing_counted_and_nothing_broken(root: Path) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [b"first"])
    (root / FILE).unlink()
    (root / FILE).mkdir()
    with cometlog.open(root, CONFIG) as client:
        for sequence in range(64):
            client.append(STREAM, [payload(1, sequence)])
        client.sync()
        assert client.consumer("group").read(STREAM, 100)[0].numbers == list(range(65))
        assert (client.stats()[STREAM].frames, samples(client.stats()[STREAM])) == (65, 0)


def test_random_counts_in_a_damaged_file_break_no_report(root: Path, rng: random.Random) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [b"first"])
    with (root / FILE).open("r+b") as file:
        file.seek(layout.STATISTICS_SYNCS)
        file.write(rng.randbytes(layout.STATISTICS_SIZE_BYTES - layout.STATISTICS_SYNCS))
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [b"second"])
        client.sync()
        assert client.stats()[STREAM].frames == 2
        assert len(client.slo()) == 7
        assert client.health(window_s=0.01).verdict in ("ok", "attention")


def test_a_shard_that_was_written_before_there_were_statistics_opens_and_counts_from_now_on(
    root: Path,
) -> None:
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [b"old"])
    (root / FILE).unlink()
    with cometlog.open(root, CONFIG, read_only=True) as reader:
        assert reader.stats()[STREAM].syncs == 0
        assert not (root / FILE).exists()
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [b"new"])
        client.sync()
        assert client.stats()[STREAM].syncs == 1
