"""Fixtures for tests of programs that use a log; installed with the package, imported by pytest."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cometlog import Client


@pytest.fixture
def comet_log(tmp_path: Path) -> Iterator["Client"]:
    """A client of a temporary log of its own, closed after the test."""
    import cometlog  # noqa: PLC0415 - pytest imports this file also where no test uses a log

    with cometlog.open(tmp_path / "comet-log") as client:
        yield client


@pytest.fixture
def comet_log_entries(comet_log: "Client") -> Callable[..., list[bytes]]:
    """``comet_log_entries(pattern="*")``: the bytes of every entry of the temporary log, by any client, stream by stream."""

    def entries(pattern: str = "*") -> list[bytes]:
        return [entry.data for stream in comet_log.streams(pattern) for entry in comet_log.scan(stream)]

    return entries
