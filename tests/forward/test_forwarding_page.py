"""The examples of docs/how-to/forwarding.md that need a broker run, in order, in an empty directory; the others run with all pages."""

import os
import re
import subprocess
import sys
from pathlib import Path

from cometbench.services.kafka import KafkaBroker
from kafka_topic import KafkaTopic

PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "forwarding.md"


def test_the_examples_of_the_page_run(kafka: KafkaBroker, tmp_path: Path) -> None:
    program = tmp_path / "cometlog"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cometlog "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONWARNINGS": "error",
    }
    topic = KafkaTopic(kafka.address, "events.v1", 4)
    blocks = re.findall(r"```(sh|py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "py"]
    for kind, text in blocks:
        code = text.replace("broker:9092", kafka.address)
        code = "\n".join(line for line in code.splitlines() if not line.startswith("pip install"))
        interpreter = [sys.executable, "-c"] if kind == "py" else ["sh", "-euc"]
        ran = subprocess.run(
            [*interpreter, code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
    arrived = [[record.value for record in topic.records(shard, committed=True)] for shard in range(4)]
    topic.close()
    assert arrived == [[b"first", b"second"], [b"third", b"fourth"], [], []]
