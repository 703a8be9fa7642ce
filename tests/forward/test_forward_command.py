"""``cometlog forward``: wrong use says what is wrong within ten seconds and leaves the log as it was; progress on a terminal."""

import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
from contextlib import closing

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

import cometlog
from cometbench.services.kafka import KafkaBroker
from kafka_side import files, fill, make_topic, numbers, records, stream

ANSWER_S_MAX = 10.0
START_S = 30.0
"""What a busy machine may take to start an interpreter beside the ten seconds that the command has."""


@pytest.fixture
def log(root):
    with cometlog.open(root) as client:
        fill(client, 5, 2)
    return root


def run(*words, **options):
    command = [sys.executable, "-m", "cometlog", "forward", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def refused(log, *words):
    """Run what must be refused; return the line that says why."""
    before, began_s = files(log), time.monotonic()
    done = run(log, *words)
    took_s = time.monotonic() - began_s
    assert (done.returncode, done.stdout) == (2, "")
    assert took_s < ANSWER_S_MAX + START_S
    assert files(log) == before
    (line,) = done.stderr.splitlines()
    assert line.startswith("cometlog forward: ")
    return line


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--to", "http://h:1/x"], "begins with 'http'"),
        (["--to", "kafka://h:1/{host}"], "has the field {host}"),
        (["--to", "kafka://h:99999/x"], "'99999' is no port"),
        (["--to", "kafka://h:1"], "names no topic"),
        ([], "--to"),
        (["--to", "kafka://h:1/x", "--mode", "twice"], "invalid choice: 'twice'"),
        (["--to", "kafka://h:1/x", "--assignment", "2/2"], "I/N"),
        (["--to", "kafka://h:1/x", "--batch-size", "0"], "1 or more"),
        (["--to", "kafka://h:1/x", "--batch-size", "1000001"], "1 to 1000000"),
        (["--to", "kafka://h:1/x", "--group", "a b"], "group name"),
        (["--to", "kafka://h:1/x", "--partition-by", "key"], "--key"),
        (["--to", "kafka://h:1/x", "--set", "linger.ms"], "compression.type=zstd"),
        (["--to", "kafka://h:1/x", "--set", "no.such.property=1"], "no.such.property"),
        (["--to", "kafka://h:1/x", "--set", "acks=0"], "acks"),
        (["--to", "kafka://h:1/x", "--dead-letter", "a:b"], "namespace"),
        (["--to", "kafka://127.0.0.1:1/x"], "no Kafka broker answers at 127.0.0.1:1"),
        (["--to", "kafka://no-such-host.invalid/x"], "no Kafka broker answers at no-such-host.invalid:9092"),
    ],
)
def test_wrong_use_is_refused_and_the_log_is_untouched(log, words, part):
    assert part in refused(log, *words)


def test_a_server_that_says_nothing_is_given_up(log):
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert f"no Kafka broker answers at {address}" in refused(log, "--to", f"kafka://{address}/x")


def test_a_name_that_kafka_does_not_take_is_refused(kafka, log):
    line = refused(log, "--to", f"kafka://{kafka.address}/{'x' * 250}")
    assert "1 to 249" in line


def test_a_log_that_is_not_there_is_not_made(kafka, topic, root):
    done = run(root, "--to", f"kafka://{kafka.address}/{topic}", "--until-caught-up")
    assert done.returncode == 2
    assert not root.exists()


class GuardedBroker(KafkaBroker):
    """A broker with access rules."""

    def _properties(self):
        return super()._properties() + (
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
            "allow.everyone.if.no.acl.found=true\n"
        )


def test_a_missing_topic_that_may_not_be_made_is_named(tmp_path, topic, log):
    with GuardedBroker(tmp_path / "kafka") as broker:
        admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
        rules = [
            AclBinding(
                kind, name, ResourcePatternType.LITERAL, "User:*", "*", operation, permission
            )
            for kind, name, operation, permission in (
                (ResourceType.BROKER, "kafka-cluster", AclOperation.ALL, AclPermissionType.ALLOW),
                (ResourceType.BROKER, "kafka-cluster", AclOperation.CREATE, AclPermissionType.DENY),
                (ResourceType.TOPIC, topic, AclOperation.DESCRIBE, AclPermissionType.ALLOW),
            )
        ]  # fmt: skip
        for made in admin.create_acls(rules).values():
            made.result(30)
        line = refused(log, "--to", f"kafka://{broker.address}/{topic}")
        assert f"the topic '{topic}' does not exist" in line
        assert "make it, or give this client the right to" in line


def test_the_command_forwards_with_a_key_and_says_what_it_did(kafka, topic, root):
    with cometlog.open(root) as client:
        client.append(stream(0), [b'{"user": {"id": %d}}' % (number % 3) for number in range(9)])
        client.append(stream(0), [b"no json", b"[1]", b'{"user": {}}'])
    words = ["--key", "user.id", "--until-caught-up", "--json", "--set", "compression.type=zstd"]
    done = run(root, "--to", f"kafka://{kafka.address}/{topic}", *words)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["forwarded"], report["lag"], report["group"]) == (12, 0, "forward")
    assert re.fullmatch(r"cometlog forward: 12 entries forwarded in 1 chunks, \d+ a second\n", done.stderr)
    keys = [record.key for record in records(kafka, topic)]
    assert keys == [b"0", b"1", b"2"] * 3 + [None] * 3


def test_a_terminal_shows_progress_and_the_rate(kafka, topic, log):
    make_topic(kafka, topic)
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "cometlog",
        "forward",
        str(log),
        "--to",
        f"kafka://{kafka.address}/{topic}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while b"10 entries forwarded, " not in said or b"a second, 0 to go; waiting" not in said:
            said += os.read(ours, 4096)
        process.terminate()
        assert process.wait(60) == 0
    os.close(ours)
    assert numbers(records(kafka, topic)) == {stream(shard): list(range(5)) for shard in range(2)}


def test_the_group_and_its_lag_are_listed(kafka, topic, log):
    assert run(log, "--to", f"kafka://{kafka.address}/{topic}", "--until-caught-up").returncode == 0
    command = [sys.executable, "-m", "cometlog", "groups", "list", str(log)]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert listed.splitlines()[1].split() == ["forward", "2", "0"]
