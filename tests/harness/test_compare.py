"""Two runs side by side: drift of the machine cancels, and every verdict can come out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import made_up
from cometbench import cli
from cometbench.compare import anchor_of, compare_runs
from cometbench.model import Measurement, Run
from cometbench.store import to_json_bytes


def run(factor: float = 1.0, *, drift: float = 1.0, workers: int = 5, spread: float = 0.0) -> Run:
    """A run in which one append takes `factor` of 100 ns, on a machine that is `drift` times slower in all."""

    def scaled(m: Measurement, by: float) -> Measurement:
        samples = [s.model_copy(update={"values": [v * by for v in s.values]}) for s in m.samples]
        return m.model_copy(update={"samples": samples})

    floors = [scaled(m, 1 / drift if m.metric == "bandwidth" else drift) for m in made_up.floors()]
    controls = [
        made_up.measurement(f"control.aa.{n}", 100.0 * (1 + spread * (n - 1)), experiment="control")
        for n in (1, 2)
    ]
    appended = made_up.measurement("G.mmap.batch1", 100.0 * factor * drift, experiment="G", workers=workers)
    return Run(
        run_id="20250131T120000Z-0000000-quick", machine_id=made_up.MACHINE.machine_id, profile="quick",
        started_utc="2025-01-31T12:00:00Z", finished_utc="2025-01-31T12:01:00Z", commit="0" * 40, dirty=False,
        seed=1, floors=floors, measurements=[*controls, appended],
    )  # fmt: skip


def change(first: Run, second: Run) -> tuple[str, str]:
    (found,) = compare_runs(first, second, "G.*")
    return found.change, found.reason


def test_each_verdict_comes_out():
    assert change(run(), run(0.7)) == ("faster", "the interval excludes 1")
    assert change(run(), run(1.4)) == ("slower", "the interval excludes 1")
    assert change(run(), run(1.01))[0] == "no difference"
    assert change(run(), run(0.8, spread=-0.1)) == (
        "inconclusive", "below 22% an effect is within the noise of these runs",
    )  # fmt: skip
    assert change(run(), run(0.7, workers=3)) == ("inconclusive", "3 rounds, 5 are needed")
    assert change(run(), run(0.7, spread=-0.6)) == ("inconclusive", "an A/A control strays by 150%")


def test_what_survives_a_power_loss_on_a_disk_alone_is_not_compared_with_the_same_in_memory():
    disk = run()
    synced = made_up.measurement("G.sync.batch1", 1e5, subject="sync", experiment="G")
    on_disk = disk.model_copy(update={"measurements": [synced]})
    in_memory = disk.model_copy(update={"measurements": [synced.model_copy(update={"file_system": "tmpfs"})]})
    assert change(on_disk, in_memory) == (
        "not comparable", "survives differs: survives_power_loss and survives_process_crash",
    )  # fmt: skip


def test_a_machine_that_got_slower_as_a_whole_changes_nothing():
    (found,) = compare_runs(run(), run(drift=3.0), "G.*")
    assert found.raw.value == pytest.approx(3.0)
    assert found.scaled.value == pytest.approx(1.0)
    assert found.change == "no difference"


def test_a_rate_is_better_higher():
    def rate(value: float) -> Run:
        one = run()
        rated = made_up.measurement("K.rate", value, experiment="K", metric="rate", unit="entries/s")
        return one.model_copy(update={"measurements": [*one.measurements, rated]})

    (found,) = compare_runs(rate(1e6), rate(2e6), "K.*")
    assert found.change == "faster"
    (found,) = compare_runs(rate(2e6), rate(1e6), "K.*")
    assert found.change == "slower"


def test_what_differs_in_substance_is_not_compared():
    first, second = run(), run()
    other = second.measurements[-1].model_copy(update={"durability": "survives_power_loss"})
    second = second.model_copy(update={"measurements": [*second.measurements[:-1], other]})
    assert change(first, second) == (
        "not comparable", "durability differs: survives_process_crash and survives_power_loss",
    )  # fmt: skip
    bare = second.model_copy(update={"measurements": second.measurements[:-1]})
    assert change(first, bare) == ("not comparable", "the second run has no value")
    assert change(bare, first) == ("not comparable", "the first run has no value")


def test_a_count_is_shown_and_not_judged():
    def counted(value: float) -> Run:
        one = run()
        calls = made_up.measurement("G.calls", value, metric="count_per_append", unit="syscalls")
        return one.model_copy(update={"measurements": [*one.measurements, calls]})

    (found,) = compare_runs(counted(0.0), counted(4.0), "G.calls")
    assert (found.first.value, found.second.value) == (0.0, 4.0)
    assert (found.change, found.reason) == (
        "not comparable", "syscalls are neither a time nor a rate; see both values",
    )  # fmt: skip


def test_what_a_measurement_waits_for_scales_it():
    durable = made_up.measurement("G.sync.batch1", 1.0, subject="sync")
    writing = made_up.measurement("G.buffered.batch1", 1.0, subject="buffered")
    copying = made_up.measurement("Q.big", 1.0, batch=1000)
    alone = made_up.measurement("Q.small", 1.0)
    assert [anchor_of(m) for m in (durable, writing, copying, alone)] == [
        "floor.fdatasync_128", "floor.write_128", "floor.memcpy_hot", "floor.clock_read",
    ]  # fmt: skip


def test_the_command_prints_a_table_or_json_and_fails_where_asked(tmp_path: Path):
    paths = []
    for name, one in (("a", run()), ("b", run(1.5))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_bytes(to_json_bytes(one))
        paths.append(str(tmp_path / name))
    shown = CliRunner().invoke(cli.build(), ["compare", *paths])
    assert shown.exit_code == 0
    assert "slower" in shown.output
    failed = CliRunner().invoke(
        cli.build(), ["compare", *paths, "--only", "G.*", "--fail-if-slower", "--json"]
    )
    assert failed.exit_code == 1
    (only,) = json.loads(failed.output)
    assert (only["name"], only["change"], only["anchor"]) == ("G.mmap.batch1", "slower", "floor.clock_read")
    nothing = CliRunner().invoke(cli.build(), ["compare", *paths, "--only", "Z*"])
    assert nothing.exit_code == 2
    assert "no measurement of either run matches 'Z*'" in nothing.output
