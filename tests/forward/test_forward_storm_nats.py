"""The same storm with JetStream at the other end: each stream has a subject of its own, whose last message says how far it came."""

import random
from contextlib import suppress
from pathlib import Path

import pytest
from nats.errors import Error as NatsError

from cometbench.services.nats import NatsServer
from jetstream import JetStream
from recording import Count
from storm import STREAMS, Pace, Storm, check_runs, sequence_of
from support import Worker
from test_forward_storm import go_through, report
from tiers import Tier

CI = Pace(entries=40_000, kills=8, life_s=None, batch_entries=1000)
FULL = Pace(entries=1_000_000, kills=30, life_s=2.0, batch_entries=100_000)


class Subjects:
    """What has arrived at the server; the last known number while it does not answer."""

    def __init__(self, jetstream: JetStream, name: str) -> None:
        self._jetstream = jetstream
        self._name = name
        self._count = 0

    def arrived(self) -> int:
        with suppress(OSError, NatsError, TimeoutError):
            self._count = self._jetstream.count(self._name)
        return self._count


@pytest.mark.timeout(900)
def test_every_entry_reaches_jetstream_once(
    tmp_path: Path,
    tier: Tier,
    rng: random.Random,
    count: Count,
    start_worker: type[Worker],
    own_nats_server: NatsServer,
) -> None:
    """Whatever the mode, what a subject has is not sent again; the second of the two restarts is a SIGKILL."""
    pace = tier.pick(ci=CI, full=FULL)
    server = JetStream(own_nats_server.address)
    server.make("edge", allow_atomic=True)
    to = f"nats://{own_nats_server.address}/edge.{{stream}}"
    subjects = Subjects(server, "edge")
    storm = Storm(tmp_path, start_worker, rng, pace, subjects.arrived, ["--to", to, "--mode", "exactly-once"])

    def crash() -> None:
        own_nats_server.kill()
        own_nats_server.start()

    go_through(storm, pace, [own_nats_server.restart, crash])
    stored = server.messages("edge")
    arrivals = []
    for shard in range(len(STREAMS)):
        mine = [message for message in stored if message.subject == f"edge.storm.v1.{shard:04d}"]
        arrivals.append(check_runs((sequence_of(message.data, shard) for message in mine), set()))
    assert [one.entries for one in arrivals] == storm.written == storm.standing()
    assert len({message.identity for message in stored}) == len(stored) == pace.entries
    report(count, storm, arrivals)
    count(server_restarts=2)
