"""No experiment: makes the benchmarks the tests' experiments are built from."""

from cometbench.benchmark import Benchmark
from cometbench.probe import Probe


def raw(name, subject="cometbench.subjects.raw_file:RawFile", **changes):
    """Return a raw-file benchmark; `subject` is a dotted path or a class of faulty_subjects."""
    implementation = subject if ":" in subject else f"faulty_subjects:{subject}"
    fields = {"workload": "json_line", "durability": "survives_process_crash", **changes}
    return Benchmark(name=name, experiment="test", subject=name, implementation=implementation, **fields)


def probe(name, function, values, **changes):
    """Return a probe of a function of faulty_probes."""
    fields = {"values": values, **changes}
    return Probe(
        name=name, experiment="test", subject="test", implementation=f"faulty_probes:{function}", **fields
    )
