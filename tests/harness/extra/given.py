"""An experiment whose server is given on the command line: a tiny one stands in for Kafka."""

from faulty_experiments import raw

from cometbench.experiment import Experiment
from cometbench.services.shared import KAFKA

EXPERIMENT = Experiment(
    section="given",
    title="Given",
    question="Is a broker that is named on the command line the one that is used?",
    method="The client of a tiny server asks for the service that stands for Kafka.",
    limitations="None.",
    benchmarks=(raw("test.given", "tiny_services:Client", service=KAFKA),),
    finding=lambda _run: [],
)
