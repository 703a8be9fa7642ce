"""The batcher: nothing lost, order kept for each key, bounded, errors surface, forks and exits."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cometlog
from cometlog import (
    Batcher,
    BatcherError,
    BatcherFullError,
    BatchTooLargeError,
    ClosedError,
    ConfigurationError,
    EntryTypeError,
)  # fmt: skip
from support import make_config, wait_until


@pytest.fixture
def client(root: Path) -> Iterator[cometlog.Client]:
    with cometlog.open(root, make_config()) as opened:
        yield opened


def entries(client: cometlog.Client) -> dict[str, list[bytes]]:
    return {stream: [entry.data for entry in client.scan(stream)] for stream in client.streams()}


def test_everything_added_by_many_threads_is_appended_once_and_in_order_for_each_key(
    client: cometlog.Client,
) -> None:
    def add(owner: int) -> None:
        for sequence in range(2000):
            assert batcher.add(b"%d %d" % (owner, sequence), key=f"user-{owner}")

    with Batcher(client, "events", "v1", shards=4, max_entries=100) as batcher:
        threads = [threading.Thread(target=add, args=(owner,)) for owner in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found: dict[int, list[int]] = {owner: [] for owner in range(5)}
    for stream, data in entries(client).items():
        for entry in data:
            owner, sequence = map(int, entry.split())
            assert stream == cometlog.pick_shard_stream(f"user-{owner}", "events", "v1", 4)
            found[owner].append(sequence)
    assert found == {owner: list(range(2000)) for owner in range(5)}


def test_entries_without_a_key_go_round_the_shards(client: cometlog.Client) -> None:
    with Batcher(client, "events", "v1", shards=4) as batcher:
        for number in range(40):
            batcher.add(b"%d" % number)
    assert [len(data) for data in entries(client).values()] == [10, 10, 10, 10]


def test_a_batch_goes_when_enough_entries_or_bytes_wait_or_the_oldest_is_old(client: cometlog.Client) -> None:
    def appended() -> int:
        return sum(len(data) for data in entries(client).values())

    with Batcher(client, "events", "v1", max_entries=10, max_age_s=3600) as batcher:
        for _ in range(9):
            batcher.add(b"x")
        assert appended() == 0
        batcher.add(b"x")
        wait_until(lambda: appended() == 10, "ten entries to be appended")
    with Batcher(client, "events", "v1", max_bytes=1000, max_age_s=3600) as batcher:
        batcher.add(b"x" * 999)
        assert appended() == 10
        batcher.add(b"x")
        wait_until(lambda: appended() == 12, "a thousand bytes to be appended")
    with Batcher(client, "events", "v1", max_age_s=0.01) as batcher:
        batcher.add(b"x")
        wait_until(lambda: appended() == 13, "an entry to grow old")


def test_flush_returns_once_all_is_appended(client: cometlog.Client) -> None:
    with Batcher(client, "events", "v1", max_age_s=3600) as batcher:
        for number in range(1234):
            batcher.add(b"%d" % number)
        batcher.flush()
        assert entries(client) == {"events:v1:shard:0000": [b"%d" % number for number in range(1234)]}


def test_headers_go_to_the_encoder(client: cometlog.Client) -> None:
    def encode(data: Any, headers: Any) -> bytes:
        return json.dumps({"data": data, "headers": headers}).encode()

    with Batcher(client, "events", "v1", encoder=encode) as batcher:
        batcher.add("text", headers={"trace": "7"})
        with pytest.raises(TypeError, match="not JSON serializable"):
            batcher.add(object())
    with (
        Batcher(client, "events", "v1") as batcher,
        pytest.raises(ConfigurationError, match="need an encoder"),
    ):
        batcher.add(b"x", headers={"trace": "7"})
    assert entries(client)["events:v1:shard:0000"] == [b'{"data": "text", "headers": {"trace": "7"}}']


class Failing:
    """A client whose appends fail until it is healed."""

    def __init__(self, client: cometlog.Client) -> None:
        self.config = client.config
        self.healed = threading.Event()
        self.tries = 0
        self._client = client

    def append(self, stream: str, batch: list[bytes]) -> range:
        self.tries += 1
        if not self.healed.is_set():
            raise OSError(28, "No space left on device")
        return self._client.append(stream, batch)


def test_a_failed_append_is_told_tried_again_and_loses_nothing(client: cometlog.Client) -> None:
    failing = Failing(client)
    told: list[Exception] = []
    with Batcher(failing, "events", "v1", on_error=told.append) as batcher:
        for number in range(50):
            batcher.add(b"%d" % number)
        with pytest.raises(BatcherError, match=r"50 entries are not appended yet: .*No space left"):
            batcher.flush()
        failing.healed.set()
        wait_until(lambda: entries(client), "the append to be tried again")
        batcher.flush()
    assert told
    assert all(isinstance(error, OSError) for error in told)
    assert entries(client) == {"events:v1:shard:0000": [b"%d" % number for number in range(50)]}


def test_closing_says_how_many_entries_could_not_be_appended(client: cometlog.Client) -> None:
    batcher = Batcher(Failing(client), "events", "v1")
    for _ in range(7):
        batcher.add(b"x")
    with pytest.raises(BatcherError, match=r"7 entries could not be appended: .*No space left"):
        batcher.close()
    batcher.close()
    with pytest.raises(ClosedError, match="closed"):
        batcher.add(b"x")


@pytest.mark.parametrize("when_full", ["raise", "drop", "block"])
def test_a_full_queue_does_what_was_asked(client: cometlog.Client, when_full: Any) -> None:
    failing = Failing(client)
    batcher = Batcher(failing, "events", "v1", capacity_entries=5, when_full=when_full)
    for number in range(5):
        assert batcher.add(b"%d" % number)
    if when_full == "raise":
        with pytest.raises(BatcherFullError, match="5 entries wait"):
            batcher.add(b"5")
    elif when_full == "drop":
        assert not batcher.add(b"5")
        assert batcher.dropped == 1
    else:
        blocked = threading.Thread(target=batcher.add, args=(b"5",))
        blocked.start()
        wait_until(lambda: failing.tries > 2, "the append to fail some times")
        assert blocked.is_alive()
    failing.healed.set()
    if when_full == "block":
        blocked.join(30)
    batcher.close()
    expected = [b"%d" % number for number in range(6 if when_full == "block" else 5)]
    assert entries(client) == {"events:v1:shard:0000": expected}


@pytest.mark.parametrize(
    ("options", "text"),
    [({"max_entries": 0}, "max_entries"), ({"capacity_entries": 0}, "capacity_entries"), ({"max_age_s": -1}, "max_age_s"),
     ({"when_full": "wait"}, "when_full"), ({"max_bytes": 1 << 40}, "max_bytes"), ({"shards": 0}, "number of shards")],
)  # fmt: skip
def test_options_out_of_range_are_refused(client: cometlog.Client, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Batcher(client, "events", "v1", **options)


def test_a_bad_entry_is_refused_by_add(client: cometlog.Client) -> None:
    with Batcher(client, "events", "v1") as batcher:
        with pytest.raises(EntryTypeError, match="entries are bytes"):
            batcher.add("text")
        with pytest.raises(BatchTooLargeError, match="at most"):
            batcher.add(bytes(64 << 20))
        assert batcher.add(bytearray(b"bytes-like"))
    assert entries(client) == {"events:v1:shard:0000": [b"bytes-like"]}


def test_a_forked_child_has_a_queue_of_its_own(client: cometlog.Client) -> None:
    batcher = Batcher(client, "events", "v1", max_age_s=3600)
    batcher.add(b"parent")
    child = os.fork()
    if child == 0:
        batcher.add(b"child")
        batcher.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    batcher.close()
    assert sorted(entries(client)["events:v1:shard:0000"]) == [b"child", b"parent"]


def test_threads_of_a_forked_child_that_add_at_once_share_one_queue(client: cometlog.Client) -> None:
    batcher = Batcher(client, "events", "v1", max_age_s=3600)
    batcher.add(b"parent")
    with batcher._lock:  # as if a thread of the parent were in the middle of an add
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a child that waits for the lock is ended, and fails the test
            barrier = threading.Barrier(8)

            def add(owner: int) -> None:
                barrier.wait()
                batcher.add(b"%d" % owner)

            threads = [threading.Thread(target=add, args=(owner,)) for owner in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            batcher.flush()
            batcher.close()
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    batcher.close()
    expected = sorted([b"parent", *(b"%d" % owner for owner in range(8))])
    assert sorted(entries(client)["events:v1:shard:0000"]) == expected


def test_nothing_is_lost_at_a_normal_exit(root: Path) -> None:
    program = f"""
import cometlog
batcher = cometlog.Batcher(cometlog.open({str(root)!r}), "events", "v1", max_age_s=3600)
for number in range(500):
    batcher.add(b"%d" % number)
"""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert time.monotonic() - started < 60
    with cometlog.open(root, read_only=True) as reader:
        assert [entry.data for entry in reader.scan("events:v1:shard:0000")] == [
            b"%d" % n for n in range(500)
        ]
