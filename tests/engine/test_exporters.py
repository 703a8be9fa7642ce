"""What monitoring systems collect: real exposition text, a real reader in memory, and the error where a package is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import cometlog
from cometlog.exporters import opentelemetry, prometheus
from cometlog.exporters.metrics import METRICS
from cometlog.latency import bucket_bounds_ns
from support import STREAM, Worker, make_config, payload

STATISTICS_WORKERS = Path(__file__).with_name("statistics_workers.py")
OTHER = "events:v1:shard:0001"


def scrape(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the exposition text by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def collect(reader: InMemoryMetricReader) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        (metric.name, tuple(sorted((key, str(value)) for key, value in (point.attributes or {}).items()))): point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }  # fmt: skip


def test_a_scrape_has_what_other_processes_did_by_stream(root: Path, start_worker: type[Worker]) -> None:
    worker = start_worker(
        "append_counted",
        script=STATISTICS_WORKERS,
        root=str(root),
        write_path="mmap",
        singles=600,
        batches=40,
        batch_entries=5,
    )
    assert worker.hear() == "ready"
    worker.tell()
    assert worker.hear() == "appended"
    registry = CollectorRegistry()
    with cometlog.open(root, read_only=True) as client:
        registry.register(prometheus.Collector(client))
        found = scrape(registry)
        stream = ("stream", STREAM)
        assert found["cometlog_appends_total", (stream,)] == 640
        assert found["cometlog_entries_total", (stream,)] == 800
        assert found["cometlog_errors_total", (stream,)] == 0
        assert found["cometlog_live_writers", (stream,)] == 1
        latency, alone = "cometlog_append_latency_seconds", ("writers", "alone")
        assert found[f"{latency}_count", (stream, alone)] == 10
        assert found[f"{latency}_bucket", (("le", "+Inf"), stream, alone)] == 10
        assert found[f"{latency}_sum", (stream, alone)] == client.stats()[STREAM].latency.sum_ns / 1e9
        assert found[f"{latency}_count", (stream, ("writers", "shared"))] == 0


def test_buckets_of_a_scrape_hold_what_lies_below_their_bounds(root: Path) -> None:
    with cometlog.open(root, make_config()) as client:
        writer = client.writer(STREAM)
        for sequence in range(64 * 100):
            writer.append(payload(0, sequence))
        registry = CollectorRegistry()
        registry.register(prometheus.Collector(client))
        histogram = client.stats()[STREAM].latency
        buckets = [
            (float(dict(labels)["le"]), value)
            for (name, labels), value in scrape(registry).items()
            if name.endswith("_bucket") and ("writers", "alone") in labels
        ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == (float("inf"), 100)
    assert len(buckets) == 30
    for bound, value in buckets[:-1]:
        below = sum(
            count
            for index, count in enumerate(histogram.counts)
            if bucket_bounds_ns(index)[1] <= round(bound * 1e9)
        )
        assert value == below


def test_streams_that_appear_later_are_in_the_next_scrape(root: Path) -> None:
    registry = CollectorRegistry()
    with cometlog.open(root, make_config()) as client:
        registry.register(prometheus.Collector(client))
        assert {name for name, _ in scrape(registry)} == set()
        client.append(STREAM, [b"x"])
        client.append(OTHER, [b"x", b"y"])
        found = scrape(registry)
        assert (
            found["cometlog_entries_total", (("stream", STREAM),)],
            found["cometlog_entries_total", (("stream", OTHER),)],
        ) == (1, 2)
    with pytest.raises(cometlog.ClosedError):
        generate_latest(registry)


def test_a_reader_of_opentelemetry_collects_every_metric_of_every_stream(root: Path) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with cometlog.open(root, make_config()) as client:
        opentelemetry.observe(client, provider.get_meter("test"))
        for sequence in range(128):
            client.append(STREAM, [payload(0, sequence)])
        client.append(OTHER, [b"x"])
        client.sync(STREAM)
        before, found, after = client.stats(), collect(reader), client.stats()
        for metric in METRICS:
            for stream in (STREAM, OTHER):
                value = found[f"cometlog.{metric.name}", (("stream", stream),)]
                low, high = metric.value(before[stream]), metric.value(after[stream])
                assert low is not None
                assert high is not None
                assert low <= value <= high  # the helper thread brings indexes up to date meanwhile
        alone = (("stream", STREAM), ("writers", "alone"))
        assert found["cometlog.appends", (("stream", STREAM),)] == 128
        assert found["cometlog.append_latency.samples", alone] == 2
        percentile = (("percentile", "p99"), *alone)
        assert (
            found["cometlog.append_latency", percentile]
            == (client.stats()[STREAM].latency.percentile_ns(99) or 0) / 1e9
        )
        assert (
            "cometlog.append_latency",
            (("percentile", "p99"), ("stream", OTHER), ("writers", "alone")),
        ) not in found
    provider.shutdown()


def test_instruments_of_a_closed_client_observe_nothing(root: Path) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with cometlog.open(root, make_config()) as client:
        client.append(STREAM, [b"x"])
        opentelemetry.observe(client, provider.get_meter("test"))
    data = reader.get_metrics_data()
    assert data is None or collect(reader) == {}
    provider.shutdown()


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("prometheus", "prometheus_client", "prometheus"), ("opentelemetry", "opentelemetry", "otel")],
)
def test_a_package_that_is_missing_is_named_with_the_extra_that_brings_it(
    module: str, package: str, extra: str
) -> None:
    probe = (
        f"import sys\nsys.modules[{package!r}] = None\nimport cometlog\n"
        f"try:\n    import cometlog.exporters.{module}\nexcept cometlog.ExtraMissingError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert f"pip install cometlog[{extra}]" in ran.stdout
