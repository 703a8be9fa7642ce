"""What a client of Kafka leaves when it is closed, and how long it waits for what Kafka says may still succeed."""

import gc
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import cometlog
from cometbench.services.kafka import KafkaBroker
from cometlog.errors import TargetError
from cometlog.forward import Forwarder, Importer, kafka
from cometlog.forward.destination import parse_destination
from cometlog.forward.targets import TargetOptions
from cometlog.kernel.kafka_producer import ProducerError
from feeds import FROM, STREAM, wait_until
from kafka_side import records

MODES = ("at-least-once", "exactly-once")


def client_threads() -> set[str]:
    """Return the threads that librdkafka has in this process."""
    tasks = list(Path("/proc/self/task").iterdir())
    return {task.name for task in tasks if name_of(task).startswith("rdk:")}


def name_of(task: Path) -> str:
    try:
        return (task / "comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def no_collection():
    """What only a garbage collection would end stays; what earlier tests left is gone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("mode", MODES)
def test_a_closed_forwarder_and_a_closed_import_leave_no_thread(kafka, topic, root, mode):
    url = f"kafka://{kafka.address}/{topic}"
    before = client_threads()
    with cometlog.open(root) as client:
        client.append(FROM, [b"%d" % number for number in range(100)])
        with Forwarder(client, to=url, mode=mode) as forwarder:
            forwarder.run(until_caught_up=True)
            assert client_threads() > before
        wait_until(lambda: client_threads() <= before)  # a thread that was joined is listed for a moment more
        with Importer(client, STREAM, source=url, until_end=True) as importer:
            importer.run()
            assert client_threads() > before
        wait_until(lambda: client_threads() <= before)
        assert client.next_entry(STREAM) == 100


class Unwilling:
    """A producer whose transactions may always succeed later; each answer takes as long as was asked for."""

    complaint = "the coordinator is away"

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls = 0

    def init_transactions(self, timeout_ms: int) -> None:
        self.now_s += timeout_ms / 1000
        self.calls += 1
        raise ProducerError("not yet", -185, True)

    def close(self) -> None:
        pass


def target_of(url: str) -> kafka.KafkaTarget:
    options = TargetOptions(
        group="forward", assignment=(0, 1), exactly_once=True, by_key=False, partitions=None, chunk_entries=1000,
        properties={},
    )  # fmt: skip
    return kafka.KafkaTarget(parse_destination(url), options)


def test_what_may_succeed_later_is_tried_for_half_a_minute_and_then_said(monkeypatch):
    target, producer = target_of("kafka://127.0.0.1:1/x"), Unwilling()
    target.close()
    monkeypatch.setattr(target, "_make_producer", lambda _more: producer)
    monkeypatch.setattr(kafka, "monotonic", lambda: producer.now_s)
    with pytest.raises(
        TargetError, match=r"taking up the transactions of .* failed: not yet \(the coordinator is away\)"
    ):
        target.open("0123456789ab", lambda: True)
    assert producer.calls == 15


def test_giving_up_ends_the_attempts_at_once(monkeypatch):
    target, producer = target_of("kafka://127.0.0.1:1/x"), Unwilling()
    target.close()
    monkeypatch.setattr(target, "_make_producer", lambda _more: producer)
    with pytest.raises(TargetError, match="not yet"):
        target.open("0123456789ab", lambda: False)
    assert producer.calls == 1


class LonelyBroker(KafkaBroker):
    """A broker that wants two others beside it before it takes transactions."""

    def _properties(self):
        return (
            super()
            ._properties()
            .replace(
                "transaction.state.log.replication.factor=1", "transaction.state.log.replication.factor=3"
            )
        )


def test_a_broker_that_cannot_take_transactions_is_a_failure_that_is_counted(tmp_path, topic, monkeypatch):
    monkeypatch.setattr(kafka, "RETRY_S", 3.0)
    with LonelyBroker(tmp_path / "kafka") as broker, cometlog.open(tmp_path / "log") as client:
        client.append(FROM, [b"waits"])
        url = f"kafka://{broker.address}/{topic}"
        with Forwarder(client, to=url, mode="exactly-once") as forwarder:
            forwarder._sleeper.pause = lambda _pause_s: forwarder.stop()
            thread = threading.Thread(target=forwarder.run)
            thread.start()
            thread.join(60)
            is_alive = thread.is_alive()
            forwarder.stop()
            thread.join(60)
            stats = forwarder.stats()
        assert not is_alive
        assert (stats.failures, stats.forwarded) == (1, 0)
        assert "taking up the transactions of cometlog." in stats.last_error
        assert records(broker, topic) == []


def test_a_commit_that_is_given_up_before_it_was_answered_is_neither_lost_nor_repeated(
    kafka, topic, root, monkeypatch
):
    """Each of the first commits is told to end in a millisecond; what became of it, Kafka knows."""
    url = f"kafka://{kafka.address}/{topic}"
    monkeypatch.setattr("cometlog.forward.backoff.FIRST_S", 0.01)
    with cometlog.open(root) as client:
        client.append(FROM, [b"%d" % number for number in range(3000)])
        with Forwarder(client, to=url, mode="exactly-once", batch_size=500) as forwarder:
            until_done = forwarder._target._until_done

            def impatient(call, what):
                if what != "committing a transaction" or forwarder.stats().failures == 4:
                    until_done(call, what)
                    return
                with monkeypatch.context() as patch, suppress(TargetError):
                    patch.setattr("cometlog.forward.kafka.COMMIT_MS", 1)
                    patch.setattr("cometlog.forward.kafka.RETRY_S", 0.0)
                    until_done(call, what)
                raise TargetError("no answer in time")

            forwarder._target._until_done = impatient
            forwarder.run(until_caught_up=True)
            failures = forwarder.stats().failures
        assert failures == 4
    assert [record.number for record in records(kafka, topic)] == list(range(3000))
