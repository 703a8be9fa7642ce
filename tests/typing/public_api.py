"""The public names as programs use them, with the types that mypy and pyright must see; `nox -s lint` has both read this.

A comment that silences an error stands where a wrong use must be one: both report a comment that silences nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Literal, assert_type

import cometlog
from cometlog import Batcher, Client, Config, Consumer, Entry, ReadBatch
from cometlog.log_handler import LogHandler

STREAM = "events:v1:shard:0000"


def write(directory: Path) -> None:
    """Opening and appending."""
    with cometlog.open(directory, Config.multi_process(), write_path="mmap") as client:
        assert_type(client, Client)
        assert_type(client.config, Config)
        assert_type(client.append(STREAM, [b"one", b"two"]), range)
        writer = client.writer(STREAM)
        assert_type(writer.append(b"three"), int)
        assert_type(writer.extend(b"%d" % number for number in range(3)), range)
        assert_type(client.sync(), None)
        client.append(STREAM, ["text"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
        client.append(7, [b"x"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        writer.append("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cometlog.open(directory, {"storage": {}})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def read(client: Client) -> None:
    """Reading by number and by time."""
    batch = client.read(STREAM, start=0, count=10)
    assert_type(batch, ReadBatch)
    assert_type(batch[0], Entry)
    assert_type(batch[1:], list[Entry])
    assert_type([entry.data for entry in batch], list[bytes])
    assert_type(batch[0].timestamp_ns, int)
    assert_type(batch.numbers, list[int])
    assert_type(batch.payloads(), list[bytes])
    assert_type(batch.memoryviews(), list[memoryview])
    assert_type(client.scan(STREAM, start=5), Iterator[Entry])
    assert_type(client.recent(STREAM, 3), ReadBatch)
    assert_type(client.entry_at_time(STREAM, 0), int)
    assert_type(client.entry_count(STREAM), int)
    assert_type(client.streams("events:*"), list[str])
    batch[0].number = 7  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def follow(client: Client) -> None:
    """Reading what is appended from now on."""
    tail = client.tail("events:*", start="next")
    assert_type(tail, AsyncIterator[ReadBatch])
    async for batch in tail:
        assert_type(batch, ReadBatch)
        await asyncio.sleep(0)


def consume(client: Client) -> None:
    """A consumer group."""

    def handle(batch: ReadBatch) -> None:
        consumer.ack(batch)

    def decide(batch: ReadBatch, error: Exception) -> Literal["skip", "retry", "stop"] | None:
        return "skip" if isinstance(error, ValueError) else None

    def ignore(batch: ReadBatch, error: Exception) -> str:
        return f"ignore {error} of {batch}"

    with client.consumer("shipper", start="first") as consumer:
        assert_type(consumer, Consumer)
        consumer.process(handle, "events:*", shards=range(4), assignment=(0, 2), on_error=decide)
        consumer.process(
            handle, ["events:v1:shard:0000"], on_batch=lambda batch, seconds: print(len(batch), seconds)
        )
        for batch in consumer.batches("events:*", batch_size=50):
            assert_type(batch, ReadBatch)
            consumer.ack(batch)
            consumer.ack(batch[0])
            consumer.ack(list(batch))
            consumer.ack(batch.stream, 7)
            consumer.ack(batch.stream, range(9))
        assert_type(consumer.read("events:*", 10), list[ReadBatch])
        assert_type(consumer.lag(STREAM), int)
        consumer.reset(STREAM, 0)
        consumer.process(lambda: None)  # type: ignore[arg-type,misc]  # pyright: ignore[reportArgumentType]
        consumer.process(handle, on_error=ignore)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def look_after(client: Client) -> None:
    """Retention, dictionaries, statistics."""
    assert_type(client.retain(), list[cometlog.RemovedSegment])
    assert_type(client.train_dictionary(STREAM), int)
    assert_type(client.stats()[STREAM].entries, int)
    assert_type(client.stalled_writers(), list[cometlog.StalledWriter])


def batch_up(client: Client) -> None:
    """A batcher with and without an encoder, and a logging handler."""

    def encode(data: Any, headers: Any) -> bytes:
        return repr((data, headers)).encode()

    with Batcher(client, "events", "v1", shards=4, when_full="drop", encoder=encode) as batcher:
        assert_type(batcher.add({"a": 1}, key="user-42", headers={"trace": "7"}), bool)
        assert_type(batcher.flush(timeout_s=1.0), None)
    Batcher(client, "events", "v1", when_full="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(LogHandler("log", STREAM), LogHandler)


def choose() -> None:
    """Shards and configurations."""
    assert_type(cometlog.pick_shard("user-42", 16), int)
    assert_type(cometlog.pick_shard_stream(b"user-42", "events", "v1", 16), str)
    assert_type(cometlog.all_shard_streams("events", "v1", 16, assignment=(0, 2)), list[str])
    assert_type(cometlog.owns_shard(7, (1, 3)), bool)
    assert_type(Config.load("comet.toml"), Config)
    assert_type(Config.default().with_changes(storage={"segment_size_bytes": 1 << 20}), Config)
    Config.default().storage.segment_size_bytes = 7  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def use_fixtures(comet_log: Client, comet_log_entries: Callable[..., list[bytes]]) -> None:
    """What the fixtures for pytest give."""
    comet_log.append(STREAM, [b"1"])
    assert comet_log_entries() == [b"1"]


def meet_errors(client: Client) -> None:
    """Errors have one root and their attributes have types."""
    try:
        client.read(STREAM)
    except cometlog.CorruptionError as error:
        assert_type(error.offset, int)
        assert_type(error.entry, int | None)
    except cometlog.CometlogError as error:
        assert_type(error, cometlog.CometlogError)
