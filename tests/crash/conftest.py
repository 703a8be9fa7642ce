"""The fault suites' own options and fixtures: how much to do (a tier), the seed, and what was counted.

``pytest tests/crash --tier ci`` is what continuous integration runs; ``--record FILE`` writes what was counted for the page
"What survives what".
"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from hostile import ask, openers, shard  # noqa: F401 - fixtures of the suites of hostile files
from recording import Count, Recorder
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
def recorder(request: pytest.FixtureRequest) -> Recorder:
    found = request.config.pluginmanager.get_plugin("fault-suite-recorder")
    assert isinstance(found, Recorder)
    return found


@pytest.fixture
def seed(request: pytest.FixtureRequest, recorder: Recorder) -> int:
    """A seed of the test's own: drawn, printed, and recorded; ``--seed`` gives one back."""
    value = recorder.seed_for(request.node.nodeid, request.config.getoption("seed"))
    print(f"replay: nox -s crash -- --seed {value} -k '{request.node.name}'", file=sys.stderr)
    return value


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def count(request: pytest.FixtureRequest, recorder: Recorder) -> Count:
    """Add to this test's counts: ``count(kills=1, entries=400)``."""
    return recorder.counter_for(request.node.nodeid)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def start_worker() -> Iterator[type[Worker]]:
    """``Worker``; whatever is left of the processes it started is killed when the test ends."""
    yield Worker
    Worker.kill_all()
