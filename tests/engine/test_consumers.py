"""Consumer groups: delivery in order, acknowledgement in any order, lag, reset, the processing loop, several processes."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import cometlog
from cometlog import (
    ClosedError,
    CometlogError,
    ConfigurationError,
    EntryNotFoundError,
    GroupNameError,
    ProcessingError,
    ReadOnlyError,
)  # fmt: skip
from cometlog.group_offsets import GroupOffsets
from support import SHARD, STREAM, Worker, make_config, wait_until

CONSUMER_WORKERS = Path(__file__).with_name("consumer_workers.py")
OTHER = "events:v1:shard:0001"


@pytest.fixture
def client(root: Path) -> Iterator[cometlog.Client]:
    """A client of a log with one hundred entries in its first shard."""
    with cometlog.open(root, make_config()) as opened:
        opened.append(STREAM, [b"%d" % number for number in range(100)])
        yield opened


def numbers(batches: list[cometlog.ReadBatch]) -> list[int]:
    return [entry.number for batch in batches for entry in batch]


def test_a_group_reads_on_where_it_stands(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    assert numbers(consumer.read(STREAM, 30)) == list(range(30))
    assert numbers(consumer.read(STREAM, 1000)) == list(range(30, 100))
    assert consumer.read(STREAM) == []
    assert consumer.lag(STREAM) == 100


def test_what_was_not_acknowledged_comes_again_to_the_next_consumer(client: cometlog.Client) -> None:
    first = client.consumer("g")
    batch = first.read(STREAM, 30)[0]
    first.ack(list(batch)[:10])
    first.close()
    assert numbers(client.consumer("g").read(STREAM, 3)) == [10, 11, 12]
    assert numbers(client.consumer("another").read(STREAM, 3)) == [0, 1, 2]


def test_a_new_group_may_begin_at_the_end(client: cometlog.Client) -> None:
    consumer = client.consumer("late", start="next")
    assert consumer.read(STREAM) == []
    client.append(STREAM, [b"new"])
    assert numbers(consumer.read(STREAM)) == [100]


def test_batches_of_no_entries_are_refused(client: cometlog.Client) -> None:
    with pytest.raises(ConfigurationError, match="batch_size is at least 1, got 0"):
        client.consumer("g").batches(STREAM, 0)


def test_browsing_leaves_every_group_where_it_stands(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    consumer.ack(consumer.read(STREAM, 10)[0])
    consumer.checkpoint()
    table = client.path / "events/v1/0000/offsets"
    before = table.read_bytes()
    assert len(list(client.scan(STREAM))) == 100
    assert client.recent(STREAM, 3).numbers == [97, 98, 99]
    assert client.read(STREAM, 50, 10).numbers == list(range(50, 60))
    assert client.entry_at_time(STREAM, 0) == 0
    assert table.read_bytes() == before
    assert numbers(consumer.read(STREAM, 1)) == [10]


def test_a_reset_goes_back_and_forward_and_not_beyond_the_end(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    consumer.ack(consumer.read(STREAM, 60)[0])
    consumer.reset(STREAM, 20)
    assert numbers(consumer.read(STREAM, 2)) == [20, 21]
    consumer.reset(STREAM, 100)
    assert consumer.lag(STREAM) == 0
    for number in (101, -1):
        with pytest.raises(EntryNotFoundError, match="the next to come is 100"):
            consumer.reset(STREAM, number)


def test_a_group_that_stands_beyond_the_end_is_told_so_until_it_is_reset(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    consumer.lag(STREAM)
    offsets = GroupOffsets(client.path / SHARD, STREAM, 0o600)
    offsets.reset("g", 150, 0o600)  # as after a log was restored from before
    offsets.close()
    behind = client.consumer("g")
    for use in (
        lambda: behind.read(STREAM),
        lambda: behind.process(print, STREAM),
        lambda: list(behind.batches(STREAM)),
    ):
        with pytest.raises(
            EntryNotFoundError, match=r"stands at entry 150 of .* which ends before 100; reset the group"
        ):
            use()
    assert behind.lag(STREAM) == 0
    behind.reset(STREAM, 98)
    assert numbers(behind.read(STREAM)) == [98, 99]


def test_a_live_consumer_follows_a_reset_by_somebody_else(client: cometlog.Client) -> None:
    live, operator = client.consumer("g"), client.consumer("g")
    batch = live.read(STREAM, 50)[0]
    live.ack(STREAM, range(40))
    operator.reset(STREAM, 10)
    live.ack(batch)
    assert operator.lag(STREAM) == 90, "an acknowledgement of before undid the reset"
    assert numbers(live.read(STREAM, 2)) == [10, 11]
    operator.reset(STREAM, 70)
    live.ack(STREAM, 10)
    assert operator.lag(STREAM) == 30, "an acknowledgement of before lowered the position"


def test_streams_by_pattern_by_name_and_by_assignment(client: cometlog.Client) -> None:
    client.append(OTHER, [b"other"])
    client.append("logs:v1:shard:0000", [b"log"])
    consumer = client.consumer("g")
    assert consumer.matching("events:*") == [STREAM, OTHER]
    assert consumer.matching([OTHER, "logs:*"]) == [OTHER, "logs:v1:shard:0000"]
    assert consumer.matching("events:*", (1, 2)) == [OTHER]
    assert [batch.stream for batch in consumer.read("events:*", 1000)] == [STREAM, OTHER]
    for assignment in ((2, 2), (-1, 2)):
        with pytest.raises(ConfigurationError, match="assignment is"):
            consumer.matching("*", assignment)


def test_processing_hands_over_every_entry_once_and_acknowledges(client: cometlog.Client) -> None:
    client.append(OTHER, [b"o%d" % number for number in range(7)])
    consumer = client.consumer("g")
    seen: Counter[tuple[str, int]] = Counter()
    told: list[int] = []

    def handle(batch: cometlog.ReadBatch) -> None:
        seen.update((entry.stream, entry.number) for entry in batch)
        if len(seen) == 107:
            consumer.stop()

    consumer.process(handle, "events:*", batch_size=9, on_batch=lambda batch, _: told.append(len(batch)))
    assert seen == Counter([*((STREAM, n) for n in range(100)), *((OTHER, n) for n in range(7))])
    assert sum(told) == 107
    assert max(told) == 9
    assert consumer.lag(STREAM) == consumer.lag(OTHER) == 0


def test_a_shard_that_appears_after_the_start_is_read_from_its_first_entry(client: cometlog.Client) -> None:
    consumer = client.consumer("g", start="next")
    found: list[tuple[str, int]] = []

    def handle(batch: cometlog.ReadBatch) -> None:
        found.extend((entry.stream, entry.number) for entry in batch)
        consumer.stop()

    runner = threading.Thread(
        target=consumer.process, args=(handle, "events:*"), kwargs={"discovery_interval": 0.05}
    )
    runner.start()
    with cometlog.open(client.path, make_config()) as writer:
        writer.append(OTHER, [b"late", b"later"])
    runner.join(30)
    assert not runner.is_alive()
    assert found == [(OTHER, 0), (OTHER, 1)]


def test_a_failing_handler_is_retried_and_then_the_batch_is_reported_and_stays(
    client: cometlog.Client,
) -> None:
    consumer = client.consumer("g")
    calls: list[int] = []

    def handle(batch: cometlog.ReadBatch) -> None:
        calls.append(batch.start)
        raise RuntimeError("no")

    with pytest.raises(ProcessingError, match="failed 3 times on the batch of 10 entries from 0") as caught:
        consumer.process(handle, STREAM, batch_size=10, max_retries=2, retry_delay=0.001)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert calls == [0, 0, 0]
    assert consumer.lag(STREAM) == 100
    assert numbers(consumer.read(STREAM, 1)) == [0]


def test_on_error_may_skip_a_batch(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    failed: list[int] = []
    good: list[int] = []

    def handle(batch: cometlog.ReadBatch) -> None:
        if batch.start == 20:
            raise ValueError("bad batch")
        good.append(batch.start)
        if batch.start == 90:
            consumer.stop()

    def on_error(batch: cometlog.ReadBatch, error: Exception) -> str:
        assert isinstance(error, ValueError)
        failed.append(batch.start)
        return "skip"

    consumer.process(handle, STREAM, batch_size=10, max_retries=0, on_error=on_error)
    assert failed == [20]
    assert good == [start for start in range(0, 100, 10) if start != 20]
    assert consumer.lag(STREAM) == 0


def test_a_batch_that_is_left_for_later_comes_again_after_a_pause_and_not_hot(
    client: cometlog.Client,
) -> None:
    consumer = client.consumer("g")
    moments: list[float] = []

    def handle(batch: cometlog.ReadBatch) -> None:
        moments.append(time.monotonic())
        if len(moments) < 4:
            raise RuntimeError("not yet")
        consumer.stop()

    consumer.process(
        handle,
        STREAM,
        max_retries=0,
        retry_delay=0.05,
        poll_interval=0.05,
        on_error=lambda *_: "retry",
    )
    assert len(moments) == 4
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(moments))
    assert consumer.lag(STREAM) == 0


def test_without_automatic_acknowledgement_nothing_is_acknowledged(client: cometlog.Client) -> None:
    consumer = client.consumer("g")

    def handle(batch: cometlog.ReadBatch) -> None:
        if batch.next_entry == 100:
            consumer.stop()

    consumer.process(handle, STREAM, auto_ack=False, batch_size=25)
    assert consumer.lag(STREAM) == 100


def test_batches_end_when_everything_is_read_and_wait_for_more_where_asked(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    assert [len(batch) for batch in consumer.batches(STREAM, 40)] == [40, 40, 20]
    appender = threading.Timer(0.1, lambda: client.append(STREAM, [b"later"]))
    appender.start()
    assert numbers(list(consumer.batches(STREAM, 40, wait_s=5))) == [100]
    appender.join()


def test_batches_end_only_after_shards_that_appeared_meanwhile(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    found = Counter[str]()
    for batch in consumer.batches("*", 1000):
        found[batch.stream] += len(batch)
        if batch.stream == STREAM:
            client.append(OTHER, [b"late", b"later"])
    assert found == {STREAM: 100, OTHER: 2}


@pytest.mark.parametrize(
    ("options", "text"),
    [({"batch_size": 0}, "batch_size"), ({"max_retries": -1}, "max_retries"), ({"retry_delay": -1}, "retry_delay"),
     ({"poll_interval": "x"}, "poll_interval"), ({"assignment": (3, 2)}, "assignment")],
)  # fmt: skip
def test_options_out_of_range_are_refused_with_their_value(
    client: cometlog.Client, options: dict, text: str
) -> None:
    with pytest.raises(ConfigurationError, match=text):
        client.consumer("g").process(print, STREAM, **options)


@pytest.mark.parametrize("name", ["", "a b", "../up", ".hidden", "x" * 97, "é"])
def test_a_bad_group_name_is_refused(client: cometlog.Client, name: str) -> None:
    with pytest.raises(GroupNameError, match="group name"):
        client.consumer(name)


def test_other_bad_uses_say_what_is_wrong(client: cometlog.Client, root: Path) -> None:
    with pytest.raises(ConfigurationError, match="'first' or 'next'"):
        client.consumer("g", start="middle")
    with pytest.raises(CometlogError, match="does not exist"):
        client.consumer("g").lag("events:v1:shard:0077")
    consumer = client.consumer("g")
    consumer.close()
    consumer.close()
    with pytest.raises(ClosedError, match="closed"):
        consumer.read(STREAM)
    with cometlog.open(root, read_only=True) as reader, pytest.raises(ReadOnlyError, match="read-only"):
        reader.consumer("g")


def test_a_consumer_that_is_killed_again_and_again_misses_nothing(
    client: cometlog.Client, root: Path, rng: random.Random, start_worker: type[Worker]
) -> None:
    client.append(STREAM, [b"%d" % number for number in range(100, 20_000)])
    delivered: Counter[int] = Counter()
    kills = 0
    while client.consumer("g").lag(STREAM):
        worker = start_worker(
            "consume_and_acknowledge",
            script=CONSUMER_WORKERS,
            root=str(root),
            group="g",
            batch_size=rng.randrange(1, 60),
        )
        assert worker.hear() == "ready"
        time.sleep(rng.uniform(0, 0.05))  # where the kill falls is the test's only use of time
        worker.kill()
        kills += 1
        for line in worker.hear_rest():
            for number, data in line:
                assert bytes.fromhex(data) == b"%d" % number
                delivered[number] += 1
    print(f"{kills} kills, {sum(delivered.values()) - len(delivered)} entries delivered more than once")
    assert sorted(delivered) == list(range(20_000))


@pytest.mark.parametrize("write_path", ["mmap", "async", "buffered"])
def test_a_consumer_asleep_in_another_process_is_woken_by_an_append(
    root: Path, write_path: str, start_worker: type[Worker]
) -> None:
    with cometlog.open(root, make_config(), write_path=write_path) as client:
        client.append(STREAM, [b"0"])
        worker = start_worker("sleep_until_appended", script=CONSUMER_WORKERS, root=str(root), sleep_s=20.0)
        assert worker.hear() == "asleep soon"
        stat = Path(f"/proc/{worker.pid}/wchan")
        wait_until(lambda: "futex" in stat.read_text(), "the consumer to sleep on the shard's futex")
        client.append(STREAM, [b"1"])
        seconds, numbers_read = worker.hear()
        assert numbers_read == [1]
        assert seconds < 15, "only the time limit ended the sleep"
        assert worker.end() == 0


def test_stop_from_a_signal_handler_ends_processing(root: Path, start_worker: type[Worker]) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"%d" % number for number in range(10)])
    worker = start_worker("consume_until_terminated", script=CONSUMER_WORKERS, root=str(root), group="g")
    assert worker.hear() == "ready"
    assert worker.hear() == list(range(10))
    worker.signal(signal.SIGTERM)
    assert worker.hear() == "stopped"
    assert worker.end() == 0
