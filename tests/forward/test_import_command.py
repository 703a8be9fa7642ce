"""Wrong use of imports, and the command."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import cometlog
from cometbench.services.service import free_port
from cometlog.errors import (
    ConfigurationError,
    DestinationError,
    ReadOnlyError,
)
from cometlog.forward import Importer
from feeds import STREAM, key, wait_until


def test_wrong_options_are_refused(tmp_path):
    for options, error, says in [
        ({"source": "nats://x/{stream}"}, DestinationError, "what is imported is one topic or one stream"),
        ({"source": "http://x/y"}, DestinationError, "begins with 'http'"),
        (
            {"source": "nats://x/y", "batch_size": 0},
            ConfigurationError,
            "batch_size is a whole number from 1 on, got 0",
        ),
        ({"source": "nats://x/y", "properties": {"a": "b"}}, ConfigurationError, "NATS has no property 'a'"),
        ({"source": "kafka://x/y", "properties": {"a": "b"}}, ConfigurationError, "refuses a property"),
    ]:
        with cometlog.open(tmp_path) as client, pytest.raises(error, match=says):
            Importer(client, STREAM, **options)
    with cometlog.open(tmp_path, read_only=True) as looking, pytest.raises(ReadOnlyError):
        Importer(looking, STREAM, source="nats://x/y")


def run_import(root: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "cometlog",
        "import",
        str(root),
        STREAM,
        "--from",
        url,
        "--until-end",
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_says_what_is_wrong_and_leaves_the_log_alone(feed, tmp_path):
    root = tmp_path / "log"
    cometlog.open(root).close()
    before = sorted(root.rglob("*"))
    nobody = feed.url.replace(feed.url.split("/")[2], f"127.0.0.1:{free_port()}")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mute = feed.url.replace(feed.url.split("/")[2], f"127.0.0.1:{silent.getsockname()[1]}")
        for url, said in [
            (nobody, "answer"),
            (mute, "answer"),
            (f"{feed.url}-not", "cannot be read"),
            ("kafka:/x", "begins with"),
        ]:
            ran = run_import(root, url)
            assert (ran.returncode, ran.stdout) == (2, "")
            assert ran.stderr.startswith("cometlog import: ")
            assert said in ran.stderr
            assert ran.stderr.count("\n") == 1
            assert run_import(tmp_path / "new", url, "--create").returncode == 2
            assert not (tmp_path / "new").exists()
    assert sorted(root.rglob("*")) == before


def test_the_command_reports_and_ends_by_ctrl_c(feed, tmp_path):
    root = tmp_path / "log"
    feed.put((key(number), b"%d" % number) for number in range(9))
    ran = run_import(root, feed.url, "--create", "--json")
    assert (ran.returncode, ran.stderr.count("9 entries appended")) == (0, 1)
    told = json.loads(ran.stdout)
    assert (told["stream"], told["from"], told["records"], told["appended"]) == (STREAM, feed.url, 9, 9)
    command = [sys.executable, "-m", "cometlog", "import", str(root), STREAM, "--from", feed.url]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    feed.put([(key(9), b"9")])
    with cometlog.open(root, read_only=True) as client:
        wait_until(lambda: client.next_entry(STREAM) == 10)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "1 records read" in said
