"""The loop of ``process``: its options, its ends, and that a batch that fails is neither lost nor tried without a pause."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import cometlog
from cometlog import ClosedError, CometlogError, ConfigurationError, ProcessingError, StreamNameError
from support import STREAM, Worker, make_config, wait_until

CONSUMER_WORKERS = Path(__file__).with_name("consumer_workers.py")
SHARDS = cometlog.all_shard_streams("events", "v1", 8)


@pytest.fixture
def client(root: Path) -> Iterator[cometlog.Client]:
    """A client of a log with one hundred entries in its first shard."""
    with cometlog.open(root, make_config()) as opened:
        opened.append(STREAM, [b"%d" % number for number in range(100)])
        yield opened


def in_a_thread(
    consumer: cometlog.Consumer, *arguments: object, **options: object
) -> tuple[threading.Thread, list]:
    """Begin ``process`` in a thread; the list holds what it raised once it has ended."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            consumer.process(*arguments, **options)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


def end(thread: threading.Thread) -> None:
    thread.join(30)
    assert not thread.is_alive()


def test_only_the_shards_asked_for_are_processed(client: cometlog.Client) -> None:
    for stream in SHARDS[1:]:
        client.append(stream, [stream.encode()])
    consumer = client.consumer("g")
    seen: list[str] = []

    def handle(batch: cometlog.ReadBatch) -> None:
        seen.append(batch.stream)
        if len(seen) == 3:
            consumer.stop()

    consumer.process(handle, "events:*", shards=[2, 5, 7])
    assert sorted(seen) == [SHARDS[2], SHARDS[5], SHARDS[7]]
    assert [consumer.lag(stream) for stream in SHARDS] == [100, 1, 0, 1, 1, 0, 1, 0]


def test_processes_share_the_shards_by_assignment_and_none_is_left_out(
    root: Path, start_worker: type[Worker]
) -> None:
    with cometlog.open(root, make_config()) as client:
        for shard, stream in enumerate(SHARDS):
            client.append(stream, [b"%d" % number for number in range(10 * (shard + 1))])
        workers = [
            start_worker(
                "consume_share",
                script=CONSUMER_WORKERS,
                root=str(root),
                worker=worker,
                workers=3,
                entries=entries,
            )
            for worker, entries in enumerate((10 + 40 + 70, 20 + 50 + 80, 30 + 60))
        ]
        for worker in workers:
            assert worker.hear() == "ready"
        for worker in workers:
            worker.tell()
        shares = [worker.hear() for worker in workers]
        assert [worker.end() for worker in workers] == [0, 0, 0]
        assert shares == [
            {
                stream: list(range(10 * (shard + 1)))
                for shard, stream in enumerate(SHARDS)
                if shard % 3 == worker
            }
            for worker in range(3)
        ]
        consumer = client.consumer("g")
        assert [consumer.lag(stream) for stream in SHARDS] == [0] * 8


def test_a_shard_that_another_process_begins_to_write_is_found(
    client: cometlog.Client, start_worker: type[Worker]
) -> None:
    consumer = client.consumer("g", start="next")
    seen: list[tuple[str, bytes]] = []

    def handle(batch: cometlog.ReadBatch) -> None:
        seen.extend((entry.stream, entry.data) for entry in batch)
        if len(seen) == 6:
            consumer.stop()

    thread, raised = in_a_thread(consumer, handle, "events:*", discovery_interval=0.02, poll_interval=60.0)
    worker = start_worker(
        "append_to_shards", script=CONSUMER_WORKERS, root=str(client.path), streams=SHARDS[3:6], entries=2
    )
    assert worker.end() == 0
    end(thread)
    assert raised == []
    assert Counter(seen) == Counter((stream, b"%d" % number) for stream in SHARDS[3:6] for number in range(2))


def test_stop_from_another_thread_ends_a_loop_that_sleeps(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    handed = threading.Event()
    thread, raised = in_a_thread(
        consumer, lambda _: handed.set(), STREAM, poll_interval=3600.0, discovery_interval=3600.0
    )
    assert handed.wait(30)
    wait_until(lambda: consumer.lag(STREAM) == 0, "the batch to be acknowledged")
    consumer.stop()
    end(thread)
    assert raised == []
    assert consumer.read(STREAM) == [], "a consumer goes on after a stop"


def test_stop_during_the_pause_of_a_retry_ends_the_loop_and_the_batch_comes_again(
    client: cometlog.Client,
) -> None:
    consumer = client.consumer("g")
    failed = threading.Event()

    def fail(batch: cometlog.ReadBatch) -> None:
        failed.set()
        raise RuntimeError("no")

    thread, raised = in_a_thread(consumer, fail, STREAM, retry_delay=3600.0)
    assert failed.wait(30)
    consumer.stop()
    end(thread)
    assert raised == []
    assert consumer.lag(STREAM) == 100
    assert consumer.read(STREAM, 1)[0].start == 0


def test_leaving_the_context_ends_the_loop_after_the_batch_it_is_at(
    client: cometlog.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def handle(batch: cometlog.ReadBatch) -> None:
        inside.set()
        assert go_on.wait(30)

    with client.consumer("g") as consumer:
        thread, raised = in_a_thread(consumer, handle, STREAM, batch_size=10)
        assert inside.wait(30)
        stop = consumer.stop

        def stop_and_go_on() -> None:
            stop()
            go_on.set()

        monkeypatch.setattr(consumer, "stop", stop_and_go_on)
    end(thread)
    assert raised == []
    assert client.consumer("g").lag(STREAM) == 90, "the batch it was at is acknowledged, and no other"


def test_closing_the_client_ends_the_loops_of_its_consumers(root: Path) -> None:
    client = cometlog.open(root, make_config())
    client.append(STREAM, [b"0"])
    loops = [
        in_a_thread(client.consumer(f"g{number}"), print, STREAM, poll_interval=3600.0) for number in range(3)
    ]
    client.close()
    for thread, raised in loops:
        end(thread)
        assert all(isinstance(error, ClosedError) for error in raised)  # one that had not begun yet


def test_a_handler_may_close_its_own_consumer(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    with pytest.raises(ClosedError, match="closed"):
        consumer.process(lambda _: consumer.close(), STREAM)
    assert client.consumer("g").lag(STREAM) == 100


def test_a_second_loop_of_a_consumer_is_refused(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    inside = threading.Event()
    thread, _ = in_a_thread(consumer, lambda _: inside.set(), STREAM)
    assert inside.wait(30)
    with pytest.raises(CometlogError, match="another thread processes"):
        consumer.process(print, STREAM)
    consumer.stop()
    end(thread)


@pytest.mark.parametrize("raiser", ["handler", "on_batch", "on_error"])
def test_whatever_ends_the_loop_the_batch_comes_again_unless_it_was_acknowledged(
    client: cometlog.Client, raiser: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    consumer = client.consumer("g")
    handler = {"handler": interrupt, "on_batch": len, "on_error": fail}[raiser]
    with pytest.raises(KeyboardInterrupt):
        consumer.process(
            handler, STREAM, batch_size=10, max_retries=0, on_batch=interrupt, on_error=interrupt
        )
    expected = 10 if raiser == "on_batch" else 0
    assert consumer.read(STREAM, 1)[0].start == expected
    assert consumer.lag(STREAM) == 100 - expected


def test_the_pause_before_a_batch_comes_again_doubles_and_is_there_without_any_option(
    client: cometlog.Client,
) -> None:
    consumer = client.consumer("g")
    moments: list[float] = []
    other: list[int] = []

    def handle(batch: cometlog.ReadBatch) -> None:
        if batch.stream != STREAM:
            other.append(batch.start)
            return
        moments.append(time.monotonic())
        if len(moments) < 5:
            raise RuntimeError("not yet")
        consumer.stop()

    client.append(SHARDS[1], [b"x"] * 10)
    consumer.process(
        handle, "events:*", batch_size=1, max_retries=0, retry_delay=0, poll_interval=0, discovery_interval=0,
        on_error=lambda *_: None,
    )  # fmt: skip
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert len(pauses) == 4
    assert all(pause >= 0.01 * 2**turn for turn, pause in enumerate(pauses)), pauses
    assert other == list(range(10)), "another shard waits for a batch that fails"


def test_retries_of_one_delivery_pause_longer_each_time(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    moments: list[float] = []

    def fail(batch: cometlog.ReadBatch) -> None:
        moments.append(time.monotonic())
        raise RuntimeError("no")

    with pytest.raises(ProcessingError, match="failed 4 times"):
        consumer.process(fail, STREAM, max_retries=3, retry_delay=0.01)
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert len(pauses) == 3
    assert all(pause >= 0.01 * 2**turn for turn, pause in enumerate(pauses)), pauses


def test_what_on_error_may_not_return_is_refused_and_nothing_is_acknowledged(client: cometlog.Client) -> None:
    consumer = client.consumer("g")

    def fail(batch: cometlog.ReadBatch) -> None:
        raise RuntimeError("no")

    with pytest.raises(ConfigurationError, match=r"on_error returns .*got 'ignore'"):
        consumer.process(fail, STREAM, max_retries=0, on_error=lambda *_: "ignore")
    assert consumer.lag(STREAM) == 100
    assert consumer.read(STREAM, 1)[0].start == 0


def test_on_batch_is_told_batch_and_seconds_after_the_acknowledgement(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    told: list[tuple[int, int]] = []

    def on_batch(batch: cometlog.ReadBatch, seconds: float) -> None:
        assert seconds >= 0
        told.append((batch.start, consumer.lag(STREAM)))
        if batch.next_entry == 100:
            consumer.stop()

    consumer.process(lambda _: None, STREAM, batch_size=40, on_batch=on_batch)
    assert told == [(0, 60), (40, 20), (80, 0)]


@pytest.mark.parametrize("stream", ["events", "events:v1:shard:1", "", "a/b:v1:shard:0000", 7])
def test_a_name_that_is_neither_legal_nor_a_pattern_is_refused(client: cometlog.Client, stream: str) -> None:
    consumer = client.consumer("g")
    for use in (lambda: consumer.process(print, [stream]), lambda: consumer.read([stream])):
        with pytest.raises(StreamNameError):
            use()


def test_a_signal_that_comes_during_a_pause_ends_the_loop(root: Path, start_worker: type[Worker]) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"%d" % number for number in range(10)])
    worker = start_worker("fail_until_terminated", script=CONSUMER_WORKERS, root=str(root))
    assert worker.hear() == "failing"
    worker.signal(signal.SIGTERM)
    assert worker.hear() == "stopped"
    assert worker.end() == 0
