"""Fixtures of the measuring side: a quiet progress, a tiny profile, a run root.

The directory of faulty subjects.
"""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from cometbench.profiles import PROFILES, Profile
from cometbench.progress import RunProgress
from cometbench.run_root import RunRoot

EXTRA = Path(__file__).parent / "extra"
if str(EXTRA) not in sys.path:
    sys.path.insert(0, str(EXTRA))


@pytest.fixture
def tiny():
    """Three rounds of very small values."""
    return dataclasses.replace(
        PROFILES["smoke"],
        rounds_main=3,
        rounds_other=2,
        values=2,
        value_seconds_min=0.0005,
        value_entries_max=500,
        latency_samples_max=1200,
        worker_seconds_max=30.0,
    )


@pytest.fixture
def root(tmp_path):
    with RunRoot(tmp_path / "bench") as run_root:
        yield run_root


@pytest.fixture
def spoken():
    """Yield a progress and a function that returns the text it has printed so far."""
    out = io.StringIO()
    with RunProgress(Console(file=out, width=200)) as progress:
        yield progress, out.getvalue


@pytest.fixture
def extra():
    return EXTRA


class Stand(NamedTuple):
    """All that a runner needs, and what it has said."""

    profile: Profile
    root: RunRoot
    progress: RunProgress
    said: Callable[[], str]
    extra: Path


@pytest.fixture
def stand(tiny, root, spoken, extra):
    return Stand(tiny, root, *spoken, extra)
