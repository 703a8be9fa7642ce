"""An experiment in a file of its own, on a write path, a peer and a workload that are added with it."""

from cometbench.benchmark import ENGINE_SUBJECT, Benchmark
from cometbench.experiment import Experiment

_WORKLOAD = "added_workload:numbered"

EXPERIMENT = Experiment(
    section="Z",
    title="Added",
    question="What does an added write path cost beside an added peer?",
    method="Both append the added workload in the same rounds.",
    limitations="It shows how to add, and nothing else.",
    benchmarks=(
        Benchmark(
            name="Z.path",
            experiment="Z",
            subject="counting",
            implementation=ENGINE_SUBJECT,
            workload=_WORKLOAD,
            durability="survives_process_crash",
            config={"write_path": "added_write_path:CountingPath"},
        ),
        Benchmark(
            name="Z.peer",
            experiment="Z",
            subject="list_file",
            implementation="added_peer:ListFile",
            workload=_WORKLOAD,
            durability="lost_on_kill",
        ),
    ),
    finding=lambda run: [f"{len(run.measurements)} measurements"],
)
