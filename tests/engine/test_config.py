"""The configuration: frozen, checked, with presets, and the same after a trip through TOML."""

import dataclasses
from pathlib import Path

import pytest

import cometlog
from cometlog import CompressionConfig, Config, ConfigurationError, StorageConfig

PRESETS = ["default", "ultra_low_latency", "high_throughput", "high_compression", "multi_process"]
STREAM = "events:v1:shard:0000"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_survives_a_trip_through_toml(tmp_path, preset):
    config = getattr(Config, preset)()
    config.save(tmp_path / "config.toml")
    assert Config.load(tmp_path / "config.toml") == config


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_opens_a_log(tmp_path, preset):
    with cometlog.open(tmp_path, getattr(Config, preset)()) as client:
        client.append(STREAM, [b"entry"] * 3)
        assert client.entry_count(STREAM) == 3


def test_presets_say_what_the_guide_says():
    assert Config.default().compression.threshold_bytes == 4096
    assert Config.ultra_low_latency().storage.checkpoint_interval_ms == 10_000
    assert Config.ultra_low_latency().indexing.boundary_interval_entries == 1000
    assert Config.high_compression().compression.threshold_bytes == 256
    assert Config.multi_process().storage.checkpoint_interval_ms == 100


def test_a_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config.default().storage.segment_size_bytes = 1 << 20


def test_toml_keeps_defaults_for_what_it_does_not_name(tmp_path):
    (tmp_path / "some.toml").write_text("[storage]\nsegment_size_bytes = 1048576\n")
    assert Config.load(tmp_path / "some.toml") == Config.default().with_changes(
        storage={"segment_size_bytes": 1 << 20}
    )


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (
            lambda: StorageConfig(segment_size_bytes=5),
            ["storage.segment_size_bytes", "65536", "8589934592", "5"],
        ),
        (
            lambda: StorageConfig(checkpoint_interval_ms=0),
            ["storage.checkpoint_interval_ms", "1 to", "got 0"],
        ),
        (lambda: StorageConfig(segment_size_bytes=1e6), ["storage.segment_size_bytes", "1000000.0"]),
        (lambda: StorageConfig(segment_size_bytes=True), ["storage.segment_size_bytes", "True"]),
        (
            lambda: StorageConfig(allow_network_file_system=1),
            ["allow_network_file_system", "true or false", "1"],
        ),
        (lambda: CompressionConfig(level=99), ["compression.level", "1 to 19", "99"]),
        (lambda: Config.default().with_changes(storage={"size": 1}), ["storage.size", "segment_size_bytes"]),
        (lambda: Config.default().with_changes(disk={}), ["'disk'", "storage"]),
        (lambda: Config.default().with_changes(storage=5), ["storage", "5"]),
        (lambda: Config(storage=5), ["storage", "5"]),
    ],
)
def test_a_wrong_value_is_named_with_its_limits(make, parts):
    with pytest.raises(ConfigurationError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def test_a_file_that_is_not_toml_is_named(tmp_path):
    (tmp_path / "bad.toml").write_text("[storage\n")
    with pytest.raises(ConfigurationError, match=r"bad\.toml is not TOML"):
        Config.load(tmp_path / "bad.toml")


def test_large_entries_are_compressed_and_small_ones_are_not(tmp_path):
    large = [b'{"level":"INFO","message":"the same words again and again"}' * 100] * 10
    with cometlog.open(tmp_path / "on") as client:
        client.append(STREAM, large)
        assert [entry.data for entry in client.read(STREAM)] == large
        compressed_bytes = client.stats()[STREAM].bytes
    with cometlog.open(tmp_path / "off", Config.ultra_low_latency()) as client:
        client.append(STREAM, large)
        assert [entry.data for entry in client.read(STREAM)] == large
        assert client.stats()[STREAM].bytes > 10 * compressed_bytes


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"x = " + b"[" * 5000, b"[storage"])
def test_a_file_that_is_not_toml_is_a_typed_error(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(raw)
    with pytest.raises(ConfigurationError, match=r"config\.toml is not TOML"):
        Config.load(path)
