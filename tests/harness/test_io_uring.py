"""io_uring as the harness measures it: the engine's path, and bare writes beside as many calls of pwrite."""

from __future__ import annotations

import pytest
from faulty_experiments import raw

from cometbench.benchmark import ENGINE_SUBJECT
from cometbench.errors import CannotMeasureError
from cometbench.measuring import OneProcess
from cometlog import WritePathUnavailableError
from cometlog.write_paths import uring

BARE = "cometbench.subjects.uring_writes:UringWrites"


def measure(benchmark, place):
    try:
        return OneProcess(benchmark, place, 1)
    except CannotMeasureError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("batch", [1, 100])
def test_the_path_is_measured_and_read_back(tmp_path, batch):
    config = {"write_path": "uring", "preset": "default"}
    task = measure(
        raw("test.uring", ENGINE_SUBJECT, batch=batch, durability="survives_power_loss", config=config),
        tmp_path,
    )
    assert task.seconds(3) > 0
    finding = task.finish()
    assert (finding.status, finding.entries_found) == ("ok", 3 * batch)


@pytest.mark.parametrize("via", ["uring", "pwrite"])
@pytest.mark.parametrize("writes", [1, 8, 32])
def test_bare_writes_are_read_back(tmp_path, writes, via):
    task = measure(raw("test.bare", BARE, batch=writes, config={"via": via}), tmp_path)
    assert task.seconds(20) > 0
    assert task.seconds(5) > 0
    finding = task.finish()
    assert (finding.status, finding.entries_found) == ("ok", 25 * writes)


@pytest.mark.parametrize("implementation", [ENGINE_SUBJECT, BARE])
def test_refusal_of_the_kernel_is_said_not_failed(tmp_path, monkeypatch, implementation):
    def refuse(*_):
        raise WritePathUnavailableError("io_uring is refused here")

    monkeypatch.setattr(uring, "open_ring", refuse)
    monkeypatch.setattr("cometbench.subjects.uring_writes.open_ring", refuse)
    benchmark = raw("test.refused", implementation, config={"write_path": "uring", "preset": "default"})
    with pytest.raises(CannotMeasureError, match="refused here"):
        OneProcess(benchmark, tmp_path, 1)
