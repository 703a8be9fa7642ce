"""Options and fixtures of the forwarding tests: those of the fault suites, and Kafka brokers.

``nox -s forward -- --tier full`` does the whole storm; ``--record FILE`` writes what was counted for the page "What survives what".
"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))
sys.path.insert(0, str(Path(__file__).parent.parent / "crash"))

from cometbench.services.kafka import KafkaBroker
from fake_target import target  # noqa: F401 - the fixture of what needs no server
from feeds import feed  # noqa: F401 - the fixture of imports
from jetstream import jetstream, nats_server, own_nats_server  # noqa: F401 - fixtures of the tests of JetStream
from tier_options import (  # noqa: F401 - hooks and fixtures
    count,
    pytest_addoption,
    pytest_configure,
    rng,
    root,
    seed,
    start_worker,
    tier,
)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that runs as long as the tests of this process; whoever stops or pauses it brings it back."""
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def topic() -> str:
    """The name of a topic that is not there yet."""
    return f"t{random.SystemRandom().randrange(1 << 48):x}"
