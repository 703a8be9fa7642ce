"""The fixtures that the package installs for other people's tests."""

import os
import subprocess
import sys
from pathlib import Path

SUITE = """
def test_appends(comet_log, comet_log_entries):
    comet_log.append("a:v1:shard:0000", [b"1", b"2"])
    assert comet_log_entries() == [b"1", b"2"]

def test_has_a_log_of_its_own(comet_log, comet_log_entries):
    assert comet_log.streams() == []
    comet_log.append("b:v1:shard:0000", [b"3"])
    assert comet_log_entries("b:*") == [b"3"]
"""


def test_a_suite_of_somebody_else_uses_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(SUITE)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "cometlog.pytest_plugin", str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr
