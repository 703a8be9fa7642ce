"""What the suites of hostile files share: a shard to put them in, and a process of bounded memory that opens them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cometlog.reference import SegmentImage
from cometlog.segment import SegmentName
from recording import Count
from support import MIB, SHARD, Worker

WORKER = Path(__file__).with_name("hostile_worker.py")
MEMORY_BYTES = 256 * MIB
TIME_S = 60.0
TYPED = {"CorruptionError", "NewerFormatError", "NotALogError"}
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def shard(root: Path) -> Path:
    directory = root / SHARD
    directory.mkdir(parents=True)
    (root / "FORMAT").write_text("cometlog 1\n")
    return directory


@pytest.fixture(scope="module")
def openers() -> Iterator[list[Worker]]:
    """The process that opens what is hostile, while it lives."""
    yield (alive := [])
    for worker in alive:
        worker.kill()


@pytest.fixture
def ask(root: Path, openers: list[Worker], count: Count) -> Ask:
    """Read, or attach and append, in a process of bounded memory and time; returns what each call came to."""

    def call(mode: str = "read") -> dict[str, Any]:
        if not openers or openers[0].process.poll() is not None:
            openers[:] = [Worker("serve", script=WORKER, memory_bytes=MEMORY_BYTES)]
        openers[0].tell([mode, str(root)])
        try:
            answers: dict[str, Any] = openers[0].hear(TIME_S)
        except AssertionError:
            openers.pop().kill()
            raise
        count(hostile_shards=1)
        return answers

    return call


def put(shard: Path, image: SegmentImage, **options: Any) -> Path:
    path = shard / SegmentName(image.number, image.base).file_name
    path.write_bytes(image.image(**options))
    return path


def refused(answers: dict[str, Any], *calls: str) -> None:
    """Every call, or those named, ended in a typed error; none in anything else."""
    for name in calls or answers:
        assert answers[name] in TYPED, answers


def honest(answers: dict[str, Any], truth: list[bytes]) -> None:
    """Whatever was answered is the truth."""
    for name, answer in answers.items():
        if isinstance(answer, str):
            assert answer in TYPED, (name, answer)
    if not isinstance(answers["scan"], str):
        assert answers["scan"] == [data.hex() for data in truth]
    if not isinstance(answers["entry_count"], str):
        assert answers["entry_count"] == len(truth)
