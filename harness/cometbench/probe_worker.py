"""The process of one turn of a probe: `python -m cometbench.probe_worker`. Writes the outcome as JSON, and raw arrays beside it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from cometbench.errors import CannotMeasureError, SubjectError
from cometbench.probe import FLAME_GRAPH_NAME, Outcome, Probe, Task, load_probe


def main() -> None:
    """Probe once and write what came out; `{"cannot": reason}` where the machine does not allow it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spec", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--outcome", type=Path, required=True)
    args = parser.parse_args()
    probe = Probe.from_json(args.spec)
    try:
        outcome = load_probe(probe.implementation)(Task(probe, args.directory, args.seed, args.seconds))
    except CannotMeasureError as reason:
        args.outcome.write_text(json.dumps({"cannot": str(reason)}))
        return
    _check(probe, outcome)
    for name, samples in outcome.arrays.items():
        args.outcome.with_name(f"array-{name}").write_bytes(samples.tobytes())
    args.outcome.write_text(
        json.dumps(
            {
                "values": dict(outcome.values),
                "finding": dataclasses.asdict(outcome.finding),
                "extra": dict(outcome.extra),
                "arrays": sorted(outcome.arrays),
                "flame_graphs": dict(outcome.flame_graphs),
                "file_system": outcome.file_system,
                "histograms": {name: one.to_text() for name, one in outcome.histograms.items()},
            }
        )
    )


def _check(probe: Probe, outcome: Outcome) -> None:
    if set(outcome.values) != set(probe.values):
        raise SubjectError(
            f"probe {probe.name} promises {sorted(probe.values)} and returned {sorted(outcome.values)}"
        )
    if not set(outcome.histograms) <= set(probe.values):
        raise SubjectError(
            f"probe {probe.name}: histograms {sorted(outcome.histograms)} are not all of values"
        )
    for name, samples in outcome.arrays.items():
        if samples.typecode != "Q":
            raise SubjectError(f"probe {probe.name}: array {name} is of type {samples.typecode}, not Q")
    for name in outcome.flame_graphs:
        if FLAME_GRAPH_NAME.fullmatch(name) is None:
            raise SubjectError(
                f"probe {probe.name}: {name!r} is no name of a flame graph, as in a.b.svg or a.b.txt"
            )


if __name__ == "__main__":
    main()
