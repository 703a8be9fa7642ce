"""The command line as scripts use it: exact text and JSON of each command, and one line for each wrong use."""

import base64
import csv
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

import cometlog
from cometlog.cli.arguments import duration_s, size_bytes
from cometlog.cli.tables import readable
from cometlog.cli.times import first_since, moment_ns
from cometlog.control import Control
from command_lines import BINARY, unchanged_log, write_log
from damaged_logs import OTHER, flip, frame_at, run
from support import KIB, SHARD, STREAM, directory_state, make_config, segment_files


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from unchanged_log(tmp_path_factory)


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that succeeds and says nothing on standard error; return its standard output."""
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "")
    return out


def entries(root: Path, stream: str) -> list[cometlog.Entry]:
    with cometlog.open(root, read_only=True) as client:
        return list(client.scan(stream))


def test_ls_lists_streams_in_columns_and_as_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = said(capsys, "ls", log)
    assert re.sub(r" +\d+\.\d{3}(?= |$)", " AGE", table, flags=re.MULTILINE).splitlines() == [
        "STREAM                ENTRIES  SIZE_BYTES  SEGMENTS  FIRST  NEXT  OLDEST_S  NEWEST_S",
        f"{STREAM}        3      786432         1      0     3 AGE AGE",
        f"{OTHER}        2      786432         1      0     2 AGE AGE",
    ]
    stamps = [entry.timestamp_ns for entry in entries(log, OTHER)]
    assert json.loads(said(capsys, "ls", log, "*:0001", "--json")) == {
        "path": str(log),
        "streams": [
            {
                "stream": OTHER, "entries": 2, "size_bytes": 786432, "segments": 1, "first_entry": 0, "next_entry": 2,
                "oldest_timestamp_ns": stamps[0], "newest_timestamp_ns": stamps[1],
            }
        ],
    }  # fmt: skip


def test_cat_prints_lines_numbers_bytes_and_json(log: Path) -> None:
    def cat(*words: str) -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", "cometlog", "cat", str(log), *words], capture_output=True, timeout=60, check=False
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    third = 'drei, "3" ü'
    assert cat(STREAM) == f"one\ntwo\n{third}\n".encode()
    assert cat(STREAM, "--start", "1", "--numbers") == f"1\ttwo\n2\t{third}\n".encode()
    assert cat(OTHER, "--raw") == BINARY + b"five"
    stamps = [entry.timestamp_ns for entry in entries(log, OTHER)]
    assert [json.loads(line) for line in cat(OTHER, "--json").splitlines()] == [
        {"stream": OTHER, "number": 0, "timestamp_ns": stamps[0], "data": base64.b64encode(BINARY).decode(), "base64": True},
        {"stream": OTHER, "number": 1, "timestamp_ns": stamps[1], "data": "five", "base64": False},
    ]  # fmt: skip


def test_cat_begins_and_ends_where_it_is_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "cat", log, STREAM, "--count", "2") == "one\ntwo\n"
    assert said(capsys, "cat", log, STREAM, "--start", "1", "--count", "1") == "two\n"
    assert said(capsys, "cat", log, STREAM, "--count", "0") == ""
    assert said(capsys, "cat", log, STREAM, "--start", "3") == ""
    assert said(capsys, "cat", log, STREAM, "--since", "1h", "--count", "1") == "one\n"
    assert said(capsys, "cat", log, STREAM, "--since", "2099-01-01") == ""
    # The two batches of the stream have two timestamps: the second's finds the third entry.
    second = datetime.fromtimestamp(entries(log, STREAM)[2].timestamp_ns // 1000 / 1e6, UTC)
    assert said(capsys, "cat", log, STREAM, "--since", second.isoformat()).splitlines()[-1].startswith("drei")


def test_seeking_by_time_finds_the_first_entry_of_each_batch(root: Path) -> None:
    with cometlog.open(root, make_config(64 * KIB)) as client:
        for number in range(0, 300, 3):
            client.append(STREAM, [b"%0400d" % number] * 3)
        stamps = [entry.timestamp_ns for entry in client.scan(STREAM)]
        for number in range(0, 300, 7):
            assert first_since(client, STREAM, stamps[number]) == stamps.index(stamps[number])
            assert first_since(client, STREAM, stamps[number] + 1) == sum(
                stamp <= stamps[number] for stamp in stamps
            )
        assert first_since(client, STREAM, 0) == 0
        assert first_since(client, STREAM, stamps[-1] + 1) == 300


def test_tail_prints_the_last_of_one_stream_and_names_the_streams_of_a_pattern(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "tail", log, STREAM, "-n", "1", "--numbers") == '2\tdrei, "3" ü\n'
    assert said(capsys, "tail", log, "events:*", "-n", "1") == f'{STREAM}\tdrei, "3" ü\n{OTHER}\tfive\n'
    assert len(said(capsys, "tail", log, "*:0000").splitlines()) == 3
    lines = said(capsys, "tail", log, "*:0001", "--json").splitlines()
    assert [(line["stream"], line["number"]) for line in map(json.loads, lines)] == [(OTHER, 0), (OTHER, 1)]


def test_export_writes_csv_and_json_lines(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(said(capsys, "export", log, OTHER, "--format", "csv"))))
    stamps = [str(entry.timestamp_ns) for entry in entries(log, OTHER)]
    assert rows == [
        {"stream": OTHER, "number": "0", "timestamp_ns": stamps[0], "data": base64.b64encode(BINARY).decode(), "base64": "true"},
        {"stream": OTHER, "number": "1", "timestamp_ns": stamps[1], "data": "five", "base64": "false"},
    ]  # fmt: skip
    assert said(capsys, "export", log, STREAM) == said(capsys, "cat", log, STREAM, "--json")
    quoted = list(
        csv.reader(io.StringIO(said(capsys, "export", log, STREAM, "--format", "csv", "--start", "2")))
    )
    assert [row[3] for row in quoted] == ["data", 'drei, "3" ü']


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_export_writes_columns(log: Path, form: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    done = subprocess.run(
        [sys.executable, "-m", "cometlog", "export", str(log), STREAM, "--format", form, "--count", "2"],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    source = pyarrow.BufferReader(done.stdout)
    table = pyarrow.ipc.open_stream(source).read_all() if form == "arrow" else parquet.read_table(source)
    assert table.column("number").to_pylist() == [0, 1]
    assert table.column("data").to_pylist() == [b"one", b"two"]
    assert table.schema.field("timestamp").type == pyarrow.timestamp("ns", "UTC")


def test_export_without_pyarrow_says_what_to_install(log: Path, tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError('not here')")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from cometlog.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "export", str(log), STREAM, "--format", "arrow"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'cometlog[arrow]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_stat_adds_up_the_shards_and_json_has_every_counter(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys, "stat", log).splitlines()
    counters = dict(line.split() for line in lines[: lines.index("")])
    assert [counters[name] for name in ("COUNTER", "shards", "entries", "frames")] == ["TOTAL", "2", "5", "3"]
    with cometlog.open(log, read_only=True) as client:
        size_bytes_of = {stream: shard.bytes for stream, shard in client.stats().items()}
    assert lines[lines.index("") + 1 :] == [
        "STREAM                ENTRIES  SIZE_BYTES  DURABLE  NEXT  PATH  STATE",
        f"{STREAM}        3          {size_bytes_of[STREAM]}        3     3  mmap  sound",
        f"{OTHER}        2          {size_bytes_of[OTHER]}        2     2  mmap  sound",
    ]
    report = json.loads(said(capsys, "stat", log, "*:0000", "--json"))
    (shard,) = report["streams"]
    assert {name: shard[name] for name in ("frames", "entries", "bytes", "durable_entry", "write_path", "poisoned")} == {
        "frames": 2, "entries": 3, "bytes": size_bytes_of[STREAM], "durable_entry": 3, "write_path": "mmap", "poisoned": False
    }  # fmt: skip
    assert shard["latency"] == {"samples": 0, "mean_ns": None, "p50_ns": None, "p99_ns": None, "max_ns": 0}
    assert (report["total"]["shards"], report["total"]["entries"], report["stalled_writers"]) == (1, 3, [])


def test_groups_show_where_each_stands(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "groups", "list", log) == "GROUP    STREAMS  LAG\nshipper        1    1\n"
    assert said(capsys, "groups", "lag", log, "shipper") == (
        f"GROUP    STREAM                POSITION  NEXT  LAG\nshipper  {STREAM}         2     3    1\n"
    )
    assert json.loads(said(capsys, "groups", "lag", log, "--json")) == {
        "path": str(log),
        "groups": [{"group": "shipper", "stream": STREAM, "position": 2, "next_entry": 3, "lag": 1}],
    }
    assert json.loads(said(capsys, "groups", "list", log, "--json"))["groups"] == [
        {"group": "shipper", "streams": 1, "lag": 1}
    ]
    assert said(capsys, "groups", "lag", log, "--stream", "*:0001") == "GROUP  STREAM  POSITION  NEXT  LAG\n"


def test_groups_reset_moves_the_group_it_names(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(root)
    for place, position in (("first", 0), ("next", 3), ("1", 1)):
        out = said(capsys, "groups", "reset", root, "shipper", STREAM, place, "--yes")
        assert out == f"group shipper goes on with entry {position} of {STREAM}\n"
        with cometlog.open(root) as client, client.consumer("shipper") as consumer:
            (*_, behind) = [None, *consumer.read(STREAM, 10)]
            assert [entry.number for entry in behind or []] == list(range(position, 3))


def test_append_takes_lines_and_whole_files_and_says_what_it_wrote(root: Path) -> None:
    def append(given: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "cometlog", "append", str(root), STREAM, *words],
            input=given, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    done = append(b"one\n\nthree", "--create", "-v", "--sync", "--batch", "2")
    assert (done.returncode, done.stdout) == (0, b"0\n1\n2\n")
    assert done.stderr.decode() == f"cometlog append: 3 entries appended to {STREAM}, numbers 0 to 2\n"
    done = append(b"a\nwhole\nfile\n", "--file", "--json")
    assert json.loads(done.stdout) == {
        "stream": STREAM, "entries": 1, "first_entry": 3, "next_entry": 4, "synced": False
    }  # fmt: skip
    done = append(b"")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.decode() == f"cometlog append: nothing was appended to {STREAM}\n"
    assert [entry.data for entry in entries(root, STREAM)] == [b"one", b"", b"three", b"a\nwhole\nfile\n"]


def test_append_splits_what_no_segment_takes_and_names_the_line_that_is_too_long(root: Path) -> None:
    config = root.with_suffix(".toml")
    config.write_text("[storage]\nsegment_size_bytes = 65536\n[compression]\nthreshold_bytes = 1073741824\n")
    lines = [b"%d" % number * 200 for number in range(1000, 1400)]
    done = subprocess.run(
        [sys.executable, "-m", "cometlog", "append", str(root), STREAM, "--create", "--config", str(config)],
        input=b"\n".join([*lines, b"x" * 70_000, b"never"]), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"400 entries appended to {STREAM}, numbers 0 to 399".encode() in done.stderr
    assert b"at most 30720 bytes" in done.stderr.splitlines()[-1]
    assert [entry.data for entry in entries(root, STREAM)] == lines


def test_retain_plans_then_removes_what_the_options_say(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cometlog.open(root, make_config(64 * KIB)) as client:
        for number in range(400):
            client.append(STREAM, [b"%0400d" % number])
    before = directory_state(root)
    code, out, err = run(capsys, "retain", root, "--max-shard-size", "100K", "--dry-run")
    table = (
        "STREAM                SEGMENT  FIRST  LAST  SIZE_BYTES  REASON\n"
        f"{STREAM}        1      0   143       65536  shard size\n"
    )
    assert (code, out) == (0, table)
    assert err == "cometlog retain: 1 segments, 65536 bytes would be removed\n"
    assert directory_state(root) == before
    code, out, err = run(capsys, "retain", root, "--max-shard-size", "100K")
    assert (code, out) == (0, table)
    assert err == "cometlog retain: 1 segments, 65536 bytes removed\n"
    assert [entry.number for entry in entries(root, STREAM)] == list(range(144, 400))
    config = root.with_suffix(".toml")
    config.write_text("[retention]\nmax_age_s = 1e9\n")
    report = json.loads(said(capsys, "retain", root, "--config", config, "--json"))
    assert report == {"path": str(root), "dry_run": False, "size_bytes": 0, "segments": []}
    report = json.loads(
        said(
            capsys,
            "retain",
            root,
            "--max-age",
            "0.000001",
            "--min-segments",
            "1",
            "--config",
            config,
            "--json",
        )
    )
    assert [(item["number"], item["reason"]) for item in report["segments"]] == [(2, "age")]


def test_train_dictionary_stores_one_and_says_its_id(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with cometlog.open(root) as client:
        client.append(
            STREAM,
            [b"user %d did something that many do, at %d" % (number % 9, number) for number in range(2000)],
        )
    out = said(capsys, "train-dictionary", root, STREAM, "--size", "4K")
    assert out == f"dictionary 32768 of {STREAM}; writers use it from their next segment on\n"
    out = said(capsys, "train-dictionary", root, STREAM, "--size", "4K", "--samples", "500", "--json")
    assert json.loads(out) == {"stream": STREAM, "dictionary_id": 32769}


def test_slo_shows_the_seven_levels_and_exits_1_where_one_is_to_be_investigated(
    root: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cometlog.open(log, read_only=True) as client:
        rows = [asdict(row) for row in client.slo()]
    assert json.loads(said(capsys, "slo", log, "--json")) == {"path": str(log), "rows": rows}
    lines = said(capsys, "slo", log).splitlines()
    assert lines[0].split() == ["ID", "METRIC", "VALUE", "UNIT", "GOOD", "ACCEPTABLE", "VERDICT", "REASON"]
    assert [line.split()[:2] for line in lines[1:]] == [
        [row["id"], row["metric"].replace(" ", "-")] for row in rows
    ]
    assert "S6  consumer-lag           1  entries  1000.000   10000.000  good" in lines[6]
    with cometlog.open(root) as client, client.consumer("late") as consumer:
        client.append(STREAM, [b"x"] * 10_001)
        assert consumer.lag(STREAM) == 10_001
    code, out, err = run(capsys, "slo", root, "--json")
    assert (code, err) == (1, "")
    assert [row["id"] for row in json.loads(out)["rows"] if row["verdict"] == "investigate"] == ["S6"]


def test_health_names_what_limits_a_log_and_exits_1_where_it_is_failing(
    root: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys, "health", log, "--window", "0.05").splitlines()
    values = dict(line.split() for line in lines[:-1])
    assert [values[name] for name in ("FINDING", "verdict", "bottleneck", "writers")] == [
        "VALUE",
        "ok",
        "none",
        "0.000",
    ]
    assert lines[-1] == "nobody appended or synced while this looked"
    write_log(root)
    control = Control(root / SHARD / "control", writable=True)
    control.poison()
    control.close()
    code, out, err = run(capsys, "health", root, "--window", "0.05", "--json")
    assert (code, err) == (1, "")
    report = json.loads(out)
    assert (report["verdict"], report["poisoned"], report["evidence"]["writers"]) == (
        "failing",
        [STREAM],
        0.0,
    )


def test_damage_is_exit_code_1_and_the_other_streams_are_still_listed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(root)
    with cometlog.open(root) as client:
        client.append(STREAM, [b"more"])
    flip(segment_files(root)[0], frame_at(0) + 40)
    code, out, err = run(capsys, "cat", root, STREAM)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert f"stream {STREAM}, entry 0" in err
    code, out, err = run(capsys, "ls", root, "--json")
    assert code == 1
    assert [row["stream"] for row in json.loads(out)["streams"]] == [STREAM, OTHER]
    assert STREAM in json.loads(out)["streams"][0]["damage"]
    assert run(capsys, "verify", root)[0] == 1


def test_sizes_durations_and_times_are_read_and_written_as_people_do() -> None:
    assert [size_bytes(text) for text in ("0", "4096", "64K", "1.5m", "2GiB", "1TB")] == [
        0, 4096, 65536, 3 << 19, 2 << 30, 1 << 40
    ]  # fmt: skip
    assert [duration_s(text) for text in ("90", "0.5s", "15m", "12h", "7d", "2w")] == [
        90,
        0.5,
        900,
        43200,
        604800,
        1209600,
    ]
    assert moment_ns("2026-03-01T12:30:00Z") == moment_ns("2026-03-01T13:30:00+01:00") == 1772368200 * 10**9
    before_ns = time.time_ns()
    assert before_ns <= moment_ns("1m") + 60 * 10**9 <= time.time_ns()
    assert [readable(value, "bytes") for value in (0, 1023, 1536, 5 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 TiB",
    ]
    assert [readable(value, "seconds") for value in (0.25, 59, 90, 5400, 129600)] == [
        "250 ms",
        "59.0 s",
        "1.5 min",
        "1.5 h",
        "1.5 d",
    ]
    assert [readable(1234567, "count"), readable(None, "count")] == ["1,234,567", "-"]
