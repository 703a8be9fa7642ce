"""A write path, a peer, a workload, a claim and an experiment are one small file each, outside the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cometbench import registry
from cometbench.errors import UsageError
from cometbench.store import load_run

ADDED = Path(__file__).parent / "added"


def cometbench(*arguments):
    command = [sys.executable, "-c", "from cometbench.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def forget_added():
    yield
    registry.use_claims_of([])


def test_what_is_added_is_measured_verified_judged_and_reported(tmp_path):
    done = cometbench("run", "--profile", "smoke", "--sections", "Z", "--extra", ADDED, "--seed", "1",
                      "--results", tmp_path / "results", "--directory", tmp_path / "bench")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").glob("*/*/run.json")
    run = load_run(path)
    for name in ("Z.path", "Z.peer"):
        measured = run.find(name)
        assert measured.failure is None
        assert measured.verification.status == "ok"
        assert measured.verification.entries_found > 0
        assert measured.workload == "added_workload:numbered"
    judged = run.claim("Z1.gain.path")
    assert (judged.verdict, judged.guide, judged.measured is not None) == (
        "inconclusive",
        "half as fast",
        True,
    )
    assert "An added path against an added peer" in (path.parent / "report.md").read_text()
    assert all(len(file.read_text().splitlines()) < 50 for file in ADDED.glob("added*"))


def test_added_claims_that_clash_or_do_not_validate_name_their_file(tmp_path, forget_added):
    claims = (ADDED / "added.toml").read_text()
    (tmp_path / "same.toml").write_text(claims.replace('"Z', '"Q'))
    registry.use_claims_of([tmp_path])
    with pytest.raises(UsageError, match="section 'Q' of claims exists already"):
        registry.load_sections()
    (tmp_path / "same.toml").write_text(claims.replace("guide_value = 0.5", ""))
    registry.use_claims_of([tmp_path])
    with pytest.raises(UsageError, match=r"claims in .*same\.toml: claim\.0\.check\.0: .*needs guide_value"):
        registry.load_sections()
    registry.use_claims_of([ADDED])
    assert [claim.id for section, claim in registry.all_claims() if section.id == "Z"] == ["Z1"]
