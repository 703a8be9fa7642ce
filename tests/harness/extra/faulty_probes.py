"""Functions of probes, sound and faulty."""

from __future__ import annotations

import os
from array import array

from cometbench.errors import CannotMeasureError
from cometbench.histogram import Histogram
from cometbench.probe import Outcome
from cometbench.verification import Finding


def counts_its_directory(task):
    """Sound: two values, a verification, a fact and raw samples."""
    (task.directory / "file").write_bytes(b"12345")
    files = [path.name for path in task.directory.iterdir()]
    return Outcome(
        {"files": float(len(files)), "seed": float(task.seed)},
        Finding("ok", 5, 5),
        {"seconds": task.seconds},
        {"bytes": array("Q", b"12345678")},
    )


def loses_an_entry(task):
    return Outcome({"files": 1.0}, Finding("failed", 5, 4, "stream s: entry 4 lost"))


def is_refused(task):
    raise CannotMeasureError("the kernel refuses it; allow it with sysctl")


def promises_more(task):
    return Outcome({"other": 1.0})


def strays(task):
    return Outcome({"files": 1.0}, histograms={"waits": Histogram({5: 1})})


def has_a_histogram(task):
    """Sound: 400 samples that last as many nanoseconds as its seed says."""
    waits = Histogram.of([task.seed] * 400)
    return Outcome(
        {"waits": float(task.seed), "files": 0.0},
        extra={"timer_overhead_ns": 55.0},
        histograms={"waits": waits},
    )


def dies(task):
    os._exit(3)


def draws_a_flame_graph(task):
    """Claims another file system and keeps a graph."""
    graph = {f"{task.probe.name}.txt": f"a;b {task.seed}\n"}
    return Outcome({"files": 1.0}, flame_graphs=graph, file_system="tmpfs")


def asks_its_server(task):
    """Says which address it was given."""
    return Outcome({"port": float(task.probe.config["address"].rpartition(":")[2])})


def names_a_graph_badly(task):
    """Would write beside the folder of flame graphs."""
    return Outcome({"files": 1.0}, flame_graphs={"../run.json": ""})
