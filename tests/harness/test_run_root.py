"""The run root dies with its manager: at the end of a run, or swept by the next one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cometbench.errors import UsageError
from cometbench.run_root import RunRoot, sweep

KILLED_MANAGER = """
import os, signal, sys
from pathlib import Path
from cometbench.run_root import RunRoot
root = RunRoot(Path(sys.argv[1]))
(root.fresh("worker") / "log").write_bytes(b"x" * 1000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_finished_run_leaves_nothing(tmp_path):
    with RunRoot(tmp_path / "bench") as root:
        (root.fresh("worker") / "log").write_bytes(b"x")
    assert list((tmp_path / "bench").iterdir()) == []


def test_a_killed_managers_root_is_swept_and_a_live_one_is_not(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED_MANAGER, str(tmp_path)], timeout=30, check=False)
    (stale,) = tmp_path.iterdir()
    assert (stale / "worker" / "log").exists()
    with RunRoot(tmp_path) as live:
        assert not stale.exists()
        assert sweep(tmp_path) == []
        assert live.path.exists()


def test_a_directory_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"bench directory .*file cannot be used"):
        RunRoot(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot be used: Permission denied"):
        RunRoot(tmp_path)
