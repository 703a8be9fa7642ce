"""Section X, the part that is a matter of memory: huge pages (X3) and NUMA nodes (X4)."""

from __future__ import annotations

from cometbench.experiment import Experiment
from cometbench.findings import failures, gain_text, sentence, value_text
from cometbench.model import Run
from cometbench.probe import Probe

_PAGES = ("small", "huge", "here")

PROBES = (
    Probe(
        name="X.huge_pages",
        experiment="X",
        subject="cometlog",
        implementation="cometbench.probes.pages:huge_pages",
        values=dict.fromkeys(_PAGES, "ns") | {f"{name}_mapped_huge": "bytes" for name in _PAGES},
        workload="json_event",
        batch=1000,
        seconds=0.5,
    ),
    Probe(
        name="X.numa",
        experiment="X",
        subject="cometlog",
        implementation="cometbench.probes.pages:numa",
        values={"local": "ns", "remote": "ns"},
        workload="json_event",
        batch=1000,
        seconds=0.5,
    ),
)


def finding(run: Run) -> list[str]:
    """What huge pages gain on tmpfs, what the file system under test maps by itself, and the far node or why there is none."""
    return [
        *sentence(
            "Batches of 1000 on tmpfs: {huge} an entry with huge pages, {small} without, {gain} as fast; {mapped} of the "
            "mappings were huge. The file system under test takes {here} and maps {own} so by itself.",
            huge=value_text(run, "X.huge_pages.huge"),
            small=value_text(run, "X.huge_pages.small"),
            gain=gain_text(run, "X.huge_pages.small", "X.huge_pages.huge"),
            mapped=value_text(run, "X.huge_pages.huge_mapped_huge"),
            here=value_text(run, "X.huge_pages.here"),
            own=value_text(run, "X.huge_pages.here_mapped_huge"),
        ),
        *sentence(
            "With its memory on another NUMA node an entry takes {gain} the time.",
            gain=gain_text(run, "X.numa.remote", "X.numa.local"),
        ),
        *failures(run, "X.huge_pages.huge", "X.numa.local"),
    ]


EXPERIMENT = Experiment(
    section="X-pages",
    title="Huge pages and NUMA",
    question="Does a log gain from huge pages below it, and does it lose to memory of another NUMA node?",
    method=(
        "The same batches of 1000 into a new log on a tmpfs mounted with huge=never, on one with huge=always, and on the file "
        "system under test, in one process; /proc/self/smaps says how much of the mappings is backed by huge pages. NUMA: "
        "numactl binds the appending process to one node, and its memory to the same or to another."
    ),
    limitations=(
        "The guide's setting, transparent_hugepage/enabled, is about anonymous memory, which an append hardly uses; the log's "
        "pages are those of files, so the mount decides. A page that is touched for the first time is part of the time: that "
        "is where huge pages gain. NUMA needs a machine with two nodes."
    ),
    benchmarks=(),
    probes=PROBES,
    finding=finding,
)
