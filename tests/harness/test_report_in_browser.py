"""The HTML report in a real browser: nothing from outside, nothing wider than a phone, nothing too small or too pale to read.

Pictures of it go to `build/report-pictures/` for a reader to look at.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import browser
import made_up
from cometbench.evaluate import evaluate_claims
from cometbench.report import write_report
from cometbench.store import MACHINE_FILE, RUN_FILE, to_json_bytes, write_atomically

PICTURES = Path(__file__).parents[2] / "build" / "report-pictures"
WIDTHS = (1280, 390)
LIMITS = json.dumps({"readable_px": 14, "contrast": 4.5})
MEASURE = f"({(Path(__file__).parent / 'measure_page.js').read_text(encoding='utf-8')})({LIMITS})"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = made_up.run_with_every_figure()
    directory = tmp_path_factory.mktemp("results") / run.machine_id / run.run_id
    directory.mkdir(parents=True)
    write_atomically(
        directory / RUN_FILE, to_json_bytes(run.model_copy(update={"claims": evaluate_claims(run)}))
    )
    write_atomically(directory.parent / MACHINE_FILE, to_json_bytes(made_up.MACHINE))
    write_report(directory)
    return directory / "report.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    if browser.PROGRAM is None:
        if os.environ.get("CI"):
            pytest.fail(browser.MISSING)
        pytest.skip(browser.MISSING)
    with browser.Browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_reads_well(chromium: browser.Browser, report: Path, width: int, dark: bool) -> None:
    chromium.show(report, width, dark=dark)
    name = f"{width}-{'dark' if dark else 'light'}"
    height = int(chromium.evaluate("document.documentElement.scrollHeight"))
    chromium.picture(PICTURES / f"{name}.png", width=width, height=min(height, 12_000))
    seen: dict[str, Any] = chromium.evaluate(MEASURE)
    assert seen["width"] == width
    assert seen["scroll"] == width
    assert seen["problems"] == {"wide": [], "small": [], "pale": [], "hidden": [], "bare": [], "dead": []}
    assert seen["repeated"] == []
    assert seen["figures"] == 15
    assert set(chromium.requests) == {report.resolve().as_uri()}


def test_the_measuring_finds_what_is_wrong(chromium: browser.Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><meta name=viewport content='width=device-width, initial-scale=1'><body style='background:#fff'><main>"
        "<div style='width:900px'>far</div><p style='font-size:9px'>tiny</p><p style='color:#ddd'>faint</p><table></table>"
        "<figure id=f><div class=drawing><svg viewBox='0 0 10 10' width=10></svg></div></figure><a href='#nowhere'>link</a>"
        "<img src='http://localhost:1/pixel.png'></main>"
    )
    chromium.requests.clear()
    chromium.show(page, 390, dark=False)
    seen = chromium.evaluate(MEASURE)
    assert len(seen["problems"]["wide"]) == 1
    assert seen["problems"]["small"] == ["tiny"]
    assert seen["problems"]["pale"] == ["faint"]
    assert seen["problems"]["hidden"] == ["f"]
    assert len(seen["problems"]["bare"]) == 1
    assert seen["problems"]["dead"] == ["#nowhere"]
    assert "http://localhost:1/pixel.png" in chromium.requests
    chromium.requests.clear()
