"""Times cannot guard the hot path on shared machines; instruction counts can: they repeat exactly."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cometlog

HERE = Path(__file__).parent
CEILINGS = tomllib.loads((HERE / "instruction_ceilings.toml").read_text()).get(platform.machine(), {})
TOLERANCE = 0.02
FEW, MANY = 10, 74  # 64 appends between the two, so that one of them is measured for the latency histogram
ENTRY_POINTS = {
    "writer.append": "__pyx_pw_*Appender_*append",
    "client.append": "__pyx_pw_*Dispatch_*append",
    "batch of 1000": "__pyx_pw_*Appender_*extend",
    "read and verified": "__pyx_pw_*Follower_*go_on",
    "read as bytes": "__pyx_pw_*decode_*payloads",
    "read without a copy": "__pyx_pw_*decode_*spans",
}


def instructions(kind: str, root: Path, count: int) -> int:
    """Instructions that ``count`` operations take inside their entry point."""
    search = os.pathsep.join(
        [str(Path(cometlog.__file__).parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [
            "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--toggle-collect={ENTRY_POINTS[kind]}",
            sys.executable, str(HERE / "instruction_probe.py"), kind, str(root), str(count),
        ],
        env=os.environ | {"PYTHONPATH": search, "PYTHONHASHSEED": "0"},
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr[-2000:]
    return int(found[1])


@pytest.mark.parametrize("kind", ENTRY_POINTS)
def test_instructions_per_operation_stay_below_their_ceiling(root: Path, kind: str) -> None:
    if os.environ.get("COMETLOG_DEBUG") == "1":
        pytest.skip("ceilings hold for the ordinary build")
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    if kind not in CEILINGS:
        pytest.skip(f"no ceilings recorded for {platform.machine()}")
    few = instructions(kind, root / "few", FEW)
    many = instructions(kind, root / "many", MANY)
    each = (many - few) / (MANY - FEW)
    print(f"{kind}: {each:.2f} instructions, ceiling {CEILINGS[kind]}")
    assert few > 0
    assert each <= CEILINGS[kind] * (1 + TOLERANCE)
    assert each >= CEILINGS[kind] * 0.7, (
        "the path got much shorter: lower the ceiling, so that it guards again"
    )
