"""Sections C, F, T and M in a report: verdicts, figures and tables of made-up measurements."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import pytest

import made_up
from cometbench.checkout import find_checkout
from cometbench.evaluate import evaluate_claims
from cometbench.experiment import load_experiments
from cometbench.figure import Figure
from cometbench.findings import gain_text, sentence, value_text
from cometbench.model import Measurement, Run
from cometbench.plots_costs import advice_gains, allocations, compression_cost, preset_gains
from cometbench.report import write_report
from cometbench.store import MACHINE_FILE, RUN_FILE, to_json_bytes, write_atomically
from cometbench.tables_costs import table_allocations, table_c, table_gains, table_resident

EXPERIMENTS = load_experiments(find_checkout(Path(__file__).parent))
# One value for every name the sections measure, and the few that a test is about.
CHOSEN = {
    "C.batch1.off": 200.0,
    "C.batch1.on": 640.0,
    "C.batch100.off": 20_000.0,
    "C.batch100.on": 20_000.0,
    "C.dictionary.zstd_batch1_saved": 37.0,
    "C.dictionary.dictionary_batch1_ratio": 3.0,
    "C.dictionary.zstd_batch1_ratio": 1.5,
    "F.writers.one_shard": 300.0,
    "F.writers.shards16": 100.0,
    "F.threshold.from10_batch1": 90.0,
    "F.threshold.from2048_batch1": 100.0,
    "T.cores.one_process": 100.0,
    "T.cores.two_processes": 50.0,
    "T.cores.one_thread": 100.0,
    "T.cores.four_threads": 100.0,
    "M.allocations.q1_mmap_allocations": 1.0,
    "M.allocations.q1_buffered_allocations": 13.0,
    "M.allocations.q1_mmap_bytes": 0.0,
    "M.allocations.ack_position_allocations": 0.0,
    "M.allocations.ack_batch_allocations": 5.0,
    "M.index.memory_per_boundary": 20.0,
    "M.deployment.anonymous": 400e6,
    "X.huge_pages.small": 60.0,
    "X.huge_pages.huge": 30.0,
    "T.disk.sequential_write": 100e6,
    "C.default.violations": 0.0,
}


def _measurements(workers: int = 5) -> list[Measurement]:
    found = []
    for section in ("C", "F", "T", "M", "X-pages"):
        experiment = EXPERIMENTS[section]
        for benchmark in experiment.benchmarks:
            value = CHOSEN.get(benchmark.name, 100.0)
            found.append(
                made_up.measurement(
                    benchmark.name, value, batch=benchmark.batch, experiment="C", workers=workers
                )
            )
        for probe in experiment.probes:
            for name, (value, unit) in zip(probe.measurement_names(), probe.values.items(), strict=True):
                measurement = made_up.measurement(
                    name, CHOSEN.get(name, 100.0), experiment=probe.experiment, metric=value, unit=unit, workers=workers
                )  # fmt: skip
                found.append(measurement.model_copy(update={"extra": {"trials": 30.0}}))
    return found


def _figures(run: Run) -> list[Figure]:
    made = (draw(run) for draw in (compression_cost, advice_gains, preset_gains, allocations))
    return [figure for figure in made if figure is not None]


def _judged(workers: int = 5) -> Run:
    run = made_up.run([*_measurements(workers), *made_up.control(workers=workers)])
    return run.model_copy(update={"claims": evaluate_claims(run)})


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ("C1.slowdown.mmap", "reproduced"),
        ("C100.slowdown.mmap", "exceeded"),
        ("C1.saved.zstd", "reproduced"),
        ("C-d.default.sizes", "reproduced"),
        ("C-x.dictionary.batch1", "exceeded"),
        ("C-x.dictionary.batch10", "not reproduced"),
        ("X1.dictionary.batch1", "exceeded"),
        ("X3.gain.tmpfs", "exceeded"),
        ("F2.gain.writers4", "reproduced"),
        ("F4.gain.single", "not reproduced"),
        ("T4.cores.two_processes", "not reproduced"),
        ("T4.threads.four_threads", "reproduced"),
        ("T10.bandwidth.disk", "not reproduced"),
        ("M1.allocations.mmap_batch1", "exceeded"),
        ("M1.allocations.buffered_batch1", "not reproduced"),
        ("M2.allocations.hot_handle", "reproduced"),
        ("M2.allocations.consumer_batch", "not reproduced"),
        ("M3.boundary.memory", "exceeded"),
        ("M5.total.anonymous", "not reproduced"),
        ("M6.bytes.q1_mmap", "reproduced"),
        ("M6.allocations.q1_mmap", "not reproduced"),
        ("T8.gain", "not measured"),
    ],
)
def test_made_up_measurements_get_each_verdict(claim: str, verdict: str) -> None:
    result = _judged().claim(claim)
    assert result is not None
    assert result.verdict == verdict, result.reason


def test_three_rounds_give_a_direction_and_no_more() -> None:
    run = _judged(workers=3)
    verdicts = {claim.id: claim.verdict for claim in run.claims}
    assert verdicts["F2.gain.writers4"] == verdicts["C1.slowdown.mmap"] == "direction only"
    assert verdicts["T4.cores.two_processes"] == verdicts["F4.gain.single"] == "inconclusive"


def test_a_probe_that_the_machine_refuses_leaves_its_reason_in_the_claim() -> None:
    refused = made_up.measurement("X.numa.local", 1.0).model_copy(
        update={"samples": [], "failure": "one NUMA node; elsewhere: numactl --cpunodebind=0"}
    )
    run = made_up.run([refused, refused.model_copy(update={"name": "X.numa.remote"})])
    (result,) = (claim for claim in evaluate_claims(run) if claim.id == "X4.gain.local")
    assert result.verdict == "not measured"
    assert "numactl --cpunodebind=0" in result.reason
    assert EXPERIMENTS["X-pages"].finding(run) == [
        "not measured: one NUMA node; elsewhere: numactl --cpunodebind=0"
    ]


def test_every_figure_has_its_rows_and_the_guide_beside_them() -> None:
    run = _judged()
    drawn = {figure.name: list(csv.DictReader(StringIO(figure.csv))) for figure in _figures(run)}
    assert list(drawn) == ["compression-cost", "advice-gains", "preset-gains", "allocations"]
    (point,) = (
        row for row in drawn["compression-cost"] if (row["way"], row["batch"]) == ("zstd, no pause", "1")
    )
    assert (float(point["saved_percent"]), float(point["slowdown"])) == pytest.approx((37.0, 3.2))
    guide = [float(row["slowdown"]) for row in drawn["compression-cost"] if row["way"] == "the guide"]
    assert guide == [3.2, 1.9, 7.4]
    gains = {row["claim"]: row for row in drawn["advice-gains"]}
    assert float(gains["F2.gain.writers4"]["gain"]) == pytest.approx(3.0)
    assert gains["F2.gain.writers4"]["verdict"] == "reproduced"
    assert len(drawn["preset-gains"]) == 12
    assert {row["series"] for row in drawn["allocations"]} == {"mmap", "buffered", "mmap, compressed"}


def test_a_run_without_these_sections_has_none_of_their_figures() -> None:
    assert _figures(made_up.whole_run()) == []


def test_the_tables_hold_guide_and_measured_side_by_side() -> None:
    run = _judged()
    first = table_c(run).rows[0]
    assert first[:6] == ["1", "2.2 µs / 7.1 µs", "200 ns", "640 ns", "3.2x", "3.20x"]
    assert first[8] == "37.0 %"
    assert ["1", "mmap", "1", "0"] in table_allocations(run).rows
    assert table_resident(run).rows[0][:3] == ["typical deployment, anonymous", "50-100 MB", "400M bytes"]
    verdicts = {row[0]: row[4] for row in table_gains(run).rows}
    assert verdicts["T4.cores.two_processes"] == "not reproduced"


def test_the_report_has_a_section_for_each_and_every_finding(tmp_path: Path) -> None:
    run = _judged()
    directory = tmp_path / run.machine_id / run.run_id
    directory.mkdir(parents=True)
    write_atomically(directory / RUN_FILE, to_json_bytes(run))
    write_atomically(directory.parent / MACHINE_FILE, to_json_bytes(made_up.MACHINE))
    write_report(directory, EXPERIMENTS)
    for name in ("report.md", "report.html"):
        text = (directory / name).read_text()
        for heading in ("Compression", "Pitfalls and tuning", "Memory"):
            assert f"## {heading}\n" in text or f">{heading}</h2>" in text
        assert "compression makes an append 3.20x" in text
        assert "F2: four writers on shards of their own append 3.00x" in text


def test_every_section_says_something_about_every_row_it_measured() -> None:
    run = _judged()
    counts = {section: len(EXPERIMENTS[section].finding(run)) for section in ("C", "F", "T", "M", "X-pages")}
    assert counts == {"C": 5, "F": 4, "T": 23, "M": 6, "X-pages": 2}
    assert all(EXPERIMENTS[section].finding(made_up.run()) == [] for section in counts)


def test_a_sentence_with_a_missing_figure_is_left_out() -> None:
    run = made_up.run([made_up.measurement("F.one", 10.0), made_up.measurement("F.two", 5.0)])
    assert gain_text(run, "F.one", "F.two") == "2.00x [2.00\N{EN DASH}2.00x]"
    assert gain_text(run, "F.one", "F.three") is value_text(run, "F.three") is None
    assert sentence("{a} and {b}", a="1", b=None) == []
    assert sentence("{a} and {b}", a="1", b="2") == ["1 and 2"]
