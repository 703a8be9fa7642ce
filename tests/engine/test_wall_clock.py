"""The clock that appends store: the wall clock itself, or the CPU's counter since a sample of it that is at most 10 ms old."""

import time
from pathlib import Path

import pytest

import cometlog
from cometlog.kernel import wall_clock
from support import STREAM

# A sample is taken between two readings of the counter that lie less than 4000 ticks apart, and the rate is good to a millionth.
SLACK_NS = 5_000


@pytest.mark.parametrize("rest_s", [0.0, 0.0003, 0.02, 0.2])
def test_the_sampled_clock_agrees_with_the_wall_clock(tmp_path: Path, rest_s: float) -> None:
    with cometlog.open(tmp_path) as client:
        writer = client.writer(STREAM)
        for number in range(2000 if rest_s < 0.01 else 20):
            writer.append(b"keeps the helper awake")
            if rest_s and number % 10 == 0:
                time.sleep(rest_s)
            before = time.time_ns()
            sampled = wall_clock.now_ns()
            after = time.time_ns()
            assert before - SLACK_NS <= sampled <= after + SLACK_NS, (
                number,
                sampled - before,
                after - sampled,
            )


def test_without_a_helper_the_clock_itself_is_asked() -> None:
    before = time.time_ns()
    sampled = wall_clock.now_ns()
    assert before <= sampled + SLACK_NS
    assert sampled <= time.time_ns() + SLACK_NS
