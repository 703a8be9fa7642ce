"""``client.tail``: an asynchronous iterator that wakes on appends of any process and can be cancelled."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog
from cometlog import ConfigurationError
from support import KIB, SHARED_PATHS, STREAM, Worker, make_config

OTHER = "events:v1:shard:0001"


@pytest.fixture
def client(root: Path) -> Iterator[cometlog.Client]:
    with cometlog.open(root, make_config()) as opened:
        opened.append(STREAM, [b"0", b"1"])
        yield opened


async def take(tail: object, count: int) -> list[tuple[str, int]]:
    """The first ``count`` entries of a tail, as (stream, number)."""
    found: list[tuple[str, int]] = []
    async for batch in tail:
        found += [(entry.stream, entry.number) for entry in batch]
        if len(found) >= count:
            return found
    return found


@pytest.mark.parametrize(("start", "expected"), [("first", [0, 1]), (1, [1])])
def test_a_tail_begins_where_it_is_told(
    client: cometlog.Client, start: int | str, expected: list[int]
) -> None:
    found = asyncio.run(take(client.tail(STREAM, start=start), len(expected)))
    assert found == [(STREAM, number) for number in expected]


def test_a_tail_sees_what_is_appended_later_also_in_new_shards_in_order(client: cometlog.Client) -> None:
    async def main() -> list[tuple[str, int]]:
        task = asyncio.create_task(take(client.tail("events:*", discovery_interval=0.05), 4))
        await asyncio.sleep(0)
        for stream in (STREAM, OTHER, STREAM, OTHER):
            await asyncio.to_thread(client.append, stream, [b"new"])
        return await asyncio.wait_for(task, 30)

    found = asyncio.run(main())
    assert sorted(found) == [(STREAM, 2), (STREAM, 3), (OTHER, 0), (OTHER, 1)]
    assert [number for stream, number in found if stream == STREAM] == [2, 3]


@pytest.mark.parametrize("write_path", SHARED_PATHS)
def test_an_append_of_another_process_wakes_a_tail(
    root: Path, write_path: str, start_worker: type[Worker]
) -> None:
    with cometlog.open(root, make_config(), write_path=write_path) as writer:
        writer.append(STREAM, [b"0"])
    worker = start_worker("hold_open", root=str(root), write_path=write_path)
    assert worker.hear() == "attached"
    with cometlog.open(root, make_config(), write_path=write_path) as client:

        async def main() -> list[tuple[str, int]]:
            task = asyncio.create_task(take(client.tail(STREAM, discovery_interval=3600), 1))
            await asyncio.sleep(0)
            await asyncio.to_thread(start_and_wait)
            return await asyncio.wait_for(task, 30)

        def start_and_wait() -> None:
            other = start_worker("hold_open", root=str(root), write_path=write_path)
            assert other.hear() == "attached"

        assert asyncio.run(main()) == [(STREAM, 2)]


def test_many_tails_share_one_thread_and_cancelling_them_ends_it(client: cometlog.Client) -> None:
    def threads_of_this_loop() -> list[threading.Thread]:
        return [
            thread
            for thread in threading.enumerate()
            if thread.name == "cometlog-tail" and thread not in before
        ]

    before = threading.enumerate()

    async def main() -> None:
        tasks = [asyncio.create_task(take(client.tail(STREAM), 1)) for _ in range(50)]
        while not threads_of_this_loop():
            await asyncio.sleep(0.001)
        assert len(threads_of_this_loop()) == 1
        for task in tasks[:25]:
            task.cancel()
        await asyncio.to_thread(client.append, STREAM, [b"for those left"])
        for found in await asyncio.wait_for(asyncio.gather(*tasks[25:]), 30):
            assert found == [(STREAM, 2)]
        results = await asyncio.gather(*tasks[:25], return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name == "cometlog-tail":
            thread.join(30)
            assert not thread.is_alive()


def test_a_cancelled_tail_can_be_followed_by_another_from_where_it_was(client: cometlog.Client) -> None:
    async def main() -> list[tuple[str, int]]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(take(client.tail(STREAM), 1), 0.05)
        return await take(client.tail(STREAM, start=0), 2)

    assert asyncio.run(main()) == [(STREAM, 0), (STREAM, 1)]


def test_a_read_only_client_tails_by_looking(client: cometlog.Client, root: Path) -> None:
    with cometlog.open(root, read_only=True) as reader:

        async def main() -> list[tuple[str, int]]:
            task = asyncio.create_task(take(reader.tail(STREAM), 1))
            await asyncio.sleep(0)
            await asyncio.to_thread(client.append, STREAM, [b"new"])
            return await asyncio.wait_for(task, 30)

        assert asyncio.run(main()) == [(STREAM, 2)]


def test_bad_options_are_refused(client: cometlog.Client) -> None:
    with pytest.raises(ConfigurationError, match="start is"):
        client.tail(STREAM, start="middle")
    with pytest.raises(ConfigurationError, match="needs one stream"):
        client.tail("nothing:*", start=3)
    with pytest.raises(ConfigurationError, match="batch_size"):
        client.tail(STREAM, batch_size=0)
    for interval in (0, -1.0, "x"):
        with pytest.raises(ConfigurationError, match="discovery_interval is seconds, more than 0"):
            client.tail(STREAM, discovery_interval=interval)


def test_streams_that_appear_while_the_watch_looks_do_not_end_it(root: Path) -> None:
    streams = cometlog.all_shard_streams("events", "v1", 100)
    with cometlog.open(root, make_config(64 * KIB)) as client:
        client.append(streams[0], [b"0"])

        def append_to_all() -> None:
            for stream in streams[1:]:
                client.append(stream, [b"0"])

        async def main() -> list[tuple[str, int]]:
            task = asyncio.create_task(
                take(client.tail("events:*", start="first", discovery_interval=0.001), 100)
            )
            await asyncio.to_thread(append_to_all)
            return await asyncio.wait_for(task, 60)

        assert sorted(asyncio.run(main())) == [(stream, 0) for stream in streams]
