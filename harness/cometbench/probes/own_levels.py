"""The service levels that the engine states by itself (`Client.slo`), beside what the harness saw of the same appends.

One writer appends back to back, each call timed by the harness; the engine samples one in 64. A group acknowledges a known part, so
that its lag is known to the entry. Values: `p50`, `p99`, `lag` and `error_percent` as the engine states them, `harness_p50` and
`harness_p99` as the harness saw them. Config: the engine subject's keys.
"""

from __future__ import annotations

import cometlog
from cometbench.benchmark import ENGINE_SUBJECT, STREAM, Benchmark
from cometbench.errors import CannotMeasureError
from cometbench.measuring import Writing, verify
from cometbench.open_loop import drive
from cometbench.probe import Outcome, Task
from cometbench.verification import Finding

# The engine states a p99 from 1000 samples on; of one append in 64.
APPENDS = 100_000
ACKNOWLEDGED = APPENDS - 500
GROUP = "bench"


def measure(task: Task) -> Outcome:
    """Append, read back, acknowledge, and ask the engine."""
    probe = task.probe
    benchmark = Benchmark(
        name=probe.name, experiment=probe.experiment, subject=probe.subject, implementation=ENGINE_SUBJECT,
        workload=probe.workload, durability=probe.durability, config=probe.config,
    )  # fmt: skip
    writing = Writing(benchmark, task.directory, task.seed)
    operations = drive(writing.subject.append_call(1), writing.take(APPENDS), [0] * APPENDS)
    writing.count(APPENDS, operations.last_result)
    writing.subject.close()
    finding, seen = verify(writing.subject, [writing.appended]), operations.service()
    with cometlog.open(task.directory / "log") as client:
        consumer = client.consumer(GROUP)
        consumer.ack(consumer.read_one(STREAM, ACKNOWLEDGED))
        rows = {row.id: row for row in client.slo()}
    stated: dict[str, float] = {}
    for name, row in (
        ("p50", rows["S1"]),
        ("p99", rows["S2"]),
        ("lag", rows["S6"]),
        ("error_percent", rows["S7"]),
    ):
        if row.value is None:
            raise CannotMeasureError(f"the engine does not state {row.metric}: {row.reason}")
        stated[name] = row.value * 1000 if row.unit == "us" else row.value
    if stated["lag"] != APPENDS - ACKNOWLEDGED and finding.status == "ok":
        detail = (
            f"{STREAM}: the engine states a lag of {stated['lag']:.0f}, {APPENDS - ACKNOWLEDGED} are left"
        )
        finding = Finding("failed", finding.entries_expected, finding.entries_found, detail)
    return Outcome({**stated, "harness_p50": seen.quantile(50), "harness_p99": seen.quantile(99)}, finding)
