"""The guide's seven service levels, from what the log has counted."""

import dataclasses
from pathlib import Path

import pytest

import cometlog
from cometlog.kernel import layout
from cometlog.kernel.histogram import bucket_index
from cometlog.latency import bucket_bounds_ns
from cometlog.slo import MEDIAN_SAMPLES_MIN, P99_SAMPLES_MIN, judge
from cometlog.statistics_file import map_statistics
from support import SHARD, STREAM, make_config, payload

LIMITS = {
    "S1": (5, 10), "S2": (50, 100), "S3": (50, 100), "S4": (200, 500), "S5": (10, 5), "S6": (1000, 10_000), "S7": (0.01, 0.1),
}  # fmt: skip


def rows(client: cometlog.Client) -> dict[str, cometlog.SloRow]:
    return {row.id: row for row in client.slo()}


def put_samples(root: Path, histogram: int, bucket: int, count: int) -> None:
    """Add samples as an append does, at a latency that no append of a test has by itself."""
    words = map_statistics(root / SHARD, writable=True)
    assert words is not None
    words.add(histogram + layout.HISTOGRAM_COUNTS + 8 * bucket, count)
    words.raise_to_at_least(histogram + layout.HISTOGRAM_MAX, bucket_bounds_ns(bucket)[1])
    words.close()


def test_a_new_log_knows_nothing_and_says_why(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"entry"])
        found = rows(client)
    assert {key: (row.good, row.acceptable) for key, row in found.items()} == LIMITS
    assert {row.verdict for row in found.values()} == {"unknown"}
    assert {row.value for row in found.values()} == {None}
    assert "0 samples while one writer appended" in found["S1"].reason
    assert f"{P99_SAMPLES_MIN} are needed" in found["S4"].reason
    assert found["S5"].reason == "no batch reached compression.threshold_bytes, so none was compressed"
    assert found["S6"].reason == "there is no consumer group"
    assert found["S7"].reason == "0 errors, 1 appends; 10000 are needed to tell 0.01 %"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found["S1"].value = 1.0  # type: ignore[misc]


def test_a_log_without_streams_has_seven_unknown_rows(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        assert [(row.id, row.verdict) for row in client.slo()] == [(key, "unknown") for key in LIMITS]


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(4.99, "good"), (5, "acceptable"), (9.99, "acceptable"), (10, "investigate"), (99, "investigate")],
)
def test_a_limit_itself_is_outside(value: float, verdict: str) -> None:
    assert judge(value, 5, 10) == verdict
    assert judge(-value, -5, -10) == verdict  # where more is better


def test_single_writers_fill_the_first_two_rows_and_several_the_next_two(root: Path) -> None:
    appends = 64 * P99_SAMPLES_MIN
    entry = payload(0, 0, 16)
    with cometlog.open(root, make_config()) as client:
        writer = client.writer(STREAM)
        for _ in range(64 * MEDIAN_SAMPLES_MIN):
            writer.append(entry)
        found = rows(client)
        assert (found["S1"].value is None, found["S2"].value is None) == (False, True)
        assert f"{MEDIAN_SAMPLES_MIN} samples" in found["S1"].reason
        for _ in range(appends - 64 * MEDIAN_SAMPLES_MIN):
            writer.append(entry)
        with cometlog.open(root, make_config()) as other:
            second = other.writer(STREAM)
            for _ in range(appends // 2):
                writer.append(entry)
                second.append(entry)
            found = rows(other)
        for key in ("S1", "S2", "S3", "S4"):
            row = found[key]
            assert (row.unit, row.verdict) == ("us", judge(row.value or 0, row.good, row.acceptable))
            assert f"{P99_SAMPLES_MIN} samples" in row.reason
        assert found["S7"].value == 0
        assert found["S7"].verdict == "good"


@pytest.mark.parametrize(
    ("latency_ns", "verdict"), [(3_000, "good"), (7_000, "acceptable"), (40_000, "investigate")]
)
def test_the_verdict_follows_the_median_that_was_measured(root: Path, latency_ns: int, verdict: str) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"entry"])
        put_samples(root, layout.STATISTICS_ALONE, bucket_index(latency_ns), 200)
        row = rows(client)["S1"]
    assert row.verdict == verdict
    assert row.value is not None
    assert latency_ns / 1000 <= row.value <= latency_ns / 1000 * 17 / 16


def test_the_compression_ratio_is_that_of_everything_that_was_given_to_the_compressor(root: Path) -> None:
    with cometlog.open(root, make_config(compression={"threshold_bytes": 100})) as client:
        client.append(STREAM, [b"a" * 100_000])
        row, counted = rows(client)["S5"], client.stats()[STREAM]
    assert row.value == 100_000 / counted.compression_bytes_stored
    assert row.verdict == "good"


def test_the_lag_is_the_largest_of_any_group_on_any_stream(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        other = "events:v1:shard:0001"
        client.append(STREAM, [b"x"] * 1500)
        client.append(other, [b"x"] * 20)
        fast, slow = client.consumer("fast"), client.consumer("slow")
        for stream, number in ((STREAM, 1500), (other, 20)):
            fast.reset(stream, number)
        slow.reset(other, 3)
        assert (rows(client)["S6"].value, rows(client)["S6"].verdict) == (17, "good")
        slow.reset(STREAM, 100)
        row = rows(client)["S6"]
        assert (row.value, row.verdict, row.unit) == (1400, "acceptable", "entries")
        assert row.reason == f"the largest of 4: group 'slow' on {STREAM}"


def test_a_damaged_group_table_is_the_reason_why_the_lag_is_unknown(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"x"])
        client.consumer("group").lag(STREAM)
        with (root / SHARD / "offsets").open("r+b") as file:
            file.write(b"nothing")
        row = rows(client)["S6"]
    assert (row.value, row.verdict) == (None, "unknown")
    assert "offsets magic" in row.reason


def test_appends_that_failed_make_the_error_rate(root: Path) -> None:
    with cometlog.open(root, make_config(), write_path="buffered") as client:
        writer = client.writer(STREAM)
        for _ in range(199):
            writer.append(b"x")
        client._write_path(STREAM).shard.control.poison()  # type: ignore[attr-defined]
        with pytest.raises(cometlog.SyncError):
            writer.append(b"x")
        row = rows(client)["S7"]
    assert (row.value, row.unit, row.verdict) == (0.5, "%", "investigate")
    assert row.reason == "1 errors, 199 appends"
