"""The rates that the page on forwarding states are those of the run that it names."""

from __future__ import annotations

import importlib
import re

from cometbench.checkout import find_checkout, make_importable
from cometbench.store import load_run


def test_the_page_states_the_rates_of_its_run():
    checkout = find_checkout()
    make_importable(checkout)
    rates = importlib.import_module("experiments.forward_rate").rates
    page = (checkout / "docs" / "how-to" / "forwarding.md").read_text(encoding="utf-8")
    block = re.search(
        r"<!-- forwarding rates: begin .*?-->\n(.*)\n<!-- forwarding rates: end -->", page, re.DOTALL
    )
    assert block is not None
    run = re.search(r"\(\.\./\.\./(results/[^)]+)/report\.md\)", block[1])
    assert run is not None
    assert block[1].splitlines() == rates(load_run(checkout / run[1]))
