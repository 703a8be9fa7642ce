"""Tuning by the checklist: only what pays is kept, on what was kept before, and the file is one that the engine takes."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cometlog
import made_up
from cometbench import frames
from cometbench.importing import import_results
from cometbench.model import Measurement, Sample
from cometbench.store import ResultsError, load_run
from cometbench.tune_record import Entries, Gain, Tune, load_tune, store_tune, to_toml
from cometbench.tuning import DEFAULTS, Tuning
from cometbench.validate import validate_tree
from cometbench.workloads import build_pool

CHECKOUT = Path(__file__).resolve().parents[2]
NOISE = (1.0, 1.02, 0.98, 1.01, 0.99)


def engine_of(cost):
    """Return a `measure` that takes `cost(settings)` for what a variant costs, and a list of the variants it saw."""
    seen = []

    def measure(probe):
        variants = {}
        for key, value in probe.config.items():
            variant, _, setting = key.partition("/")
            variants.setdefault(variant, {})[setting] = value
        seen.append(variants)
        found = {}
        for value in probe.values:
            size = value.endswith("_stored")
            settings = variants[value.removesuffix("_stored")]
            found[value] = Measurement(
                name=f"{probe.name}.{value}", experiment="tune", subject="cometlog", metric=value, unit="x" if size else "ns",
                samples=[Sample(round=n, order=0, values=[cost(settings) * noise]) for n, noise in enumerate(NOISE)],
            )  # fmt: skip
        return found

    return measure, seen


def begun(goal, processes=1, different=10_000):
    return Tune(
        run_id=f"20250131T120000Z-0000000-tune-{goal}", machine_id=made_up.MACHINE.machine_id, profile="quick", goal=goal,
        started_utc="2025-01-31T12:00:00Z", commit="0" * 40, dirty=False, seed=1, processes=processes,
        entries=Entries(workload="payload-0", count=10_000, different=different, bytes_mean=100.0),
        environment={"file_system": "ext4"}, defaults=dict(DEFAULTS), settings=dict(DEFAULTS),
    )  # fmt: skip


def tune(goal, cost, processes=1, different=10_000):
    measure, seen = engine_of(cost)
    tuning = Tuning(begun(goal, processes, different), measure)
    for _ in tuning.walk():
        pass
    return tuning.finish(), seen


def tried(tuned):
    return [(step.setting, one.value) for step in tuned.steps for one in step.candidates]


def test_where_nothing_pays_the_defaults_stand():
    tuned, seen = tune("throughput", lambda _settings: 100.0)
    assert tuned.changed == {}
    assert tuned.gain is None
    assert tuned.finished_utc is not None
    assert [step.chosen for step in tuned.steps] == [None] * 6
    assert len(tried(tuned)) == 4 + 1 + 6 + 2 + 2 + 3
    assert all({"default", "kept", "control"} <= set(variants) for variants in seen)


def test_each_step_goes_on_from_what_was_kept_and_the_best_that_pays_is_kept():
    def cost(settings):
        batch = {1: 100.0, 10: 40.0, 100: 20.0, 1000: 19.5, 10_000: 30.0}[settings["batch"]]
        segment = (
            0.5 if settings["storage.segment_size_bytes"] == 256 << 20 and settings["batch"] == 1000 else 1.0
        )
        return batch * segment

    tuned, seen = tune("throughput", cost)
    assert tuned.changed == {"batch": 1000, "storage.segment_size_bytes": 256 << 20}
    assert tuned.gain.value == pytest.approx(100 / 9.75)
    kept = [(step.setting, step.chosen) for step in tuned.steps if step.chosen is not None]
    assert kept == [("batch", 1000), ("storage.segment_size_bytes", 256 << 20)]
    assert seen[-1]["kept"]["batch"] == 1000
    assert seen[-1]["default"]["batch"] == 1
    worse = next(one for one in tuned.steps[0].candidates if one.value == 10_000)
    assert worse.over_default.value == pytest.approx(100 / 30)


def test_storage_is_judged_by_bytes_and_latency_never_batches():
    tuned, _ = tune(
        "storage", lambda settings: 0.3 if settings["compression.threshold_bytes"] <= 512 else 1.0
    )
    assert tuned.changed["compression.threshold_bytes"] in (512, 256)
    tuned, seen = tune("latency", lambda _settings: 100.0)
    assert all(settings["batch"] == 1 for variants in seen for settings in variants.values())


def test_several_processes_are_offered_shards_of_their_own_and_no_path_for_one():
    tuned, seen = tune("throughput", lambda settings: 100.0 / settings["shards"], processes=4)
    assert tuned.changed == {"shards": 4}
    paths = {settings["write_path"] for variants in seen for settings in variants.values()}
    assert paths == {"mmap"}
    assert {settings["processes"] for variants in seen for settings in variants.values()} == {4}


def test_a_batch_that_would_hold_an_entry_twice_is_left_out_and_said():
    tuned, seen = tune("storage", lambda settings: 1.0 / settings["batch"], processes=2, different=300)
    assert [one for one in tried(tuned) if one[0] == "batch"] == [("batch", 10), ("batch", 100)]
    assert max(settings["batch"] for variants in seen for settings in variants.values()) == 100
    assert (
        "batches of more than 150 entries: the payload has 300 different ones for 2 processes"
        in tuned.left_out[0]
    )
    few, _ = tune("storage", lambda _settings: 1.0, different=9)
    assert "batch" not in {step.setting for step in few.steps}
    assert tune("latency", lambda _settings: 1.0, different=9)[0].left_out == []


def test_a_gain_counts_by_its_whole_interval_and_from_5_per_cent_and_twice_the_noise_on():
    assert Gain(value=1.2, low=1.1, high=1.3, rounds=5).pays(0.05)
    assert not Gain(value=1.2, low=0.99, high=1.3, rounds=5).pays(0.0)
    assert not Gain(value=1.04, low=1.02, high=1.06, rounds=5).pays(0.0)
    assert not Gain(value=1.2, low=1.1, high=1.3, rounds=5).pays(0.11)


def test_a_control_that_strays_lets_only_larger_gains_count():
    turns = itertools.cycle(
        (1.0, 1.5)
    )  # measures `kept` and `control`, which are equal, half as much again apart

    def cost(settings):
        return next(turns) if settings == dict(DEFAULTS) else 0.8 if settings["batch"] == 10 else 1.0

    def measure(probe):
        found, _ = engine_of(lambda settings: cost({k: v for k, v in settings.items() if k in DEFAULTS}))
        return found(probe)

    step = next(Tuning(begun("throughput", different=10), measure).walk())[1]
    assert step.noise > 0.3
    assert step.candidates[0].over_kept.low > 1.0
    assert step.chosen is None


@pytest.mark.parametrize(
    ("load", "cpus", "said"),
    [
        (2.0, 2, None),
        (2.1, 2, "on a busy machine, with a load of 2.1 on 2 CPUs before the start"),
        (1.5, 1, "on a busy machine, with a load of 1.5 on 1 CPU before the start"),
        (None, 2, None),
    ],
)
def test_a_walk_on_a_busy_machine_says_so(load, cpus, said):
    environment = {"load_average_1min": load, "cpus_usable": cpus}
    assert begun("latency").model_copy(update={"environment": environment}).busy == said


def test_the_file_holds_what_paid_and_the_engine_takes_it(tmp_path):
    def cost(settings):
        batch = 0.5 if settings["batch"] == 1000 else 1.0
        return batch * (0.5 if settings["compression.threshold_bytes"] == 256 else 1.0)

    tuned, _ = tune("storage", cost)
    text = to_toml(tuned, "made up")
    (tmp_path / "tuned.toml").write_text(text)
    config = cometlog.Config.load(tmp_path / "tuned.toml")
    assert config == cometlog.Config.default().with_changes(compression={"threshold_bytes": 256})
    assert "# yours to choose: batch = 1000" in text
    assert "# gain over the defaults: 4.00x [4.00, 4.00], n = 5" in text
    assert "# machine: made up" in text
    nothing, _ = tune("latency", lambda _settings: 1.0)
    bare = to_toml(nothing, "made up")
    assert "# nothing paid: the defaults stand" in bare
    (tmp_path / "bare.toml").write_text(bare)
    assert cometlog.Config.load(tmp_path / "bare.toml") == cometlog.Config.default()


@pytest.fixture
def stored(tmp_path):
    """A finished walk in a results tree: its folder, and the record."""
    tuned, _ = tune("storage", lambda settings: 1.0 if settings["compression.threshold_bytes"] > 256 else 0.5)
    return store_tune(
        tmp_path / "results", made_up.MACHINE, tuned, to_toml(tuned, made_up.MACHINE.label)
    ), tuned


def test_a_stored_walk_is_valid_is_read_back_imported_and_is_no_run(stored, tmp_path):
    folder, tuned = stored
    assert validate_tree(tmp_path / "results") == []
    assert load_tune(folder) == tuned
    assert import_results(tmp_path / "results", tmp_path / "ours") == [
        tmp_path / "ours" / made_up.MACHINE.machine_id / folder.name
    ]
    with pytest.raises(ResultsError, match="is a walk through the checklist"):
        load_run(folder)
    assert frames.load_runs(tmp_path / "results") == []
    frame = frames.tunes_frame([tuned])
    assert list(frame[frame["kept"]]["setting"]) == ["compression.threshold_bytes"]
    assert frame["gain"].max() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["steps"][1]["candidates"][4]["over_kept"].update(value=2.5), "gains of compression.threshold_bytes = 256"),
        (lambda d: d["steps"][0].update(chosen=10), "batch: 10 was chosen, its gains say otherwise"),
        (lambda d: d["settings"].update(batch=100), "the settings are not the defaults with what the steps chose"),
        (lambda d: d["gain"].update(low=1.5), "the gain is not that of the samples"),
        (lambda d: d.update(gain=None), "what they gain together is missing"),
        (lambda d: d.update(run_id="other"), "the folder holds tune other"),
        (lambda d: d.update(machine_id="other"), "the tune names machine other"),
        (lambda d: d["environment"].update(cwd="/home/someone"), "holds private text: /home/someone"),
        (lambda d: d.update(processes=2), "cometlog.toml is not what tune.json says"),
    ],
)  # fmt: skip
def test_a_record_that_does_not_follow_from_its_samples_is_named(stored, tmp_path, change, message):
    folder, _ = stored
    document = json.loads((folder / "tune.json").read_text())
    change(document)
    (folder / "tune.json").write_text(json.dumps(document))
    assert any(message in problem.message for problem in validate_tree(tmp_path / "results"))


def test_the_committed_payload_is_a_thousand_made_up_lines_of_a_service():
    pools = [build_pool(workload, 1000, 5) for workload in ("json_event", "json_item", "json_line")]
    lines = [pools[number % 3][number] for number in range(1000)]
    assert (CHECKOUT / "experiments" / "example_payload.jsonl").read_bytes() == b"\n".join(lines) + b"\n"


def tune_command(tmp_path, *options):
    return [
        sys.executable, "-c", "from cometbench.cli import main; main()", "tune", "--payload", "mine.jsonl", "--goal", "storage",
        "--profile", "smoke", "--directory", str(tmp_path / "bench"), "--results", str(tmp_path / "results"), *options,
    ]  # fmt: skip


@pytest.fixture
def mine(tmp_path):
    lines = [json.dumps({"order": number, "text": "paid in full and on time " * 12}) for number in range(400)]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))


@pytest.mark.usefixtures("mine")
def test_the_command_tunes_real_entries_stores_its_steps_and_refuses_to_overwrite(tmp_path):
    command = tune_command(tmp_path, "--output", "tuned.toml", "--seed", "1", "--json")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    tuned = cometlog.Config.load(Path(tmp_path) / "tuned.toml")
    assert tuned.compression.threshold_bytes < 4096
    record = Tune.model_validate_json(done.stdout)
    (folder,) = (tmp_path / "results").glob("*/*-tune-storage")
    assert load_tune(folder) == record
    assert (folder / "cometlog.toml").read_text() == (tmp_path / "tuned.toml").read_text()
    assert (record.entries.count, record.entries.different) == (400, 400)
    assert [len(one.samples) for step in record.steps for one in step.candidates] == [5] * len(tried(record))
    assert "steps of 5 rounds on" in done.stderr
    (record,) = (tmp_path / "results").rglob("tune.json")
    assert done.stderr.count("warning: this is measured on a busy machine") == (
        load_tune(record).busy is not None
    )
    assert "left out: batches of more than 400 entries" in done.stderr
    assert [problem.message for problem in validate_tree(tmp_path / "results")] == []
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 2
    assert "tuned.toml exists; give another --output or --force" in again.stderr


@pytest.mark.usefixtures("mine")
def test_ctrl_c_leaves_the_steps_that_are_done_and_writes_no_file(tmp_path):
    command = tune_command(tmp_path, "--output", "tuned.toml")
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("step 1 of"):
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, said
    (folder,) = (tmp_path / "results").glob("*/*-tune-storage")
    record = load_tune(folder)
    assert (len(record.steps), record.finished_utc) == (1, None)
    assert "Interrupted: 1 of 3 steps are stored" in said[-1]
    assert not (tmp_path / "tuned.toml").exists()
    assert list((tmp_path / "bench").iterdir()) == []
    assert validate_tree(tmp_path / "results") == []


def test_wrong_use_of_the_command_is_exit_code_2_and_names_what_is_wrong(tmp_path):
    (tmp_path / "mine.jsonl").write_text("\n\n")
    for options, message in (
        ((), "mine.jsonl holds no entry: it needs one entry a line"),
        (("--output", "nowhere/tuned.toml"), "its folder does not exist"),
        (("--profile", "heroic"), "unknown profile 'heroic'"),
    ):
        if "heroic" in options:
            (tmp_path / "mine.jsonl").write_text("one\n")
        command = tune_command(tmp_path, *options)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2, done.stderr
        assert message in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()
