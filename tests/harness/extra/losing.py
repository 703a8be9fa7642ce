"""An experiment in which one benchmark loses an entry and one alters an entry; a third is sound."""

from faulty_experiments import raw

from cometbench.experiment import Experiment

EXPERIMENT = Experiment(
    section="losing",
    title="Losing",
    question="Is a lost or altered entry noticed and named?",
    method="Subjects that drop entry 37 or flip a bit of entry 41.",
    limitations="None.",
    benchmarks=(
        raw("test.sound"),
        raw("test.drops", "FaultyFile", config={"fault": "drop", "at": 37}),
        raw("test.alters", "FaultyFile", config={"fault": "alter", "at": 41}),
    ),
    finding=lambda _run: [],
)
