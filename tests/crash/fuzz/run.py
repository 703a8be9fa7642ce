"""Run every fuzz target for some seconds; print one line of JSON for each: executions, seconds, seed, crashes.

``--package`` is a directory with a sanitized build of the engine. An input that crashed is kept, and the command that replays it
printed. The exit code says whether there was one.
"""

import argparse
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "format-1"
TARGETS = (
    "segment_header", "walk", "shard", "index", "durable_mark", "control", "stream_name", "config", "compressed",
)  # fmt: skip
INPUT_BYTES_MAX = 5000
ONE_INPUT_TIMEOUT_S = 20
MEMORY_MIB = 3000


def environment(package: Path) -> dict[str, str]:
    """Return the environment of a sanitized target: the runtime first, and no search for leaks, which CPython has by design."""
    atheris = importlib.util.find_spec("atheris")
    assert atheris is not None
    assert atheris.origin is not None
    runtime = Path(atheris.origin).parent.parent / "asan_with_fuzzer.so"
    return os.environ | {
        "LD_PRELOAD": str(runtime),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_sigbus=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "PYTHONPATH": f"{package}{os.pathsep}{HERE}",
    }


def seeds(target: str, corpus: Path) -> None:
    """Begin with what is true: golden segments and their index, and a line or two of the other formats."""
    segments = [path.read_bytes() for path in sorted(GOLDEN.glob("*.seg"))]
    index = next(GOLDEN.glob("*.idx")).read_bytes()
    texts = {
        "segment_header": [b"\1" + segment[:4096] for segment in segments],
        "walk": [b"\1\x40\0" + segment[4096:] for segment in segments],
        "shard": [b"\1\x40\0" + segment[4096:] for segment in segments],
        "index": [b"\0" + index, b"\3" + index],
        "durable_mark": [b"\1" + bytes([1]) + bytes(63)],
        "control": [b"COMETCTL\1\0\0\0\0\4\0\0"],
        "stream_name": [b"events:v1:shard:0000"],
        "config": [b"[storage]\nsegment_size_bytes = 65536\n[compression]\nlevel = 3\n"],
        "compressed": [bytes.fromhex("28b52ffd2003190000616263")],
    }
    for number, text in enumerate(texts[target]):
        (corpus / f"seed-{number}").write_bytes(text)


def run(target: str, seconds: int, seed: int, package: Path, crashes: Path) -> dict[str, object]:
    """Fuzz one target and return what came of it."""
    crashes.mkdir(parents=True, exist_ok=True)
    before = set(crashes.iterdir())
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cometlog-corpus-") as corpus:
        seeds(target, Path(corpus))
        done = subprocess.run(
            [
                sys.executable, str(HERE / "one_target.py"), target, corpus, f"-max_total_time={seconds}", f"-seed={seed}",
                f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={crashes}/{target}-", "-print_final_stats=1",
                f"-timeout={ONE_INPUT_TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MIB}",
            ],
            env=environment(package), capture_output=True, text=True, errors="replace",
            timeout=seconds + 10 * ONE_INPUT_TIMEOUT_S, check=False,
        )  # fmt: skip
    found = sorted(set(crashes.iterdir()) - before)
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr) or re.search(
        r"Done (\d+) runs", done.stderr
    )
    if done.returncode or executions is None:
        print(done.stdout[-2000:] + done.stderr[-6000:], file=sys.stderr)
        if not found:
            raise SystemExit(f"{target} ended with {done.returncode} and left no input")
    for path in found:
        replay = f"{sys.executable} {HERE / 'one_target.py'} {target} {path}"
        shown = " ".join(
            f"{k}={environment(package)[k]!r}" for k in ("LD_PRELOAD", "ASAN_OPTIONS", "PYTHONPATH")
        )
        print(f"replay: {shown} {replay}", file=sys.stderr)
    return {
        "target": target,
        "executions": int(executions[1]) if executions else 0,
        "seconds": round(time.monotonic() - started, 1),
        "seed": seed,
        "crashes": len(found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; may be repeated")
    parser.add_argument("--crashes", type=Path, default=ROOT / "build" / "fuzz-crashes")
    parser.add_argument("--record", type=Path, default=None, help="write the results to this JSON file too")
    arguments = parser.parse_args()
    results = []
    for target in arguments.target or TARGETS:
        seed = random.SystemRandom().randrange(1, 1 << 31) if arguments.seed is None else arguments.seed
        result = run(target, arguments.seconds, seed, arguments.package, arguments.crashes)
        results.append(result)
        print(json.dumps(result), flush=True)
    for place in Path("/dev/shm").glob("cometlog-fuzz-*"):
        shutil.rmtree(place, ignore_errors=True)
    if arguments.record is not None:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps({"targets": results}, indent=1) + "\n")
    sys.exit(1 if any(result["crashes"] for result in results) else 0)


if __name__ == "__main__":
    main()
