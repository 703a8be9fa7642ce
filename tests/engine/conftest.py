"""Fixtures of the engine's tests: a seed that is printed and can be given back, a log directory, a worker process."""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Worker

SEED_VARIABLE = "COMETLOG_TEST_SEED"


@pytest.fixture
def seed() -> int:
    """A seed for this test; ``COMETLOG_TEST_SEED=<n>`` plays one back."""
    value = int(os.environ.get(SEED_VARIABLE, random.SystemRandom().randrange(1 << 32)))
    print(f"{SEED_VARIABLE}={value}", file=sys.stderr)
    return value


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def shared_root(tmp_path: Path) -> Iterator[Path]:
    """A place for a log that other users can reach, which pytest's own directories are not."""
    world = Path("/var/tmp") / f"cometlog-{os.getpid()}-{tmp_path.name}"
    world.mkdir(mode=0o755)
    yield world / "log"
    shutil.rmtree(world)


@pytest.fixture
def start_worker() -> Iterator[type[Worker]]:
    """``Worker``; whatever is left of the processes it started is killed when the test ends."""
    yield Worker
    Worker.kill_all()
