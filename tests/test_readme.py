"""The README's example does what it says."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_example_of_the_first_screen_runs(tmp_path: Path) -> None:
    example = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    assert len(example.strip().splitlines()) == 15
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=tmp_path, env={"TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        "0 first",
        "1 second",
        "2 third",
        "3 entries in ['events:v1:shard:0003']",
    ]
