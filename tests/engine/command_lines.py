"""The logs that the tests of the command line look at, and commands that run beside a test."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cometlog
from damaged_logs import OTHER
from support import STREAM, WAIT_S, directory_state

COMETLOG = (sys.executable, "-m", "cometlog")
BUFFERED = os.environ | {"PYTHONUNBUFFERED": ""}
"""With the buffer that standard output has by default, which is written once more when the interpreter ends."""
BINARY = b"\xff\x00 not text"


def write_log(root: Path) -> None:
    """Three entries and two, one of them no text; a group that has read two of the first stream."""
    with cometlog.open(root) as client:
        client.append(STREAM, [b"one", b"two"])
        client.append(STREAM, ['drei, "3" ü'.encode()])
        client.append(OTHER, [BINARY, b"five"])
        with client.consumer("shipper") as consumer:
            consumer.ack(STREAM, range(2))


def unchanged_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """For a fixture: a log that no test of a module writes to."""
    root = tmp_path_factory.mktemp("command-line") / "log"
    write_log(root)
    before = directory_state(root)
    yield root
    assert directory_state(root) == before


def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For a fixture: a log of 20,000 entries, more than a pipe holds, that is only read."""
    root = tmp_path_factory.mktemp("command-line") / "log"
    with cometlog.open(root) as client:
        for number in range(0, 20_000, 1000):
            client.append(STREAM, [b"entry %d" % each for each in range(number, number + 1000)])
        client.append(OTHER, [b"\x1b[31mred\n\xff"])
        with client.consumer("shipper") as consumer:
            consumer.ack(STREAM, range(5000))
    return root


@contextmanager
def begun(*words: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs; it is killed at the end if it still does."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with subprocess.Popen([*COMETLOG, *map(str, words)], **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    """Return the next line of standard output, which comes in time."""
    assert process.stdout is not None
    said = b""
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], WAIT_S)
        assert ready, f"nothing after {said!r}"
        said += os.read(process.stdout.fileno(), 1)
    return said


def interrupted(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Press Ctrl-C; return the exit code and what was said on standard error."""
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    code = process.wait(WAIT_S)
    return code, process.stderr.read().decode()
