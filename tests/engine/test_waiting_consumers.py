"""Consumers that wait: for streams that nobody has written yet, and without an end."""

import math
import threading
from pathlib import Path

import cometlog
from cometlog.control import Control
from cometlog.kernel import layout
from cometlog.sleeper import Sleeper
from support import STREAM, make_config, wait_until

OTHER = "events:v1:shard:0001"


def is_waited_for(root: Path) -> bool:
    """Return whether a reader sleeps on the first shard."""
    control = Control(root / "events" / "v1" / "0000" / "control", writable=False)
    try:
        return bool(control.mapping.load_acquire(layout.CONTROL_FLAGS) & layout.FLAG_WAITING)
    finally:
        control.close()


def test_batches_that_wait_find_a_shard_that_appears(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"first"])
        consumer = client.consumer("g", start="next")

        def append() -> None:
            wait_until(lambda: is_waited_for(root), "the consumer to sleep")
            client.append(OTHER, [b"late"])

        appender = threading.Thread(target=append)
        appender.start()
        found = consumer.batches("events:*", wait_s=60.0)
        assert [entry.data for entry in next(found)] == [b"late"]
        appender.join()


def test_a_wait_without_an_end_sleeps(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"first"])
    sleeper = Sleeper(may_write=True)
    rung = threading.Event()

    def ring() -> None:
        wait_until(lambda: is_waited_for(root), "the sleep")
        rung.set()
        sleeper.ring()

    ringer = threading.Thread(target=ring)
    ringer.start()
    sleeper.sleep([root / "events" / "v1" / "0000"], sleeper.ticket(), math.inf, lambda: False)
    assert rung.is_set()
    ringer.join()
    sleeper.close()
