"""Forwarding to a broker that is well: what arrives, where, in which order, and what the group says of it."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import confluent_kafka
import pytest

import cometlog
from cometlog.forward import Forwarder
from cometlog.forward.dead_letters import decode
from kafka_side import fill, first_seen, is_topic, make_topic, numbers, records, stream, topic_config

MODES = ("at-least-once", "exactly-once")
ENTRIES = 3000


def to(broker, topic):
    return f"kafka://{broker.address}/{topic}"


def forward(client, url, **options):
    """Forward what is there; return the statistics."""
    with Forwarder(client, to=url, **options) as forwarder:
        forwarder.run(until_caught_up=True)
        return forwarder.stats()


@pytest.mark.parametrize("mode", MODES)
def test_every_entry_arrives_once_in_the_order_of_its_shard(kafka, topic, root, mode):
    with cometlog.open(root) as client:
        fill(client, ENTRIES)
        done = forward(client, to(kafka, topic), mode=mode, partitions=3, batch_size=2500)
        found = records(kafka, topic)
        assert numbers(found) == {stream(shard): list(range(ENTRIES)) for shard in range(4)}
        for record in found:
            shard, number = map(int, record.value.split(b"-"))
            assert (record.stream, record.number, record.epoch, record.key) == (
                stream(shard),
                number,
                1,
                None,
            )
            assert record.partition == shard % 3
        assert (done.forwarded, done.lag, done.state) == (4 * ENTRIES, 0, "stopped")
        assert done.forwarded_bytes == sum(len(record.value) for record in found)
        with client.consumer("forward") as group:
            assert [group.lag(stream(shard)) for shard in range(4)] == [0] * 4


def test_timestamps_are_kept_to_the_millisecond(kafka, topic, root):
    with cometlog.open(root) as client:
        fill(client, 50, shards=1, batch=10)
        forward(client, to(kafka, topic))
        kept = {entry.number: entry.timestamp_ns // 1_000_000 for entry in client.scan(stream(0))}
        assert {record.number: record.timestamp_ms for record in records(kafka, topic)} == kept


@pytest.mark.parametrize("mode", MODES)
def test_a_second_run_goes_on_where_the_first_ended(kafka, topic, root, mode):
    with cometlog.open(root) as client:
        for entries in (100, 100, 250):
            fill(client, entries, shards=2)
            done = forward(client, to(kafka, topic), mode=mode)
        assert done.forwarded == 2 * 150
        assert numbers(records(kafka, topic)) == {stream(shard): list(range(250)) for shard in range(2)}


def test_exactly_once_goes_on_where_kafka_says_whatever_the_local_group_says(kafka, topic, root):
    with cometlog.open(root) as client:
        fill(client, 500, shards=2)
        forward(client, to(kafka, topic), mode="exactly-once")
        with client.consumer("forward") as group:
            group.reset(stream(0), 17)  # as after a power loss: the checkpoint was older
            group.reset(stream(1), 0)
        fill(client, 600, shards=2)
        done = forward(client, to(kafka, topic), mode="exactly-once")
        assert done.forwarded == 200
        assert numbers(records(kafka, topic)) == {stream(shard): list(range(600)) for shard in range(2)}
        assert topic_config(kafka, "cometlog-positions", "cleanup.policy") == "compact"


def test_exactly_once_goes_on_where_kafka_says_when_a_group_that_forwards_is_reset(kafka, topic, root):
    with cometlog.open(root) as client, Forwarder(client, to=to(kafka, topic), mode="exactly-once") as live:
        fill(client, 500, shards=2)
        finish = live._target.finish

        def finish_and_more(positions, keep_waiting):
            finish(positions, keep_waiting)
            live._target.finish = finish_and_reset
            fill(client, 600, shards=2)

        def finish_and_reset(positions, keep_waiting):
            finish(positions, keep_waiting)
            live._target.finish = finish
            with client.consumer("forward") as group:
                group.reset(stream(0), 17)
                group.reset(stream(1), 0)

        live._target.finish = finish_and_more
        live.run(until_caught_up=True)
        assert (live.stats().forwarded, live.stats().lag) == (1200, 0)
        assert numbers(records(kafka, topic)) == {stream(shard): list(range(600)) for shard in range(2)}


def test_exactly_once_survives_another_assignment(kafka, topic, root):
    with cometlog.open(root) as client:
        fill(client, 100)
        for part in range(2):
            forward(client, to(kafka, topic), mode="exactly-once", assignment=(part, 2))
        with client.consumer("forward") as group:
            for shard in range(4):
                group.reset(stream(shard), 0)
        fill(client, 130)
        assert forward(client, to(kafka, topic), mode="exactly-once").forwarded == 4 * 30
        assert numbers(records(kafka, topic)) == {stream(shard): list(range(130)) for shard in range(4)}


def test_two_logs_with_streams_of_the_same_names_do_not_mix(kafka, topic, tmp_path):
    logs = set()
    for name in ("one", "two"):
        with cometlog.open(tmp_path / name) as client:
            fill(client, 40, shards=1)
            assert forward(client, to(kafka, topic), mode="exactly-once").forwarded == 40
        logs.add((tmp_path / name / ".identity").read_text().strip())
    found = records(kafka, topic)
    assert {record.log for record in found} == logs
    assert [record.number for record in found] == 2 * list(range(40))


def test_the_template_chooses_a_topic_for_each_stream(kafka, topic, root):
    with cometlog.open(root) as client:
        client.append("events:v1:shard:0001", [b"a"])
        client.append("audit:v2:shard:0003", [b"b"])
        forward(client, to(kafka, topic + "-{namespace}.{version}.{shard}"))
        assert [record.value for record in records(kafka, f"{topic}-events.v1.0001")] == [b"a"]
        assert [record.value for record in records(kafka, f"{topic}-audit.v2.0003")] == [b"b"]


def test_only_matching_streams_and_assigned_shards_are_forwarded(kafka, topic, root):
    with cometlog.open(root) as client:
        fill(client, 10)
        client.append("audit:v1:shard:0000", [b"other"])
        done = forward(client, to(kafka, topic), streams="events:*", assignment=(1, 2))
        assert done.streams == [stream(1), stream(3)]
        assert numbers(records(kafka, topic)) == {stream(1): list(range(10)), stream(3): list(range(10))}


@pytest.mark.parametrize("by", ["shard", "key"])
def test_a_key_travels_with_its_entry_and_chooses_the_partition_only_if_asked_to(kafka, topic, root, by):
    def key(data):
        number = int(data.split(b"-")[1])
        return None if number == 0 else b"user-%d" % (number % 5)

    with cometlog.open(root) as client:
        fill(client, 100, shards=1)
        forward(client, to(kafka, topic), key=key, partition_by=by, partitions=8)
        found = records(kafka, topic)
        assert sorted(record.number for record in found) == list(range(100))
        assert all(record.key == key(record.value) for record in found)
        places = {record.key: set() for record in found}
        for record in found:
            places[record.key].add(record.partition)
        if by == "shard":
            assert all(partitions == {0} for partitions in places.values())
        else:
            assert all(len(partitions) == 1 for partitions in places.values())
            assert len(set.union(*places.values())) > 1


def test_an_empty_key_has_a_partition_like_any_other(kafka, topic, root):
    with cometlog.open(root) as client:
        for entries in range(10, 110, 10):
            fill(client, entries, shards=1)
            forward(client, to(kafka, topic), key=lambda _data: b"", partition_by="key", partitions=8)
        (partition,) = {record.partition for record in records(kafka, topic)}
        assert 0 <= partition < 8


@pytest.mark.parametrize("mode", MODES)
def test_entries_over_the_limit_become_dead_letters_and_the_others_arrive(kafka, topic, root, mode):
    make_topic(kafka, topic, max_message_bytes="20000")
    data = {number: b"%d" % number * (30000 if number in {3, 7} else 1) for number in range(10)}
    with cometlog.open(root) as client:
        client.append(stream(5), list(data.values()))
        done = forward(client, to(kafka, topic), mode=mode)
        assert numbers(records(kafka, topic)) == {stream(5): [0, 1, 2, 4, 5, 6, 8, 9]}
        letters = [decode(entry.data) for entry in client.scan("forward-dead-letter:v1:shard:0005")]
        assert [(letter.stream, letter.number, letter.data) for letter in letters] == [
            (stream(5), number, data[number]) for number in (3, 7)
        ]
        assert letters[0].limit_bytes == 20000 - 512
        assert "30000 bytes" in letters[0].reason
        assert (done.forwarded, done.dead_letters, done.lag) == (8, 2, 0)
        again = forward(client, to(kafka, topic), mode=mode)
        assert (again.forwarded, again.dead_letters) == (0, 0)


def test_a_dead_letter_is_not_written_again_for_an_entry_that_is_sent_again(kafka, topic, root):
    make_topic(kafka, topic, max_message_bytes="20000")
    with cometlog.open(root) as client:
        client.append(stream(0), [b"a", b"b" * 30000, b"c"])
        assert forward(client, to(kafka, topic)).dead_letters == 1
        with client.consumer("forward") as group:
            group.reset(stream(0), 0)  # as if the acknowledgement had been lost
        assert forward(client, to(kafka, topic)).dead_letters == 0
        assert client.entry_count("forward-dead-letter:v1:shard:0000") == 1


@pytest.mark.parametrize("mode", MODES)
def test_entries_that_only_the_broker_refuses_become_dead_letters(kafka, topic, root, mode):
    """A compacted topic takes no record without a key, which a client learns from the answer alone."""
    make_topic(kafka, topic, cleanup_policy="compact")
    with cometlog.open(root) as client:
        client.append(stream(0), [b"%d" % number for number in range(200)])
        done = forward(
            client, to(kafka, topic), mode=mode, key=lambda data: None if data in {b"40", b"150"} else data
        )
        letters = [decode(entry.data) for entry in client.scan("forward-dead-letter:v1:shard:0000")]
        assert [letter.number for letter in letters] == [40, 150]
        assert letters[0].limit_bytes is None
        arrived = numbers(records(kafka, topic))[stream(0)]
        assert first_seen(arrived) == [number for number in range(200) if number not in {40, 150}]
        if mode == "exactly-once":
            assert len(arrived) == 198
        assert (done.forwarded, done.dead_letters, done.lag) == (198, 2, 0)


def test_nothing_arrives_ahead_of_a_batch_that_the_broker_refuses(kafka, topic, root):
    """Several batches are under way when the first of them, with a record that a compacted topic does not take, is refused."""
    make_topic(kafka, topic, cleanup_policy="compact")
    with cometlog.open(root) as client:
        client.append(stream(0), [b"%d" % number for number in range(30_000)])
        done = forward(
            client, to(kafka, topic), key=lambda data: None if data == b"40" else data,
            properties={"batch.size": "50000"},
        )  # fmt: skip
        arrived = numbers(records(kafka, topic))[stream(0)]
        assert first_seen(arrived) == [number for number in range(30_000) if number != 40]
        assert (done.forwarded, done.dead_letters, done.lag) == (29_999, 1, 0)


@pytest.mark.parametrize(
    ("limit", "arrived", "length"), [(2**31 - 1, [0, 1, 2], 1_500_000), (700, [0, 2], 600), (0, [], 600)]
)
def test_a_limit_beyond_those_of_the_client_is_no_obstacle(kafka, topic, root, limit, arrived, length):
    """The client takes 1000 bytes to 1,000,000,000, Kafka any whole number of 32 bits."""
    make_topic(kafka, topic, max_message_bytes=str(limit))
    with cometlog.open(root) as client:
        client.append(stream(0), [b"a", b"b" * length, b"c"])
        done = forward(client, to(kafka, topic))
        assert (done.forwarded, done.dead_letters, done.failures) == (len(arrived), 3 - len(arrived), 0)
        assert [record.number for record in records(kafka, topic)] == arrived


@pytest.mark.parametrize("key", [bytes.decode, int])
def test_a_key_extractor_that_gives_no_bytes_ends_the_run(kafka, topic, root, key):
    with cometlog.open(root) as client:
        fill(client, 10, shards=1)
        with pytest.raises(cometlog.ProcessingError, match="key extractor"):
            forward(client, to(kafka, topic), key=key)
        assert forward(client, to(kafka, topic)).forwarded == 10


def test_failures_are_counted_in_the_statistics_that_all_processes_see(kafka, topic, root):
    make_topic(kafka, topic, cleanup_policy="compact")
    with cometlog.open(root) as client:
        fill(client, 10, shards=1)
        done = forward(client, to(kafka, topic), key=lambda data: None if data == b"0-4" else data)
        counted = client.stats()[stream(0)]
        assert (counted.handler_errors, counted.handler_retries) == (done.failures, done.failures)
        assert counted.delivered == 10 + done.resent


def test_entries_that_come_and_shards_that_appear_are_followed_until_stop(kafka, topic, root):
    with cometlog.open(root) as client, cometlog.open(root) as writer:
        with Forwarder(client, to=to(kafka, topic)) as forwarder:
            thread = threading.Thread(target=forwarder.run)
            thread.start()
            fill(writer, 100, shards=1)
            fill(writer, 200, shards=2)
            until(lambda: forwarder.stats().forwarded == 400)
            forwarder.stop()
            thread.join(60)
            assert not thread.is_alive()
        assert numbers(records(kafka, topic)) == {stream(shard): list(range(200)) for shard in range(2)}


def test_a_stream_without_a_topic_stops_no_other_although_kafka_refuses_something(kafka, topic, root):
    make_topic(kafka, f"{topic}-audit-audit-audit", cleanup_policy="compact")  # takes nothing without a key
    bad = f"{'x' * 100}:v1:shard:0000"
    url = to(kafka, topic + "-{namespace}-{namespace}-{namespace}")
    with cometlog.open(root) as client, cometlog.open(root) as writer:
        fill(writer, 100, shards=1)
        with Forwarder(client, to=url) as forwarder:
            thread = threading.Thread(target=forwarder.run)
            thread.start()
            until(lambda: forwarder.stats().forwarded == 100)
            writer.append(bad, [b"for a name that is too long"])
            writer.append("audit:v1:shard:0000", [b"keyless"])
            fill(writer, 200, shards=1)
            until(lambda: forwarder.stats().forwarded == 200 and forwarder.stats().dead_letters == 1)
            done = forwarder.stats()
            forwarder.stop()
            thread.join(60)
            assert not thread.is_alive()
        assert done.failures > 0
        assert done.left_out == [bad]
        assert first_seen(numbers(records(kafka, f"{topic}-events-events-events"))[stream(0)]) == list(
            range(200)
        )


def test_entries_that_a_forced_retention_removed_are_counted(kafka, topic, root):
    config = cometlog.Config.default().with_changes(
        storage={"segment_size_bytes": 64 << 10},
        retention={"forced_shard_bytes": 1, "min_segments": 1, "max_shard_bytes": 1, "interval_s": 0.0},
    )
    with cometlog.open(root, config) as client:
        fill(client, 10, shards=1)
        forward(client, to(kafka, topic))
        fill(client, 20_000, shards=1)
        assert client.retain()
        first = client.first_entry(stream(0))
        assert first > 10
        done = forward(client, to(kafka, topic))
        assert (done.lost, done.forwarded) == (first - 10, 20_000 - first)
        assert numbers(records(kafka, topic))[stream(0)] == [*range(10), *range(first, 20_000)]


def test_a_group_that_forwards_keeps_what_it_has_not_sent(kafka, topic, root):
    config = cometlog.Config.default().with_changes(
        storage={"segment_size_bytes": 64 << 10},
        retention={"min_segments": 1, "max_shard_bytes": 1, "interval_s": 0.0},
    )
    with cometlog.open(root, config) as client:
        fill(client, 10, shards=1)
        forward(client, to(kafka, topic))
        fill(client, 20_000, shards=1)
        client.retain()
        assert forward(client, to(kafka, topic)).lost == 0
        assert client.retain()
        assert numbers(records(kafka, topic))[stream(0)] == list(range(20_000))


def test_a_topic_that_is_missing_is_made_with_the_partitions_asked_for(kafka, topic, root):
    with cometlog.open(root) as client:
        fill(client, 1)
        assert not is_topic(kafka, topic)
        forward(client, to(kafka, topic), partitions=2)
        assert sorted(record.partition for record in records(kafka, topic)) == [0, 0, 1, 1]


def until(reached):
    """Wait for what a thread brings about, and fail where it does not."""
    for _ in range(6000):
        if reached():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came about")


def test_librdkafka_is_found_in_a_directory_with_a_space(tmp_path):
    package = Path(confluent_kafka.__file__).parent
    for directory in (package, package.with_name("confluent_kafka.libs")):
        shutil.copytree(directory, tmp_path / "a space" / directory.name)
    code = "import cometlog.forward.kafka_client as k, confluent_kafka; k.load_librdkafka(); print(confluent_kafka.__file__)"
    environment = {"PYTHONPATH": str(tmp_path / "a space")}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(str(tmp_path / "a space"))
