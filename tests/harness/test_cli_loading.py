"""The `latency` command: one path under load, as a table or as JSON, and wrong use refused with the limit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import cometlog
from cometbench import cli
from cometbench.cli.loading import PRESETS


def _run(tmp_path, *arguments: str):
    return CliRunner().invoke(cli.build(), ["latency", "--directory", str(tmp_path / "bench"), *arguments])


def test_the_table_has_each_load_and_says_what_was_read_back(tmp_path):
    done = _run(
        tmp_path,
        "--seconds",
        "0.1",
        "--rounds",
        "1",
        "--load",
        "20,60",
        "--write-path",
        "buffered",
        "--seed",
        "5",
    )
    assert done.exit_code == 0, done.output
    text = done.stdout
    assert "20 %" in text
    assert "60 %" in text
    assert "stall meter" in text
    assert "seed 5; read back" in text
    assert not list((tmp_path / "bench").iterdir())


def test_json_and_readings_hold_every_append(tmp_path):
    file = tmp_path / "readings.npz"
    done = _run(tmp_path, "--seconds", "0.1", "--rounds", "1", "--load", "50", "--processes", "2", "--json",
                "--readings", str(file))  # fmt: skip
    assert done.exit_code == 0, done.output
    by_name = {one["name"]: one for one in json.loads(done.stdout)}
    count = by_name["latency.mmap.load50_response"]["latency"]["count"]
    with np.load(file) as stored:
        kinds = {kind: [stored[f"latency.mmap.load50_{kind}_process{process}.round0"] for process in (0, 1)]
                 for kind in ("intended", "started", "ended")}  # fmt: skip
    assert sum(map(len, kinds["ended"])) == count > 0
    for process in (0, 1):
        assert (kinds["intended"][process] <= kinds["started"][process]).all()
        assert (kinds["started"][process] < kinds["ended"][process]).all()


def test_entries_of_a_users_own_are_what_is_appended(tmp_path):
    file = tmp_path / "own.jsonl"
    file.write_text('{"a":1}\n{"b":2}\n{"c":3}\n')
    done = _run(
        tmp_path, "--seconds", "0.05", "--rounds", "1", "--load", "50", "--payload", str(file), "--json"
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)[0]
    assert found["workload"].startswith("payload-")
    assert found["verification"]["entries_found"] == found["verification"]["entries_expected"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--load", "100"], "--load is 1 to 95 % of the capacity, got 100"),
        (["--load", "ten"], "--load is whole percents, comma-separated, got 'ten'"),
        (
            ["--write-path", "buffered", "--processes", "2"],
            "the buffered path has one process, got --processes 2",
        ),
        (["--write-path", "fast"], "'fast' is not one of"),
    ],
)
def test_wrong_use_names_value_and_limit(arguments, said, tmp_path):
    done = _run(tmp_path, *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "bench").exists()


def test_the_presets_offered_are_those_of_the_engine(tmp_path):
    made = {name for name in PRESETS if isinstance(getattr(cometlog.Config, name)(), cometlog.Config)}
    ready = {
        name
        for name, method in vars(cometlog.Config).items()
        if isinstance(method, classmethod) and name != "load" and not name.startswith("_")
    }
    assert made == ready
    done = _run(tmp_path, "--preset", "nope")
    assert done.exit_code == 2
    assert "'nope' is not one of 'default'" in done.output


def test_readings_that_cannot_be_written_are_refused_before_anything_is_measured(tmp_path):
    done = _run(tmp_path, "--readings", str(tmp_path / "nowhere" / "readings.npz"))
    assert done.exit_code == 2
    assert "its folder does not exist" in " ".join(done.output.split())
    assert not (tmp_path / "bench").exists()
