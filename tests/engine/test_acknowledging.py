"""Acknowledgements: one, many, ranges and batches, in any order and again; what is no entry of the log is refused."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog
from cometlog import ClosedError, EntryNotFoundError
from cometlog.ranges import Ranges
from support import STREAM, make_config


@pytest.fixture
def client(root: Path) -> Iterator[cometlog.Client]:
    """A client of a log with one hundred entries in its first shard."""
    with cometlog.open(root, make_config()) as opened:
        opened.append(STREAM, [b"%d" % number for number in range(100)])
        yield opened


def numbers(batches: list[cometlog.ReadBatch]) -> list[int]:
    return [entry.number for batch in batches for entry in batch]


def test_each_form_of_an_acknowledgement(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    batch = consumer.read(STREAM, 50)[0]
    entries = list(batch)
    consumer.ack(entries[0])
    assert consumer.lag(STREAM) == 99
    consumer.ack(entries[1:5])
    assert consumer.lag(STREAM) == 95
    consumer.ack(STREAM, 5)
    consumer.ack(STREAM, range(6, 10))
    consumer.ack(STREAM, [10, 11])
    assert consumer.lag(STREAM) == 88
    consumer.position(STREAM).ack(12)
    consumer.ack(batch)
    assert consumer.lag(STREAM) == 50
    with pytest.raises(TypeError, match="needs an entry number"):
        consumer.ack(STREAM)


def test_acknowledgements_in_any_order_count_once_all_before_them_are_there(
    client: cometlog.Client, rng: random.Random
) -> None:
    consumer = client.consumer("g")
    consumer.read(STREAM, 100)
    order = [*range(100), *rng.choices(range(100), k=50)]
    rng.shuffle(order)
    done: set[int] = set()
    for number in order:
        consumer.ack(STREAM, number)
        done.add(number)
        contiguous = next(expected for expected in range(101) if expected not in done)
        assert consumer.lag(STREAM) == 100 - contiguous, (number, sorted(done))
    assert consumer.lag(STREAM) == 0


def test_ranges_are_what_a_set_of_numbers_is(rng: random.Random) -> None:
    for _ in range(300):
        ranges, model = Ranges(), set()
        for _ in range(rng.randrange(1, 20)):
            start = rng.randrange(60)
            stop = start + rng.randrange(8)
            ranges.add(start, stop)
            model |= set(range(start, stop))
            assert ranges.first == min(model, default=None)
        number = rng.randrange(60)
        expected = number
        while expected in model:
            expected += 1
        taken = ranges.take_from(number)
        model = {left for left in model if left >= taken}
        assert taken == expected
        assert ranges.first == min(model, default=None)


def test_a_number_beyond_the_end_cannot_be_acknowledged(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    consumer.read(STREAM, 100)
    for what in (100, range(95, 101)):
        with pytest.raises(EntryNotFoundError, match="the next to come is 100"):
            consumer.ack(STREAM, what)
    assert consumer.lag(STREAM) == 100


@pytest.mark.parametrize("numbers", [-1, 2**56, 2**70, range(-3, 4), [0, -1], range(2**64 - 1, 2**64 + 5)])
def test_a_number_that_no_entry_can_have_is_refused(client: cometlog.Client, numbers: object) -> None:
    consumer = client.consumer("g")
    consumer.read(STREAM, 100)
    with pytest.raises(EntryNotFoundError, match="numbers are 0 to"):
        consumer.ack(STREAM, numbers)
    assert consumer.lag(STREAM) in (99, 100)


@pytest.mark.parametrize("numbers", ["7", 1.5, [1.5], None, b"x"[:0].decode])
def test_what_is_no_number_is_refused(client: cometlog.Client, numbers: object) -> None:
    consumer = client.consumer("g")
    consumer.read(STREAM, 100)
    with pytest.raises(TypeError):
        consumer.ack(STREAM, numbers)
    assert consumer.lag(STREAM) == 100


def test_a_hot_handle_of_a_closed_consumer_says_closed(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    consumer.read(STREAM, 100)
    position = consumer.position(STREAM)
    consumer.close()
    for use in (
        lambda: position.ack(0),
        lambda: position.ack_range(0, 10),
        position.follow,
        position.write_checkpoint,
    ):
        with pytest.raises(ClosedError, match="closed"):
            use()
    assert client.consumer("g").lag(STREAM) == 100


def test_a_read_batch_is_acknowledged_by_a_consumer_that_did_not_deliver_it(client: cometlog.Client) -> None:
    consumer = client.consumer("g")
    consumer.ack(client.read(STREAM, 30, 20))
    assert consumer.lag(STREAM) == 100, "what is ahead of its turn waits"
    consumer.ack(client.read(STREAM, 0, 30))
    consumer.ack(client.read(STREAM, 0, 30))
    assert consumer.lag(STREAM) == 50
    assert numbers(consumer.read(STREAM, 1000)) == list(range(50, 100)), (
        "what was acknowledged is not delivered"
    )
