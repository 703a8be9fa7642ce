"""An experiment with a server: one benchmark needs it, one does without, one interrupts the manager."""

from faulty_experiments import raw

from cometbench.experiment import Experiment


def served(name, subject="Client", service="TinyServer", **changes):
    """Return a benchmark of a client of `service`."""
    return raw(name, f"tiny_services:{subject}", service=f"tiny_services:{service}", **changes)


EXPERIMENT = Experiment(
    section="served",
    title="Served",
    question="Is a server stopped when its run is interrupted?",
    method="A client sends SIGINT to the manager while its server runs.",
    limitations="None.",
    benchmarks=(raw("test.plain"), served("test.interrupts", "InterruptingClient")),
    finding=lambda _run: [],
)
