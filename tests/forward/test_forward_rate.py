"""Each side of the benchmark sends everything, and what was forwarded is compared with the log."""

from pathlib import Path

import pytest

from cometbench.checkout import find_checkout
from cometbench.errors import CannotMeasureError
from cometbench.experiment import load_experiments
from cometbench.probe import Task, load_probe
from cometbench.services.kafka import KafkaBroker

PROBES = {probe.subject: probe for probe in load_experiments(find_checkout())["forward"].probes}


@pytest.mark.parametrize("side", PROBES)
def test_a_side_sends_everything(side: str, kafka: KafkaBroker, tmp_path: Path) -> None:
    probe = PROBES[side].configured({"address": kafka.address})
    try:
        outcome = load_probe(probe.implementation)(Task(probe, tmp_path, seed=1, seconds=0.1))
    except CannotMeasureError as reason:
        pytest.skip(str(reason))
    assert (outcome.finding.status, outcome.finding.detail) == ("ok", "")
    assert outcome.finding.entries_found == outcome.finding.entries_expected == 8000
    assert outcome.values["time"] > 0
