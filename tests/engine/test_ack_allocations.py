"""Acknowledging in order through the hot handle: a store into shared memory, and nothing for the allocator."""

import gc
import sys
import tracemalloc
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cometlog
from cometlog.kernel.group_position import GroupPosition
from support import STREAM

COUNT = 100_000


@pytest.fixture
def position(root: Path) -> Iterator[GroupPosition]:
    """The hot handle of a group that was delivered everything and acknowledged nothing."""
    with cometlog.open(root) as client:
        client.append(STREAM, [b"x"] * COUNT)
        consumer = client.consumer("g")
        assert len(consumer.read(STREAM, COUNT)[0]) == COUNT
        yield consumer.position(STREAM)


def test_acknowledging_in_order_leaves_nothing_allocated(position: GroupPosition) -> None:
    ack, numbers = position.ack, list(range(COUNT))
    blocks = array("q", [0, 0])  # an int kept would be a block of its own
    gc.collect()
    gc.disable()
    try:
        blocks[0] = sys.getallocatedblocks()
        for number in numbers:
            ack(number)
        blocks[1] = sys.getallocatedblocks()
    finally:
        gc.enable()
    assert blocks[1] - blocks[0] == 0
    assert position.following == COUNT


def peak_bytes(call: Callable[[int], object], numbers: list[int]) -> int:
    """Return the most memory that Python held beyond what it held before, while each number was given to ``call``."""
    tracemalloc.start()
    try:
        for number in numbers:
            call(number)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_acknowledging_in_order_allocates_nothing_in_passing_either(position: GroupPosition) -> None:
    numbers = list(range(COUNT))
    nothing = peak_bytes(callable, numbers)
    assert peak_bytes(position.ack, numbers) == nothing
    assert position.following == COUNT
    assert peak_bytes(lambda number: [number], numbers) > nothing
