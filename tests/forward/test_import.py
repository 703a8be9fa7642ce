"""Importing from a Kafka topic and from a JetStream stream: what arrives, what is left out, and where an import goes on."""

import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

import cometlog
from cometlog import Config
from cometlog.errors import (
    TargetError,
)
from cometlog.forward import Forwarder, Importer
from cometlog.forward.import_position import ImportPosition, Place
from cometlog.forward.nats_source import NatsSource
from feeds import FROM, STREAM, KafkaFeed, NatsFeed, key, wait_until
from kafka_side import records


def bring(client, url, stream=STREAM, **options):
    with Importer(client, stream, source=url, until_end=True, **options) as importer:
        importer.run()
        return importer.stats()


def entries(client, stream=STREAM):
    return [entry.data for entry in client.scan(stream)]


def test_a_forwarded_log_comes_back_shard_by_shard(feed, tmp_path):
    streams = [f"events:v1:shard:{shard:04d}" for shard in range(4)]
    with cometlog.open(tmp_path / "log") as client:
        for shard, stream in enumerate(streams):
            client.append(stream, [b"%d %d" % (shard, number) for number in range(1500)])
        with Forwarder(client, to=feed.template) as forwarder:
            forwarder.run(until_caught_up=True)
        for stream in streams:
            back = stream.replace("events", "back")
            stats = bring(client, feed.url, back, only=stream)
            assert (stats.records, stats.appended, stats.unwanted, stats.lost) == (6000, 1500, 4500, 0)
            assert entries(client, back) == entries(client, stream)
        stats = bring(client, feed.url, "all:v1:shard:0000")
        assert (stats.appended, stats.duplicates, stats.state) == (6000, 0, "stopped")
        everything = entries(client, "all:v1:shard:0000")
        for shard, stream in enumerate(streams):
            assert [data for data in everything if data.startswith(b"%d " % shard)] == entries(client, stream)


def test_what_was_sent_twice_is_left_out_and_what_was_not_forwarded_is_kept(tmp_path, kafka, topic):
    """In Kafka, which stores what is sent again; a later epoch gives numbers again, and another log has numbers of its own."""
    feed = KafkaFeed(kafka, topic)
    sent = [*range(10), *range(5, 15), *range(12, 20)]
    feed.put((key(number), b"%d" % number) for number in sent)
    feed.put([("", b"by hand"), ("no key/at all", b"odd")])
    feed.put((key(number, epoch=2), b"again %d" % number) for number in range(18, 22))
    feed.put((key(number), b"%d" % number) for number in range(15, 25))
    feed.put((key(number, log="b" * 12), b"other %d" % number) for number in range(3))
    with cometlog.open(tmp_path / "log") as client:
        stats = bring(client, feed.url, batch_size=7)
        assert entries(client) == [
            *(b"%d" % number for number in range(20)), b"by hand", b"odd",
            *(b"again %d" % number for number in range(18, 22)), *(b"other %d" % number for number in range(3)),
        ]  # fmt: skip
    assert (stats.records, stats.appended, stats.duplicates) == (47, 29, 18)


def test_a_stream_in_several_partitions_comes_back_whole_and_once(tmp_path, kafka, topic):
    """A key chooses the partition, and most of the stream is sent twice; what one partition has says nothing of the others."""
    url, users = f"kafka://{kafka.address}/{topic}", 7
    sent = [b"%d %d" % (number % users, number) for number in range(3000)]
    with cometlog.open(tmp_path / "log") as client:
        client.append(FROM, sent)
        for _ in range(2):
            with Forwarder(
                client, to=url, key=lambda data: data[:1], partition_by="key", partitions=2
            ) as forwarder:
                forwarder.run(until_caught_up=True)
            with client.consumer("forward") as group:
                group.reset(FROM, 1000)
        assert len({record.partition for record in records(kafka, topic)}) == 2
        stats = bring(client, url, batch_size=100)
        back = entries(client)
    assert (stats.records, stats.appended, stats.duplicates, stats.lost) == (5000, 3000, 2000, 0)
    for user in range(users):
        assert [data for data in back if data.startswith(b"%d " % user)] == sent[user::users]


def test_what_is_sent_again_into_a_new_partition_comes_twice_and_nothing_is_missing(tmp_path, kafka, topic):
    feed = KafkaFeed(kafka, topic)
    feed.put((key(number), b"%d" % number) for number in range(10))
    with cometlog.open(tmp_path / "log") as client:
        assert bring(client, feed.url).appended == 10
        feed.add_partition()
        feed.put(((key(number), b"%d" % number) for number in (*range(5, 15), *range(12, 20))), partition=1)
        stats = bring(client, feed.url)
        assert (stats.records, stats.appended, stats.duplicates) == (18, 15, 3)
        assert entries(client) == [b"%d" % number for number in (*range(10), *range(5, 20))]


def test_it_goes_on_where_it_stood_under_its_name(feed, tmp_path):
    with cometlog.open(tmp_path / "log") as client:
        feed.put((key(number), b"%d" % number) for number in range(20))
        assert bring(client, feed.url, batch_size=3).appended == 20
        assert bring(client, feed.url).records == 0
        feed.put((key(number), b"%d" % number) for number in range(20, 30))
    with cometlog.open(tmp_path / "log") as client:
        stats = bring(client, feed.url)
        assert (stats.records, stats.appended) == (10, 10)
        assert entries(client) == [b"%d" % number for number in range(30)]
        assert bring(client, feed.url, group="anew").appended == 30


def test_records_that_the_source_removed_are_counted(feed, tmp_path):
    with cometlog.open(tmp_path / "log") as client:
        feed.put((key(number), b"%d" % number) for number in range(10))
        bring(client, feed.url)
        feed.put((key(number), b"%d" % number) for number in range(10, 20))
        feed.remove(15)
        stats = bring(client, feed.url)
        assert (stats.lost, stats.appended) == (5, 5)
        assert entries(client) == [b"%d" % number for number in (*range(10), *range(15, 20))]


def test_new_records_are_followed_until_stop(feed, tmp_path):
    with cometlog.open(tmp_path / "log") as client, Importer(client, STREAM, source=feed.url) as importer:
        thread = threading.Thread(target=importer.run)
        thread.start()
        for number in range(5):
            feed.put([(key(number), b"%d" % number)])
            wait_until(lambda count=number + 1: importer.stats().appended == count)
        importer.stop()
        thread.join(30)
        assert not thread.is_alive()
        assert entries(client) == [b"%d" % number for number in range(5)]


def test_the_end_lies_behind_a_transaction_that_is_still_open(kafka, topic, tmp_path):
    feed = KafkaFeed(kafka, topic)
    commit = feed.put_uncommitted((key(number), b"%d" % number) for number in range(10))
    with cometlog.open(tmp_path / "log") as client:
        with Importer(client, STREAM, source=feed.url, until_end=True) as importer:
            thread = threading.Thread(target=importer.run)
            thread.start()
            wait_until(lambda: importer.stats().state != "starting")
            assert importer.stats().state == "waiting"
            commit()
            thread.join(60)
            assert not thread.is_alive()
        assert entries(client) == [b"%d" % number for number in range(10)]


def test_a_batch_that_no_segment_takes_is_halved(tmp_path, nats_server):
    feed = NatsFeed(nats_server, "halves")
    feed.put((key(number), bytes([number]) * 10_000) for number in range(40))
    config = Config.default().with_changes(
        storage={"segment_size_bytes": 128 << 10}, compression={"threshold_bytes": 1 << 30}
    )
    with cometlog.open(tmp_path / "log", config) as client:
        assert bring(client, feed.url, batch_size=40).appended == 40
        assert entries(client) == [bytes([number]) * 10_000 for number in range(40)]


@pytest.mark.timeout(600)
def test_nothing_is_missing_or_there_twice_after_kills(feed, tmp_path, rng):
    """An import is killed whenever some entries more are there."""
    total, kills = 6000, 5
    feed.put((key(number), b"%d" % number) for number in range(total))
    root = tmp_path / "log"
    cometlog.open(root).close()
    command = [sys.executable, "-m", "cometlog", "import", str(root), STREAM, "--from", feed.url]
    done = []
    with cometlog.open(root, read_only=True) as client:

        def count() -> int:
            return client.next_entry(STREAM) if (root / "replay/v1/0000").is_dir() else 0

        for _ in range(kills):
            goal = min(count() + rng.randrange(1, total // kills), total)
            process = subprocess.Popen([*command, "--batch-size", "37"], stderr=subprocess.DEVNULL)
            try:
                wait_until(lambda goal=goal: count() >= goal)
            finally:
                process.kill()
                process.wait()
            done.append(count())
        ended = subprocess.run(
            [*command, "--until-end", "--json"], capture_output=True, text=True, timeout=100, check=True
        )
        print(f"killed at {done}; {ended.stderr.strip()}", file=sys.stderr)
        assert entries(client) == [b"%d" % number for number in range(total)]
        assert json.loads(ended.stdout)["duplicates"] == 0
    assert (
        subprocess.run([sys.executable, "-m", "cometlog", "verify", str(root)], check=False).returncode == 0
    )


def test_the_end_comes_nearer_where_what_was_to_be_read_is_removed(jetstream, nats_server, topic, tmp_path):
    """The last messages are pending when they are purged, so none comes that says it is the last."""
    feed = NatsFeed(nats_server, topic)
    feed.put((key(number), b"%d" % number) for number in range(10))
    with cometlog.open(tmp_path / "log") as client:
        with Importer(client, STREAM, source=feed.url, until_end=True, batch_size=4) as importer:
            read = importer._source.read

            def read_and_purge(count, wait_s):
                found = read(count, wait_s)
                if found:
                    assert len(found) == 4
                    jetstream.purge(topic)
                return found

            importer._source.read = read_and_purge
            thread = threading.Thread(target=importer.run)
            thread.start()
            thread.join(60)
            is_alive = thread.is_alive()
            importer.stop()
            thread.join(60)
        assert not is_alive
        assert entries(client) == [b"%d" % number for number in range(4)]


class LateReader:
    """A consumer from which nothing comes in time: so many messages it has delivered, and so many are pending."""

    def __init__(self, delivered, pending):
        self._info = SimpleNamespace(num_pending=pending, delivered=SimpleNamespace(consumer_seq=delivered))

    async def fetch(self, count, timeout):
        raise TimeoutError

    async def consumer_info(self):
        return self._info


@pytest.mark.parametrize(("delivered", "pending", "is_end"), [(5, 0, False), (0, 5, False), (0, 0, True)])
def test_what_is_late_is_not_taken_for_removed(nats_server, topic, delivered, pending, is_end):
    feed = NatsFeed(nats_server, topic)
    feed.put((key(number), b"%d" % number) for number in range(5))
    source = NatsSource([nats_server.address], topic, {})
    try:
        source.check()
        assert source.go_to({}) == 0
        source._reader = LateReader(delivered, pending)
        assert source.read(10, 0.2) == []
        assert source.is_at_end() is is_end
    finally:
        source.close()


def test_a_server_that_was_killed_is_waited_for(own_nats_server, tmp_path):
    feed = NatsFeed(own_nats_server, "back")
    feed.put((key(number), b"%d" % number) for number in range(50))
    with cometlog.open(tmp_path / "log") as client, Importer(client, STREAM, source=feed.url) as importer:
        thread = threading.Thread(target=importer.run)
        thread.start()
        wait_until(lambda: importer.stats().appended == 50)
        own_nats_server.kill()
        own_nats_server.start()
        feed.put((key(number), b"%d" % number) for number in range(50, 70))
        wait_until(lambda: importer.stats().appended == 70)
        importer.stop()
        thread.join(30)
        assert entries(client) == [b"%d" % number for number in range(70)]


def test_a_source_with_less_than_was_imported_is_another(feed, tmp_path):
    with cometlog.open(tmp_path / "log") as client:
        position = ImportPosition(client, STREAM, "import", feed.url)
        position.settle(Place({"0": 13}, {}))
        position.close()
        with pytest.raises(TargetError, match=r"it is not the (topic|stream) that was imported"):
            bring(client, feed.url)
