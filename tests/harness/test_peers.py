"""The adapters of section A with the real systems: what they acknowledged is read back, also after their server was killed.

`nox -s alternatives` runs these with everything installed; elsewhere what is missing is skipped.
"""

from __future__ import annotations

import dataclasses

import pytest

from cometbench.benchmark import STREAM, load_subject
from cometbench.checkout import find_checkout
from cometbench.errors import CannotMeasureError
from cometbench.experiment import load_experiments
from cometbench.measuring import OneProcess
from cometbench.services.kafka import KafkaBroker
from cometbench.services.shared import KAFKA
from cometbench.subjects.sqlite import Sqlite

BENCHMARKS = {b.name: b for b in load_experiments(find_checkout())["A"].benchmarks}
SERVED = {b.service: b for b in BENCHMARKS.values() if b.service and b.batch == 100}
EMBEDDED = [b for b in BENCHMARKS.values() if not b.service and b.batch == 100]


def appends(benchmark, directory):
    """Append seven batches and return the process that holds the writer."""
    try:
        task = OneProcess(benchmark, directory, seed=5)
    except CannotMeasureError as reason:
        pytest.skip(str(reason))
    task.seconds(7)
    return task


@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("benchmark", EMBEDDED, ids=[b.subject for b in EMBEDDED])
def test_an_embedded_system_holds_what_it_acknowledged(benchmark, batch, tmp_path):
    finding = appends(BENCHMARKS[f"A.batch{batch}.{benchmark.subject}"], tmp_path).finish()
    assert (finding.status, finding.detail) == ("ok", "")
    assert finding.entries_found == finding.entries_expected == 7 * batch


@pytest.mark.parametrize("service", SERVED, ids=[b.subject for b in SERVED.values()])
def test_a_server_that_was_killed_holds_what_it_acknowledged(service, tmp_path):
    try:
        make = KafkaBroker if service == KAFKA else load_subject(service)
        server = make(tmp_path / "server").start()
    except CannotMeasureError as reason:
        pytest.skip(str(reason))
    with_kill = [b for b in BENCHMARKS.values() if b.service == service and b.batch in (1, 100)]
    try:
        tasks = []
        for number, benchmark in enumerate(with_kill):
            directory = tmp_path / str(number)
            directory.mkdir()
            facts = {"address": server.address, "server": server.version}
            tasks.append((benchmark, appends(benchmark.configured(facts), directory)))
        server.kill()
        server.start()
        for benchmark, task in tasks:
            finding = task.finish()
            assert (benchmark.name, finding.status, finding.detail) == (benchmark.name, "ok", "")
            assert finding.entries_found == 7 * benchmark.batch
    finally:
        server.stop()


class LosingSqlite(Sqlite):
    """Takes the last entry of a batch for granted."""

    def _append_many(self, entries):
        return super()._append_many(entries[:-1])


def test_an_adapter_that_loses_an_entry_is_found_out(tmp_path):
    losing = dataclasses.replace(
        BENCHMARKS["A.batch100.sqlite_off"], implementation=f"{__name__}:{LosingSqlite.__name__}"
    )
    finding = appends(losing, tmp_path).finish()
    assert finding.status == "failed"
    assert f"stream {STREAM}: entry 100 lost" in finding.detail
