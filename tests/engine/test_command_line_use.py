"""Wrong use of the command line is one line that names it; its help teaches; and it imports no more than a command needs."""

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog
from cometlog.cli import COMMANDS, build
from command_lines import unchanged_log
from damaged_logs import OTHER, run
from support import STREAM


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from unchanged_log(tmp_path_factory)


WRONG_USES = [
    ((), "required: COMMAND"),
    (("no-such",), "'no-such'"),
    (("ls",), "required: PATH"),
    (("ls", "{none}"), "{none} is not a directory"),
    (("ls", "{tmp}"), "{tmp} holds no log"),
    (("ls", "{log}", "x:*"), f"no stream of {{log}} matches 'x:*'; there are {STREAM}, {OTHER}"),
    (("stat", "{log}", "x:*"), "matches 'x:*'"),
    (("tail", "{log}", "x:*"), "matches 'x:*'"),
    (("tail", "{log}", "events:v1:shard:0007", "-f"), "events:v1:shard:0007 does not exist"),
    (("tail", "{log}", STREAM, "-n", "-1"), "-n"),
    (("tail", "{log}", STREAM, "-n", "many"), "0 or more, got 'many'"),
    (("cat", "{log}", "events:v1:shard:0007"), f"does not exist in {{log}}; there are {STREAM}"),
    (("cat", "{log}", "../etc:v1:shard:0000"), "namespace must start with"),
    (("cat", "{log}", STREAM, "--start", "4"), f"--start 4: {STREAM} has no such entry; the entries that are kept are 0 to 2"),
    (("cat", "{log}", STREAM, "--start", "-4"), "--start"),
    (("cat", "{log}", STREAM, "--start", "1.5"), "got '1.5'"),
    (("cat", "{log}", STREAM, "--start", "9" * 30), "got '9999"),
    (("cat", "{log}", STREAM, "--since", "yesterday"), "2026-03-01T12:30:00Z"),
    (("cat", "{log}", STREAM, "--since", "5y"), "got '5y'"),
    (("cat", "{log}", STREAM, "--since", "0001-01-01T00:00+14:00"), "got '0001"),
    (("cat", "{log}", STREAM, "--start", "1", "--since", "5m"), "not allowed with argument"),
    (("cat", "{log}", STREAM, "--raw", "--numbers"), "not allowed with argument"),
    (("export", "{log}", STREAM, "--format", "xml"), "'xml'"),
    (("append", "{none}", STREAM), "{none} is not a directory"),
    (("append", "{log}", "events"), "namespace:version:shard:NNNN, got 'events'"),
    (("append", "{log}", STREAM, "--batch", "0"), "1 or more, got '0'"),
    (("append", "{log}", STREAM, "--config", "{none}"), "{none}: No such file or directory"),
    (("append", "{log}", STREAM, "--config", "{wrong}"), "unknown field storage.segment_size"),
    (("groups", "{log}"), "invalid choice"),
    (("groups", "lag", "{log}", "nobody"), "no consumer group 'nobody' in {log}; there are shipper"),
    (("groups", "lag", "{log}", "-x-"), "-x-"),
    (("groups", "reset", "{log}", "nobody", STREAM, "1", "--yes"), "'nobody'"),
    (("groups", "reset", "{log}", "shipper", OTHER, "1", "--yes"), f"of {OTHER}; it has none"),
    (("groups", "reset", "{log}", "shipper", STREAM, "4", "--yes"), "entry 4 of " + STREAM + ": give 0 to 3"),
    (("groups", "reset", "{log}", "shipper", STREAM, "last", "--yes"), "got 'last'"),
    (("groups", "reset", "{log}", "shipper", STREAM, "1"), "say --yes"),
    (("retain", "{log}"), "no limit was given"),
    (("retain", "{log}", "--max-age", "7 days"), "got '7 days'"),
    (("retain", "{log}", "--max-shard-size", "1X"), "got '1X'"),
    (("retain", "{log}", "--max-shard-size", "9999999T"), "retention.max_shard_bytes is 0 to"),
    (("train-dictionary", "{log}", STREAM), "at least 20 entries, there are 3"),
    (("train-dictionary", "{log}", STREAM, "--size", "1T"), "at most 16777216 bytes"),
    (("health", "{log}", "--window", "0"), "0.01 to 3600 seconds, got 0"),
    (("slo", "{none}"), "{none} is not a directory"),
    (("verify", "{log}", "--stream", "x:*"), "matches 'x:*'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "named"), WRONG_USES, ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else ""
)
def test_wrong_use_is_one_line_that_names_it(
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    (tmp_path / "wrong.toml").write_text("[storage]\nsegment_size = 1\n")
    places = {"log": log, "tmp": tmp_path, "none": tmp_path / "none", "wrong": tmp_path / "wrong.toml"}
    code, out, err = run(capsys, *(word.format(**places) for word in words))
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert named.format(**places) in err


def test_commands_are_imported_when_they_are_asked_for_and_rich_for_a_terminal_alone(log: Path) -> None:
    probe = (
        "import sys; from cometlog.cli import main; code = main(sys.argv[1:]);"
        "print(code, 'rich' in sys.modules, sorted(name for name in sys.modules if name.startswith('cometlog.cli.')))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe, "ls", str(log)], capture_output=True, text=True, timeout=60, check=True
    )
    used = ("arguments", "ls", "output", "tables")
    assert ran.stdout.splitlines()[-1] == f"0 False {[f'cometlog.cli.{name}' for name in used]}"


def test_help_of_each_command_has_two_examples_that_parse(capsys: pytest.CaptureFixture[str]) -> None:
    for command, summary in COMMANDS.items():
        code, out, _ = run(capsys, command, "--help")
        assert code == 0
        examples = re.findall(r"^  (?:.*\| )?(cometlog .*)$", out.partition("Examples:")[2], re.MULTILINE)
        assert len(examples) == 2, command
        for example in examples:
            words = shlex.split(re.split(r" [<>] ", example)[0])[1:]
            assert words[0] == command
            assert build(words).parse_args(words).command == command
        assert summary.split(":")[0] in " ".join(run(capsys, "--help")[1].split())
    assert run(capsys, "--version")[1] == f"cometlog {cometlog.__version__}\n"
