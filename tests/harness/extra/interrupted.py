"""An experiment whose second benchmark interrupts the manager in its second round."""

from faulty_experiments import raw

from cometbench.experiment import Experiment

EXPERIMENT = Experiment(
    section="interrupted",
    title="Interrupted",
    question="What does Ctrl-C leave?",
    method="A subject sends SIGINT to the manager.",
    limitations="None.",
    benchmarks=(raw("test.plain"), raw("test.interrupts", "InterruptsItsManager")),
    finding=lambda run: [f"{len(run.measurements)} measurements kept"],
)
