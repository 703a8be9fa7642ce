"""Forwarding to Kafka: the steady rate of the forwarder beside that of the client library's own performance tool."""

from __future__ import annotations

from cometbench.benchmark import ConfigValue
from cometbench.experiment import Experiment
from cometbench.findings import failures, gain_text, sentence, value
from cometbench.model import Run
from cometbench.probe import Probe
from cometbench.services.shared import KAFKA

FORWARD = "forward.kafka.at_least_once.time"
EXACTLY_ONCE = "forward.kafka.exactly_once.time"
TOOL = "forward.kafka.rdkafka_performance.time"
KAFKA_TOOL = "forward.kafka.producer_perf_test.time"


def _probe(name: str, function: str, **config: ConfigValue) -> Probe:
    return Probe(
        name=f"forward.kafka.{name}",
        experiment="forward",
        subject=name,
        implementation=f"cometbench.probes.forwarding:{function}",
        values={"time": "ns"},
        seconds=10.0,
        durability="survives_process_crash",
        rounds="other",
        service=KAFKA,
        config=config,
    )


def _rate(run: Run, name: str) -> str | None:
    """Return entries a second with their interval: what takes twice as long comes half as often."""
    time = value(run, name)
    if time is None:
        return None
    return "{:,.0f} [{:,.0f}-{:,.0f}]".format(*(1e9 / ns for ns in (time.value, time.high, time.low)))


def rates(run: Run) -> list[str]:
    """Return the table of docs/how-to/forwarding.md, as lines."""
    lines = [
        f"Run [`{run.run_id}`](../../results/{run.machine_id}/{run.run_id}/report.md).",
        "",
        "| | entries a second | rate of rdkafka_performance |",
        "|---|---|---|",
    ]
    rows = {
        FORWARD: "forwarded at least once",
        EXACTLY_ONCE: "forwarded exactly once",
        TOOL: "rdkafka_performance, the tool of the client library",
        KAFKA_TOOL: "kafka-producer-perf-test, Kafka's own client",
    }
    for name, title in rows.items():
        share = "1x" if name == TOOL else gain_text(run, TOOL, name)
        lines.append(f"| {title} | {_rate(run, name)} | {share} |")
    return lines


def finding(run: Run) -> list[str]:
    """Rates and shares; then why something was not measured."""
    lines = sentence(
        "Forwarded to Kafka at least once: {ours} entries/s, {share} the rate of librdkafka's own rdkafka_performance "
        "({tool} entries/s).",
        ours=_rate(run, FORWARD),
        share=gain_text(run, TOOL, FORWARD),
        tool=_rate(run, TOOL),
    )
    lines += sentence(
        "Exactly once: {ours} entries/s, {share} the rate of that tool, which makes no transactions.",
        ours=_rate(run, EXACTLY_ONCE),
        share=gain_text(run, TOOL, EXACTLY_ONCE),
    )
    lines += sentence(
        "Kafka's own kafka-producer-perf-test, another client: {tool} entries/s; forwarded at least once is {share} its rate.",
        tool=_rate(run, KAFKA_TOOL),
        share=gain_text(run, KAFKA_TOOL, FORWARD),
    )
    return lines + failures(run, FORWARD, EXACTLY_ONCE, TOOL, KAFKA_TOOL)


EXPERIMENT = Experiment(
    section="forward",
    title="Forwarding to Kafka",
    question="How close does forwarding a log come to what Kafka's C client reaches by itself on the same broker?",
    method=(
        "One broker for the whole run; in each round, in shuffled order, every side sends as many records of 117 bytes to a new topic "
        "of four partitions, with acks=all, idempotence, no compression, and the same linger and batch sizes. Forwarding reads a log "
        "of four shards that was written beforehand. The client library's tool is rdkafka_performance, built from its published "
        "source with the very library that the Python client brings along; its records have a header as long as the forwarder's "
        "idempotency key. Time runs from the start of the client in a running process to the last confirmation, connecting included. "
        "A forwarded topic is read back and compared with the log."
    ),
    limitations=(
        "Broker and client share the CPUs of one machine, so each slows the other down; a broker elsewhere leaves more to both. The "
        "tool sends one buffer again and again and reads no log. It stamps no record, and its header is the same in every record. "
        "It is called back for every record that was delivered; the forwarder asks for failures alone (delivery.report.only.error) "
        "and takes its empty queue for the rest, which spares it a call for each record. kafka-producer-perf-test is another client "
        "in another language: its batches are those of one partition, and it sends no headers. Bursts of up to a million records: "
        "a client that runs for hours has the same rate but no start."
    ),
    benchmarks=(),
    probes=(
        _probe("at_least_once", "forward", mode="at-least-once"),
        _probe("exactly_once", "forward", mode="exactly-once"),
        _probe("rdkafka_performance", "rdkafka_performance"),
        _probe("producer_perf_test", "producer_perf_test"),
    ),
    finding=finding,
)
