"""What the fault suites and the forwarding tests share: how much to do (a tier), the seed, what was counted, and worker processes.

The conftest.py of each takes the hooks and the fixtures from here by name.
"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recording import Count, Recorder, counter_for, seed_for
from support import Worker
from tiers import TIERS, Tier


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fault suites")
    group.addoption("--tier", choices=TIERS, default="ci", help="how much each suite does (default: ci)")
    group.addoption("--seed", type=int, default=None, help="replay: the seed that a test printed")
    group.addoption("--record", type=Path, default=None, help="write what was counted to this JSON file")


def pytest_configure(config: pytest.Config) -> None:
    recorder = Recorder(config.getoption("tier"), config.getoption("record"))
    config.pluginmanager.register(recorder, "fault-suite-recorder")


@pytest.fixture
def tier(request: pytest.FixtureRequest) -> Tier:
    """The tier of this run."""
    return Tier(request.config.getoption("tier"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed of the test's own: drawn, printed, and recorded; ``--seed`` gives one back."""
    value = seed_for(request.node, request.config.getoption("seed"))
    session = request.path.parent.name
    print(f"replay: nox -s {session} -- --seed {value} -k '{request.node.name}'", file=sys.stderr)
    return value


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Count:
    """Add to this test's counts: ``count(kills=1, entries=400)``."""
    return counter_for(request.node)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def start_worker() -> Iterator[type[Worker]]:
    """``Worker``; whatever is left of the processes it started is killed when the test ends."""
    yield Worker
    Worker.kill_all()
