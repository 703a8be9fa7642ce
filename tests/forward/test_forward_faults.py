"""Forwarders that are killed, brokers that die, pause or come back: nothing is lost, order holds, and exactly once means once."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import cometlog
import cometlog.control
from cometbench.services.kafka import KafkaBroker
from cometlog.forward import Forwarder
from kafka_side import fill, first_seen, make_topic, numbers, records, stream

MODES = ("at-least-once", "exactly-once")
COMMAND = (sys.executable, "-m", "cometlog", "forward")
WAIT_S = 120.0
SHARDS, ENTRIES, BATCH = 2, 20_000, 500


@contextmanager
def forwarding(root, broker, topic, mode, *words):
    """A ``cometlog forward`` that runs; it is killed at the end if it still does."""
    command = [
        *COMMAND, str(root), "--to", f"kafka://{broker.address}/{topic}", "--mode", mode, "--batch-size", str(BATCH),
        *map(str, words),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(root, broker, topic, mode):
    """Forward the rest; return what the command printed."""
    with forwarding(root, broker, topic, mode, "--until-caught-up", "--json") as process:
        printed, said = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, said
    return json.loads(printed)


def acknowledged(client):
    """Return how many entries of all shards the group has acknowledged."""
    with client.consumer("forward") as group:
        return sum(client.next_entry(name) - group.lag(name) for name in map(stream, range(SHARDS)))


def until(reached):
    limit = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < limit, "it never came about"
        time.sleep(0.002)


def check(found, mode, entries=ENTRIES):
    """Every entry is there, each shard in order; repetitions only go back to where a batch began, and none exactly once."""
    by_stream = numbers(found)
    assert sorted(by_stream) == [stream(shard) for shard in range(SHARDS)]
    for arrived in by_stream.values():
        assert first_seen(arrived) == list(range(entries))
        if mode == "exactly-once":
            assert len(arrived) == entries


@pytest.mark.parametrize("mode", MODES)
def test_a_forwarder_that_is_killed_again_and_again_loses_nothing(kafka, topic, root, rng, mode):
    make_topic(kafka, topic, SHARDS)
    kills = 0
    with cometlog.open(root) as client:
        fill(client, ENTRIES, SHARDS)
        while kills < 4:
            before = acknowledged(client)
            with forwarding(root, kafka, topic, mode) as process:
                goal = min(before + rng.randrange(1, 4 * BATCH), SHARDS * ENTRIES - BATCH)
                until(lambda goal=goal: acknowledged(client) >= goal)
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
        rest = finish(root, kafka, topic, mode)
        assert rest["lag"] == 0
        found = records(kafka, topic)
        check(found, mode)
        print(f"{kills} kills, {len(found) - SHARDS * ENTRIES} duplicates in {SHARDS * ENTRIES} entries")
        if mode == "at-least-once":
            assert len(found) - SHARDS * ENTRIES <= kills * BATCH


@pytest.mark.parametrize("mode", MODES)
def test_a_broker_that_is_killed_and_comes_back_gets_the_rest(tmp_path, topic, root, mode):
    with KafkaBroker(tmp_path / "kafka") as broker, cometlog.open(root) as client:
        make_topic(broker, topic, SHARDS)
        fill(client, ENTRIES, SHARDS)
        with forwarding(root, broker, topic, mode, "--until-caught-up", "--json") as process:
            until(lambda: acknowledged(client) >= 2 * BATCH)
            broker.kill()
            broker.start()
            printed, said = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, said
        assert json.loads(printed)["lag"] == 0
        check(records(broker, topic), mode)


@pytest.mark.parametrize("mode", MODES)
def test_writers_go_on_and_memory_stays_bounded_while_the_broker_is_paused(kafka, topic, root, mode):
    make_topic(kafka, topic, SHARDS)
    with cometlog.open(root) as client:
        fill(client, 1000, SHARDS)
        with forwarding(root, kafka, topic, mode) as process:
            until(lambda: acknowledged(client) == SHARDS * 1000)
            kafka.pause()
            try:
                fill(client, ENTRIES, SHARDS)  # returns although nothing can be sent
                assert acknowledged(client) <= SHARDS * 1000 + BATCH
                assert process.poll() is None
                status = Path(f"/proc/{process.pid}/status").read_text()
                assert int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) < 200 << 10
            finally:
                kafka.resume()
            until(lambda: acknowledged(client) == SHARDS * ENTRIES)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        check(records(kafka, topic), mode)


def test_a_graceful_stop_finishes_the_batch_that_is_under_way(kafka, topic, root):
    make_topic(kafka, topic, SHARDS)
    with cometlog.open(root) as client:
        entries = 0
        for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGTERM, 0)):
            entries += ENTRIES
            fill(client, entries, SHARDS)
            before = acknowledged(client)
            with forwarding(root, kafka, topic, "at-least-once", "--json") as process:
                until(lambda start=before: acknowledged(client) > start)
                process.send_signal(number)
                printed, said = process.communicate(timeout=WAIT_S)
            assert process.returncode == code, said
            assert json.loads(printed)["forwarded"] == acknowledged(client) - before
        finish(root, kafka, topic, "at-least-once")
        assert numbers(records(kafka, topic)) == {
            stream(shard): list(range(entries)) for shard in range(SHARDS)
        }


def test_a_second_forwarder_of_a_stream_is_refused_by_the_pid_of_the_first(kafka, topic, root):
    with cometlog.open(root) as client:
        fill(client, 10, SHARDS)
        with forwarding(root, kafka, topic, "at-least-once") as first:
            until(lambda: acknowledged(client) == SHARDS * 10)
            with forwarding(root, kafka, topic, "at-least-once", "--until-caught-up") as second:
                _, said = second.communicate(timeout=WAIT_S)
                assert second.returncode == 2
                assert f"process {first.pid} forwards events:v1:shard:0000 for group 'forward'" in said
            with forwarding(
                root, kafka, topic, "at-least-once", "--group", "other", "--until-caught-up"
            ) as third:
                assert third.wait(WAIT_S) == 0
            first.kill()
            first.wait()
        finish(root, kafka, topic, "at-least-once")


def test_forwarders_share_the_shards_by_assignment(kafka, topic, root):
    make_topic(kafka, topic, 4)
    with cometlog.open(root) as client:
        fill(client, 3000, 4)
        processes = []
        for part in range(2):
            words = [*COMMAND, root, "--to", f"kafka://{kafka.address}/{topic}", "--mode", "exactly-once"]
            words += ["--assignment", f"{part}/2", "--until-caught-up", "--json"]
            processes.append(subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True))
        done = [json.loads(process.communicate(timeout=WAIT_S)[0]) for process in processes]
        assert [part["streams"] for part in done] == [[stream(0), stream(2)], [stream(1), stream(3)]]
        assert numbers(records(kafka, topic)) == {stream(shard): list(range(3000)) for shard in range(4)}


def test_numbers_that_a_power_loss_gave_again_are_sent_again_in_their_new_epoch(
    kafka, topic, tmp_path, monkeypatch
):
    """The log lost entries that Kafka has; what was synced is what a copy of that moment holds."""
    root, kept = tmp_path / "log", tmp_path / "kept"
    with cometlog.open(root) as client:
        client.append(stream(0), [b"kept"])
        client.sync(stream(0))
        forward(client, kafka, topic)
        shutil.copytree(root, kept, ignore=shutil.ignore_patterns("*.tmp.*"))  # those come and go
        client.append(stream(0), [b"lost-1", b"lost-2"])
        forward(client, kafka, topic)
    shutil.rmtree(root)
    shutil.copytree(kept, root)
    monkeypatch.setattr(cometlog.control, "boot_id", lambda: b"the next boot id")
    with cometlog.open(root) as client:
        assert client.append(stream(0), [b"new-1"]) == range(1, 2)
        forward(client, kafka, topic)
        client.append(stream(0), [b"new-2", b"new-3"])
        forward(client, kafka, topic)
    found = records(kafka, topic)
    assert [(record.value, record.epoch, record.number) for record in found] == [
        (b"kept", 1, 0), (b"lost-1", 1, 1), (b"lost-2", 1, 2), (b"new-1", 2, 1), (b"new-2", 2, 2), (b"new-3", 2, 3),
    ]  # fmt: skip


def forward(client, broker, topic):
    with Forwarder(client, to=f"kafka://{broker.address}/{topic}", mode="exactly-once") as forwarder:
        forwarder.run(until_caught_up=True)


def test_a_file_that_holds_no_identity_is_an_error(kafka, topic, root):
    with cometlog.open(root) as client:
        fill(client, 1, 1)
        (root / ".identity").write_text("me\n")
        with pytest.raises(cometlog.NotALogError, match="12 hexadecimal digits"):
            forward(client, kafka, topic)
