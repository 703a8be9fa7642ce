"""The fault suites' own options and fixtures.

``pytest tests/crash --tier ci`` is what continuous integration runs; ``--record FILE`` writes what was counted for the page
"What survives what".
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from hostile import ask, openers, shard  # noqa: F401 - fixtures of the suites of hostile files
from recording import ONE_AT_A_TIME
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

MOUNTING = {
    "test_directory_faults",
    "test_no_room",
    "test_onlooker",
    "test_pid_namespaces",
    "test_power_cuts",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in MOUNTING:
            item.add_marker(pytest.mark.xdist_group(ONE_AT_A_TIME))
