"""The command line as people use it: on a terminal, beside writers, following what is appended, for other users."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import cometlog
from command_lines import COMETLOG, begun, interrupted, line_of, long_log
from damaged_logs import OTHER, run
from support import STREAM, Worker, directory_state, make_config, wait_until
from test_safety import NOBODY, ROOT_ONLY


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_log(tmp_path_factory)


def on_terminal(
    *words: object, typed: str = "", program: tuple[str, ...] = COMETLOG, **environment: str
) -> tuple[int, str]:
    """Run a command on a terminal of 100 columns; return its exit code and what the terminal was sent."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
    sized = {"TERM": "xterm-256color", "COLUMNS": "100"}
    person, terminal = pty.openpty()
    with subprocess.Popen(
        [*program, *map(str, words)], stdin=terminal, stdout=terminal, stderr=terminal, env=kept | sized | environment
    ) as process:  # fmt: skip
        os.close(terminal)
        os.write(person, typed.encode())
        seen = b""
        with suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(person, 1 << 16):
                seen += piece
        os.close(person)
    return process.returncode, seen.decode().replace("\r\n", "\n")


# ---- A terminal ----


def test_tables_on_a_terminal_are_drawn_with_units_and_colour(log: Path) -> None:
    code, seen = on_terminal("ls", log)
    assert code == 0
    assert "\x1b[1m" in seen
    assert re.search(rf"{STREAM} +20,000 +\d+\.\d MiB +1 +0 +20,000 ", seen)
    assert "─" in seen


@pytest.mark.parametrize("without", ["colour", "rich"])
def test_tables_on_a_terminal_are_plain_where_no_colour_is_wanted_or_rich_is_missing(
    log: Path, tmp_path: Path, without: str
) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError")
    added = (
        {"NO_COLOR": "1"}
        if without == "colour"
        else {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    )
    code, seen = on_terminal("groups", "list", log, **added)
    assert (code, seen) == (0, "GROUP    STREAMS    LAG\nshipper        1  15000\n")


def test_a_terminal_is_never_sent_what_it_would_obey(log: Path) -> None:
    assert on_terminal("cat", log, OTHER) == (0, "\\x1b[31mred\\n\\xff\n")
    code, seen = on_terminal("export", log, OTHER, "--format", "arrow")
    assert (code, "not for a terminal" in seen) == (2, True)


def test_export_shows_its_progress_on_a_terminal(log: Path) -> None:
    code, seen = on_terminal(
        "-c", f"{sys.executable} -m cometlog export {log} {STREAM} > /dev/null", program=("/bin/sh",)
    )  # fmt: skip
    assert code == 0
    assert re.fullmatch(r"(\r[\d,]+ of 20,000 entries, \d+ %\x1b\[K)+\r\x1b\[K", seen)


def test_groups_reset_asks_on_a_terminal(root: Path) -> None:
    with cometlog.open(root) as client, client.consumer("shipper") as consumer:
        client.append(STREAM, [b"0", b"1", b"2"])
        consumer.ack(STREAM, 0)
    for answer, code, position in (("no", 2, 1), ("yes", 0, 2)):
        done, seen = on_terminal("groups", "reset", root, "shipper", STREAM, "2", typed=f"{answer}\n")
        assert f"set group shipper in {STREAM} from entry 1 to 2? [yes/no]" in seen
        with cometlog.open(root) as client, client.consumer("shipper") as consumer:
            assert (done, 3 - consumer.lag(STREAM)) == (code, position)


# ---- Beside writers ----


def test_reading_commands_work_beside_writers_and_write_nothing(
    root: Path, start_worker: type[Worker], capsys: pytest.CaptureFixture[str]
) -> None:
    worker = start_worker("hold_open", root=str(root), write_path="mmap")
    assert worker.hear() == "attached"
    worker.stop()  # its helper thread too, which writes the index, the marks and the counters when it likes
    before = directory_state(root)
    for words in (
        ("ls", root), ("stat", root), ("cat", root, STREAM), ("tail", root, STREAM), ("groups", "lag", root), ("verify", root),
        ("export", root, STREAM), ("retain", root, "--max-age", "1d", "--dry-run"),
    ):  # fmt: skip
        assert run(capsys, *words)[0] == 0, words
    assert directory_state(root) == before
    worker.signal(signal.SIGCONT)
    worker.tell()
    assert worker.end() == 0


def test_cat_ends_where_a_busy_log_was_when_it_began(root: Path, start_worker: type[Worker]) -> None:
    worker = start_worker("append_until_told", root=str(root), owner=1)
    assert worker.hear() == "ready"
    worker.tell()
    with cometlog.open(root, read_only=True) as client:
        wait_until(lambda: client.streams() and client.next_entry(STREAM) > 100, "a hundred entries")
        before = client.next_entry(STREAM)
        done = subprocess.run(
            [*COMETLOG, "cat", str(root), STREAM, "--json"], capture_output=True, timeout=60, check=False
        )
        after = client.next_entry(STREAM)
    assert (done.returncode, done.stderr) == (0, b"")
    numbers = [json.loads(line)["number"] for line in done.stdout.splitlines()]
    assert numbers == list(range(len(numbers)))
    assert before <= len(numbers) <= after


def test_tail_follows_writers_of_other_processes_and_streams_that_appear(root: Path) -> None:
    with cometlog.open(root) as client:
        client.append(STREAM, [b"old", b"last"])
        with begun("tail", root, "events:*", "-n", "1", "-f", "--json") as tail:
            assert json.loads(line_of(tail))["data"] == "last"
            for number in range(2, 5):
                client.append(STREAM, [b"new"])
                found = json.loads(line_of(tail))
                assert (found["stream"], found["number"], found["data"]) == (STREAM, number, "new")
            client.append(OTHER, [b"appeared", b"and more"])
            assert [json.loads(line_of(tail))["data"] for _ in range(2)] == ["appeared", "and more"]
            assert interrupted(tail) == (130, "")


def test_tail_that_waits_sleeps(root: Path) -> None:
    """Where it may set the waiting flag it uses next to no time, and the flag is all that it writes."""
    with cometlog.open(root) as client:
        client.append(STREAM, [b"first"])
        with begun("tail", root, STREAM, "-f") as tail:
            assert line_of(tail) == b"first\n"

            def switches() -> int:
                text = Path(f"/proc/{tail.pid}/status").read_text()
                return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)[1])

            wait_until(
                lambda: Path(f"/proc/{tail.pid}/wchan").read_text().startswith("futex"), "tail to sleep"
            )
            before = switches()
            time.sleep(0.5)
            assert switches() - before < 10  # a poll every 5 ms would be a hundred
            client.append(STREAM, [b"second"])
            assert line_of(tail) == b"second\n"


@ROOT_ONLY
def test_another_user_may_look_at_a_log_whose_mode_lets_him(shared_root: Path) -> None:
    root = shared_root
    config = make_config(storage={"file_mode": 0o644, "directory_mode": 0o755})
    # The words are parsed once before, by root, who can read what is imported for that.
    program = (
        "import os, sys, cometlog.cli as cli; cli.build(sys.argv[1:]).parse_args(sys.argv[1:]);"
        f"os.setresuid(*3 * [{NOBODY}]); sys.exit(cli.main())"
    )
    with cometlog.open(root, config) as client:
        client.append(STREAM, [b"first"])
        for words in (("ls", root), ("stat", root), ("cat", root, STREAM), ("verify", root)):
            done = subprocess.run(
                [sys.executable, "-c", program, *map(str, words)],
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, b""), words
        with subprocess.Popen(
            [sys.executable, "-c", program, "tail", str(root), STREAM, "-f"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as tail:
            assert line_of(tail) == b"first\n"
            client.append(STREAM, [b"second"])
            assert line_of(tail) == b"second\n"
            assert interrupted(tail) == (130, "")


@ROOT_ONLY
def test_nobody_writes_what_the_owner_of_the_log_could_not_open(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cometlog.open(root) as client, client.consumer("shipper") as consumer:
        client.append(STREAM, [b"first"])
        consumer.ack(STREAM, 0)
    os.chown(root / "FORMAT", NOBODY, NOBODY)
    before = directory_state(root)
    for words in (
        ("append", root, STREAM), ("groups", "reset", root, "shipper", STREAM, "first", "--yes"), ("retain", root, "--max-age", "1d"),
        ("train-dictionary", root, STREAM),
    ):  # fmt: skip
        code, _, said = run(capsys, *words)
        assert (code, f"run this as user {NOBODY}" in said) == (2, True), words
    assert directory_state(root) == before
