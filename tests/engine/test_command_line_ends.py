"""How commands end: Ctrl-C, a pipe that nobody reads, a full device, closed descriptors, a kill. What was acknowledged stays."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cometlog
from cometlog.cli.output import unit_of_work
from command_lines import BUFFERED, COMETLOG, begun, interrupted, line_of, long_log
from damaged_logs import run
from support import STREAM, WAIT_S, read_all, wait_until


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_log(tmp_path_factory)


def test_broken_pipe_ends_a_command_quietly(log: Path) -> None:
    line = f"{sys.executable} -m cometlog cat {log} {STREAM} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], env=BUFFERED, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("entry 0\n141\n", "")


def test_tail_notices_that_nobody_reads_it_any_more(log: Path) -> None:
    with begun("tail", log, STREAM, "-n", "1", "-f") as tail:
        assert line_of(tail) == b"entry 19999\n"
        assert tail.stdout is not None
        tail.stdout.close()
        assert tail.wait(WAIT_S) == 141
        assert tail.stderr is not None
        assert tail.stderr.read() == b""


@pytest.mark.parametrize(
    "words", [("verify",), ("cat", STREAM), ("ls",), ("stat", "--json"), ("tail", "-n", "1")]
)
def test_full_output_is_named_and_is_no_damage(log: Path, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMETLOG, words[0], str(log), *words[1:]],
            env=BUFFERED, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr == (
        f"cometlog {words[0]}: standard output is full (No space left on device); make room there, or send the output elsewhere\n"
    )


def test_closed_output_and_closed_input_are_named(root: Path) -> None:
    """What is opened while descriptor 0 or 1 is free takes its number: the log must be neither read nor written as one of them."""
    with cometlog.open(root) as client:
        client.append(STREAM, [b"first"])
    for line, code, said in (
        ("ls {root} >&-", 3, "closed before the command began"),
        ("append {root} {stream} <&-", 2, "standard input is closed"),
    ):
        command = f"{sys.executable} -m cometlog {line.format(root=root, stream=STREAM)}"
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False)
    assert [entry.data for entry in read_all(root)] == [b"first"]


def test_interrupted_append_keeps_what_it_acknowledged_and_says_how_much(root: Path) -> None:
    with begun("append", root, STREAM, "--create", "-v") as append:
        assert append.stdin is not None
        append.stdin.write(b"one\ntwo\nhalf a li")
        append.stdin.flush()
        assert [line_of(append), line_of(append)] == [b"0\n", b"1\n"]
        code, said = interrupted(append)
    assert (code, said) == (
        130,
        f"cometlog append: interrupted; 2 entries appended to {STREAM}, numbers 0 to 1\n",
    )
    assert [entry.data for entry in read_all(root)] == [b"one", b"two"]


def test_interrupted_in_the_middle_of_much_append_acknowledged_all_that_is_there(root: Path) -> None:
    with (
        # Far more than is appended until then, and yet not more than memory holds where nothing interrupts it.
        subprocess.Popen(["seq", "0", "20000000"], stdout=subprocess.PIPE) as much,
        begun("append", root, STREAM, "--create", "--json", stdin=much.stdout) as append,
    ):
        assert much.stdout is not None
        much.stdout.close()
        wait_until((root / "FORMAT").exists, "the log")
        with cometlog.open(root, read_only=True) as client:
            wait_until(lambda: client.streams() and client.next_entry(STREAM), "the first entry")
        code, said = interrupted(append)
        assert append.stdout is not None
        report = json.loads(append.stdout.read())
        much.kill()
    found = [entry.data for entry in read_all(root)]
    assert (code, report["entries"], report["next_entry"]) == (130, len(found), len(found))
    assert found == [b"%d" % number for number in range(len(found))]
    assert f"interrupted; {len(found)} entries appended" in said


def test_ctrl_c_in_the_middle_of_an_append_counts_once_it_is_acknowledged(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    append = cometlog.Client.append

    def interrupted_append(client: cometlog.Client, stream: str, entries: list[bytes]) -> range:
        numbers = append(client, stream, entries)
        signal.raise_signal(signal.SIGINT)
        return numbers

    monkeypatch.setattr(cometlog.Client, "append", interrupted_append)
    given = root.with_suffix(".txt")
    given.write_bytes(b"one\ntwo\n")
    with given.open() as lines:
        monkeypatch.setattr(sys, "stdin", lines)
        code, out, said = run(capsys, "append", root, STREAM, "--create", "-v")
    assert (code, out) == (130, "0\n1\n")
    assert said == f"cometlog append: interrupted; 2 entries appended to {STREAM}, numbers 0 to 1\n"


def test_append_whose_acknowledgements_nobody_reads_says_what_it_wrote(root: Path) -> None:
    with begun("append", root, STREAM, "--create", "-v") as append:
        assert append.stdin is not None
        assert append.stdout is not None
        append.stdout.close()
        append.stdin.write(b"one\ntwo\n")
        append.stdin.close()
        assert append.wait(WAIT_S) == 141
        assert append.stderr is not None
        assert (
            append.stderr.read().decode()
            == f"cometlog append: 2 entries appended to {STREAM}, numbers 0 to 1\n"
        )
    assert [entry.data for entry in read_all(root)] == [b"one", b"two"]


def test_append_killed_keeps_what_it_acknowledged(root: Path) -> None:
    with begun("append", root, STREAM, "--create", "-v", "--sync") as append:
        assert append.stdin is not None
        append.stdin.write(b"one\n")
        append.stdin.flush()
        assert line_of(append) == b"0\n"
        append.kill()
    assert [entry.data for entry in read_all(root)] == [b"one"]


def test_stat_looks_again_until_it_is_interrupted(log: Path) -> None:
    with begun("stat", log, "--watch", "0.01", "--json") as stat:
        looks = [json.loads(line_of(stat)) for _ in range(2)]
        assert interrupted(stat) == (130, "")
    assert [look["total"]["entries"] for look in looks] == [20_001, 20_001]
    assert looks[0]["time_ns"] < looks[1]["time_ns"]


def test_a_unit_of_work_is_finished_before_ctrl_c_counts_and_a_second_one_ends_it() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), unit_of_work():
        signal.raise_signal(signal.SIGINT)
        done.append("finished")
    with pytest.raises(KeyboardInterrupt), unit_of_work():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("never")
    assert done == ["finished"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
