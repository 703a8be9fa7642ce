"""Entries arrive once, or again only where a forwarder began again, while forwarders are killed and the server is restarted twice."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cometbench.services.kafka import KafkaBroker
from kafka_topic import KafkaTopic
from recording import Count
from storm import STREAMS, Arrivals, Pace, Storm, check_runs, sequence_of
from support import Worker, wait_until
from tiers import Tier

CI = Pace(entries=100_000, kills=10, life_s=None, batch_entries=2000)
FULL = Pace(entries=1_000_000, kills=30, life_s=2.0, batch_entries=100_000)


def go_through(storm: Storm, pace: Pace, restarts: list[Callable[[], object]]) -> None:
    """Restart the server at even distances while forwarders live and are killed, then forward the rest.

    Restarts are made by this thread: a server dies with the thread that started it.
    """
    with ThreadPoolExecutor(1) as pool:
        turns = pool.submit(storm.run)
        try:
            for number, restart in enumerate(restarts, 1):
                due = pace.kills * number // (len(restarts) + 1)
                wait_until(
                    lambda due=due: turns.done() or storm.kills["forwarders_killed"] >= due,
                    f"{due} kills",
                    300.0,
                )  # type: ignore[misc]
                assert not turns.done() or turns.result(), (
                    "the storm was over before the server was restarted"
                )
                storm.server_is_away.set()
                restart()
                storm.server_is_away.clear()
        except BaseException:
            storm.give_up()
            raise
        turns.result()
    storm.drain()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["at-least-once", "exactly-once"])
def test_every_entry_reaches_kafka_in_order(
    tmp_path: Path, tier: Tier, rng: random.Random, count: Count, start_worker: type[Worker],
    kafka: KafkaBroker, topic: str, mode: str,
) -> None:  # fmt: skip
    """Each shard has a partition of its own; the second of the two restarts is a SIGKILL."""
    pace = tier.pick(ci=CI, full=FULL)
    arrival = KafkaTopic(kafka.address, topic, len(STREAMS))
    to = f"kafka://{kafka.address}/{topic}"
    storm = Storm(tmp_path, start_worker, rng, pace, arrival.arrived, ["--to", to, "--mode", mode])

    def crash() -> None:
        kafka.kill()
        kafka.start()

    go_through(storm, pace, [kafka.restart, crash])
    ids: list[set[bytes]] = [set() for _ in STREAMS]

    def numbers(shard: int) -> Iterator[int]:
        for record in arrival.records(shard, committed=True):
            ids[shard].add(record.headers["cometlog-id"])
            yield sequence_of(record.value, shard)

    exactly_once = mode == "exactly-once"
    arrivals = [
        check_runs(numbers(shard), set() if exactly_once else storm.resumed[shard]) for shard in range(4)
    ]
    sent = sum(1 for shard in range(4) for _ in arrival.records(shard, committed=False))
    arrival.close()
    assert [one.entries for one in arrivals] == storm.written == storm.standing()
    assert [len(found) for found in ids] == storm.written, "an idempotency key is not that of one entry"
    report(count, storm, arrivals)
    count(broker_restarts=2, aborted_records=sent - sum(one.entries + one.repeated for one in arrivals))
    if exactly_once:
        assert [one.repeated for one in arrivals] == [0] * len(STREAMS)
        assert sent > sum(storm.written), (
            "no kill fell into a transaction: the storm shows nothing about them"
        )
    else:
        assert sum(one.repeated for one in arrivals) > 0, "no kill fell between sending and acknowledging"


def report(count: Count, storm: Storm, arrivals: list[Arrivals]) -> None:
    """Add what was written, killed and delivered to the counts of the test."""
    count(
        entries=sum(storm.written),
        **storm.kills,
        entries_delivered=sum(one.entries for one in arrivals),
        delivered_again=sum(one.repeated for one in arrivals),
        runs_delivered_again=sum(one.runs for one in arrivals),
    )


def test_the_check_of_runs_finds_what_is_wrong() -> None:
    """A gap, entries out of order, a repetition that begins where none may: each is found; a permitted one is counted."""
    assert check_runs([0, 1, 2, 1, 2, 3], {1}) == Arrivals(4, 2, 1)
    assert check_runs([0, 1, 2, 0, 1, 1, 2, 3], {0, 1}) == Arrivals(4, 4, 2)
    for wrong in ([0, 2], [1], [0, 1, 2, 2, 3], [0, 1, 2, 1, 3], [0, 1, 1]):
        with pytest.raises(AssertionError):
            check_runs(wrong, {0} if wrong != [0, 1, 2, 1, 3] else {1})
