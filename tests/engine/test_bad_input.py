"""Bad input, line by line: a typed error that names the value and the limit, and nothing half-written."""

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog
from cometlog import Config
from cometlog.errors import (
    BatchTooLargeError,
    ClosedError,
    CometlogError,
    ConfigurationError,
    EntryTypeError,
    NewerFormatError,
    NotALogError,
    ReadOnlyError,
    StreamNameError,
    WritePathConflictError,
)  # fmt: skip
from cometlog.kernel.checksum import crc32c
from support import (
    KIB,
    PATHS,
    SHARD,
    STREAM,
    Worker,
    directory_state,
    make_config,
    read_all,
    segment_files,
)  # fmt: skip

LIMIT_64K = (64 * KIB - 4096) // 2


@pytest.fixture(params=PATHS)
def client(request: pytest.FixtureRequest, root: Path) -> Iterator[cometlog.Client]:
    """A client of each path on a log that holds one entry, in segments of 64 KiB."""
    with cometlog.open(root, make_config(64 * KIB, 3_600_000), write_path=request.param) as client:
        client.append(STREAM, [b"before"])
        yield client
        assert client.append(STREAM, [b"after"]) == range(1, 2)
        assert [entry.data for entry in client.scan(STREAM)] == [b"before", b"after"]


def shard_bytes(client: cometlog.Client) -> dict[str, bytes]:
    """Every segment with what was written to it; room grows, and index, marks and counters follow, at the helper's pace."""
    return {
        name: data.rstrip(b"\0")
        for name, data in directory_state(client.path).items()
        if name.endswith(".seg")
    }


@pytest.mark.parametrize(
    ("batch", "position", "kind"),
    [
        ([b"x", "text"], 1, "str"),
        ([None], 0, "NoneType"),
        ([b"x", b"y", 7], 2, "int"),
        (["text"], 0, "str"),
        (b"bytes are not a batch", 0, "int"),
        ("nor is text", 0, "str"),
        ([[b"nested"]], 0, "list"),
    ],
)
def test_what_is_not_bytes_is_named_by_place_and_type(
    client: cometlog.Client, batch: list[bytes], position: int, kind: str
) -> None:
    before = shard_bytes(client)
    with pytest.raises(EntryTypeError, match=rf"entry {position} .*\b{kind}\b"):
        client.append(STREAM, batch)
    with pytest.raises(EntryTypeError, match=rf"entry {position} .*\b{kind}\b"):
        client.writer(STREAM).extend(batch)
    assert shard_bytes(client) == before


def test_single_entry_that_is_not_bytes_is_named_by_type(client: cometlog.Client) -> None:
    with pytest.raises(EntryTypeError, match="str"):
        client.writer(STREAM).append("text")  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [None, 7, object()])
def test_batch_that_cannot_be_iterated_is_a_typed_error(client: cometlog.Client, batch: object) -> None:
    with pytest.raises(EntryTypeError, match=type(batch).__name__):
        client.append(STREAM, batch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "given"),
    [
        ([b"x" * (LIMIT_64K + 1)], LIMIT_64K + 1),
        ([b"x" * LIMIT_64K, b""], LIMIT_64K + 12),
        ([b"x" * (LIMIT_64K - 11), b""], LIMIT_64K + 1),
        ([b""] * (LIMIT_64K // 4), LIMIT_64K + 4),
    ],
    ids=["single", "pair", "pair by one byte", "offsets alone"],
)
def test_batch_beyond_the_limit_names_value_and_limit(
    client: cometlog.Client, batch: list[bytes], given: int
) -> None:
    before = shard_bytes(client)
    with pytest.raises(BatchTooLargeError, match=rf"{LIMIT_64K}\b.*\b{given}\b"):
        client.append(STREAM, batch)
    assert shard_bytes(client) == before


@pytest.mark.parametrize("compressible", [True, False])
def test_compression_does_not_lift_the_limit(root: Path, compressible: bool) -> None:
    config = make_config(64 * KIB, compression={"threshold_bytes": 1})
    entry = b"x" * (LIMIT_64K + 1) if compressible else os.urandom(LIMIT_64K + 1)
    for write_path in PATHS:
        with cometlog.open(root, config, write_path=write_path) as client, pytest.raises(BatchTooLargeError):
            client.append(STREAM, [entry])
    assert read_all(root) == []


def test_more_entries_than_a_frame_counts_are_refused(client: cometlog.Client) -> None:
    with pytest.raises(BatchTooLargeError, match=rf"{(1 << 24) - 1}\b.*\b{1 << 24}\b"):
        client.append(STREAM, [b""] * (1 << 24))


BAD_NAMES = [
    "", "events", "events:v1:0000", "events:v1:shard:1", "events:v1:shard:00000", "events:v1:shard:-001",
    "events:v1:shard:00٠٠", "events:v1:shards:0000", ":v1:shard:0000", "events::shard:0000", "..:v1:shard:0000",
    ".:v1:shard:0000", ".hidden:v1:shard:0000", "-a:v1:shard:0000", "a/b:v1:shard:0000", "a\0b:v1:shard:0000", "a b:v1:shard:0000",
    "events:v1:shard:0000\n", "evénts:v1:shard:0000", "e" * 101 + ":v1:shard:0000", "events:v1:shard:0000:x",
]  # fmt: skip


@pytest.mark.parametrize(
    "name", [*BAD_NAMES, None, 7, b"events:v1:shard:0000", ["events:v1:shard:0000"]], ids=repr
)
def test_bad_stream_name_is_refused_everywhere_and_creates_nothing(root: Path, name: str) -> None:
    with cometlog.open(root) as client:
        before = directory_state(root)
        for call in (
            lambda: client.append(name, [b"x"]),
            lambda: client.writer(name),
            lambda: client.read(name),
            lambda: list(client.scan(name)),
            lambda: client.recent(name, 1),
            lambda: client.entry_count(name),
            lambda: client.first_entry(name),
            lambda: client.next_entry(name),
        ):
            with pytest.raises(StreamNameError):
                call()
        if name is not None:
            with pytest.raises(StreamNameError):
                client.sync(name)
        assert directory_state(root) == before


@pytest.mark.parametrize("write_path", PATHS)
def test_everything_of_a_closed_client_says_closed(root: Path, write_path: str) -> None:
    client = cometlog.open(root, write_path=write_path)
    writer = client.writer(STREAM)
    writer.append(b"one")
    client.close()
    client.close()
    before = directory_state(root)
    for call in (
        lambda: client.append(STREAM, [b"x"]),
        lambda: client.append(STREAM, []),
        lambda: client.writer(STREAM),
        lambda: client.read(STREAM),
        lambda: list(client.scan(STREAM)),
        lambda: client.entry_count(STREAM),
        lambda: client.next_entry(STREAM),
        lambda: client.sync(),
        lambda: client.sync(STREAM),
        lambda: client.streams(),
        lambda: client.stats(),
        lambda: writer.append(b"x"),
        lambda: writer.extend([b"x", b"y"]),
        lambda: writer.extend([]),
    ):
        with pytest.raises(ClosedError, match="closed"):
            call()
    assert directory_state(root) == before


@pytest.mark.parametrize("name", ["MMAP", "", "none", 7, ["mmap"]], ids=repr)
def test_unknown_write_path_names_the_known_ones(root: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"mmap.*buffered.*sync.*async.*" + re.escape(repr(name))):
        cometlog.open(root, write_path=name)
    assert not root.exists()


def test_unknown_option_is_refused(root: Path) -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        cometlog.open(root, no_such_option=1)  # type: ignore[call-arg]
    assert not root.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"storage": {"segment_size": 1 << 20}},
        {"nothing": {}},
        {"storage": {"segment_size_bytes": 64 * KIB - 1}},
        {"storage": {"segment_size_bytes": (8 << 30) + 1}},
        {"storage": {"segment_size_bytes": "64M"}},
        {"storage": {"checkpoint_interval_ms": 0}},
        {"storage": {"checkpoint_interval_ms": 1.5}},
        {"storage": {"allow_network_file_system": 1}},
        {"concurrency": {"stall_timeout_s": float("nan")}},
        {"concurrency": {"attach_timeout_s": float("inf")}},
        {"compression": {"level": True}},
        {"compression": 3},
    ],
    ids=repr,
)
def test_bad_configuration_names_field_value_and_limits(changes: dict[str, object]) -> None:
    group, values = next(iter(changes.items()))
    with pytest.raises(ConfigurationError, match=group) as caught:
        Config.default().with_changes(**changes)  # type: ignore[arg-type]
    if isinstance(values, dict) and values:
        field, value = next(iter(values.items()))
        assert field in str(caught.value)
        assert repr(value) in str(caught.value) or field == "segment_size"


@pytest.mark.parametrize("config", [{}, "default", 7, Config], ids=repr)
def test_what_is_no_config_is_refused(root: Path, config: Config) -> None:
    with pytest.raises(ConfigurationError, match=r"cometlog\.Config"):
        cometlog.open(root, config)
    assert not root.exists()


def test_group_in_the_place_of_another_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="storage"):
        Config(storage=Config.default().compression)  # type: ignore[arg-type]


def test_read_only_and_a_write_path_exclude_each_other(root: Path) -> None:
    with pytest.raises(ConfigurationError, match="read_only"):
        cometlog.open(root, write_path="mmap", read_only=True)


def test_read_only_client_refuses_to_write_and_changes_nothing(root: Path) -> None:
    with cometlog.open(root) as client:
        client.append(STREAM, [b"one"])
    before = directory_state(root)
    with cometlog.open(root, read_only=True) as client:
        for call in (
            lambda: client.append(STREAM, [b"x"]),
            lambda: client.writer(STREAM),
            lambda: client.sync(STREAM),
        ):
            with pytest.raises(ReadOnlyError, match="read-only"):
                call()
        assert client.entry_count(STREAM) == 1
    assert directory_state(root) == before


def test_read_only_open_of_a_missing_directory_creates_nothing(root: Path) -> None:
    with pytest.raises(NotALogError, match=re.escape(str(root))):
        cometlog.open(root, read_only=True)
    assert not root.exists()


@pytest.mark.parametrize("read_only", [False, True])
def test_root_that_is_a_file_is_refused(root: Path, read_only: bool) -> None:
    root.write_bytes(b"a file")
    with pytest.raises(NotALogError, match="not a directory"):
        cometlog.open(root, read_only=read_only)
    assert root.read_bytes() == b"a file"


@pytest.mark.parametrize(
    "content", [b"", b"cometlog\n", b"cometlog x\n", b"other 1\n", b"\xff\xfe\0", b"cometlog 1 2\n"]
)
@pytest.mark.parametrize("read_only", [False, True])
def test_marker_that_says_something_else_is_refused(root: Path, content: bytes, read_only: bool) -> None:
    root.mkdir()
    (root / "FORMAT").write_bytes(content)
    before = directory_state(root)
    with pytest.raises(NotALogError, match="FORMAT"):
        cometlog.open(root, read_only=read_only)
    assert directory_state(root) == before


def test_marker_that_is_a_directory_is_refused(root: Path) -> None:
    (root / "FORMAT").mkdir(parents=True)
    with pytest.raises(NotALogError, match="FORMAT"):
        cometlog.open(root)


@pytest.mark.parametrize("read_only", [False, True])
def test_directory_of_a_newer_format_is_refused(root: Path, read_only: bool) -> None:
    with cometlog.open(root) as client:
        client.append(STREAM, [b"one"])
    (root / "FORMAT").write_text("cometlog 2\n")
    before = directory_state(root)
    with pytest.raises(NewerFormatError, match=r"2.*1"):
        cometlog.open(root, read_only=read_only)
    assert directory_state(root) == before


@pytest.mark.parametrize("write_path", PATHS)
def test_segment_of_a_newer_format_is_refused(root: Path, write_path: str) -> None:
    with cometlog.open(root, write_path=write_path) as client:
        client.append(STREAM, [b"one"])
    (segment,) = segment_files(root)
    with segment.open("r+b") as file:
        header = bytearray(segment.read_bytes()[:88])
        header[8:12] = (2).to_bytes(4, "little")
        file.write(header + crc32c(bytes(header)).to_bytes(4, "little"))
    before = directory_state(root)
    with pytest.raises(NewerFormatError, match=re.escape(segment.name) + ".*2.*1"):
        read_all(root)
    with cometlog.open(root, write_path=write_path) as client, pytest.raises(NewerFormatError):
        client.append(STREAM, [b"two"])
    assert directory_state(root) == before


@pytest.mark.parametrize("write_path", PATHS)
@pytest.mark.parametrize("name", ["segment", "control", "lock", "durable"])
def test_symbolic_links_in_a_shard_are_not_followed(root: Path, write_path: str, name: str) -> None:
    with cometlog.open(root, write_path=write_path) as client:
        client.append(STREAM, [b"one"])
    path = segment_files(root)[0] if name == "segment" else root / SHARD / name
    target = root.parent / "target"
    path.rename(target)
    path.symlink_to(target)
    before = directory_state(root) | {"target": target.read_bytes()}
    with (
        cometlog.open(root, write_path=write_path) as client,
        pytest.raises((NotALogError, OSError)) as caught,
    ):
        client.append(STREAM, [b"two"])
    assert isinstance(caught.value, NotALogError) or caught.value.errno == errno.ELOOP
    if name == "segment":
        with pytest.raises(NotALogError, match="symbolic link"):
            read_all(root)
    assert directory_state(root) | {"target": target.read_bytes()} == before


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_shard_directory_that_is_a_link_or_a_file_is_refused(root: Path, depth: int, kind: str) -> None:
    cometlog.open(root).close()
    place = root.joinpath(*SHARD.parts[:depth])
    place.parent.mkdir(parents=True, exist_ok=True)
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    if kind == "link":
        place.symlink_to(elsewhere)
    else:
        place.write_bytes(b"a file")
    with cometlog.open(root) as client, pytest.raises(NotALogError, match="not a directory"):
        client.append(STREAM, [b"x"])
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("second", PATHS)
@pytest.mark.parametrize("first", PATHS)
def test_second_path_on_a_live_shard_is_a_typed_error(
    root: Path, start_worker: type[Worker], first: str, second: str
) -> None:
    worker = start_worker("hold_open", root=str(root), write_path=first)
    assert worker.hear() == "attached"
    with cometlog.open(root, make_config(), write_path=second) as client:
        if first == second != "buffered":
            assert client.append(STREAM, [b"mine"]) == range(1, 2)
        else:
            before = shard_bytes(client)
            with pytest.raises(WritePathConflictError, match=f"{first!r}.*{second!r}"):
                client.append(STREAM, [b"mine"])
            assert shard_bytes(client) == before
            assert client.entry_count(STREAM) == 1
    worker.tell()
    assert worker.hear() == "closed"
    assert worker.end() == 0
    with cometlog.open(root, make_config(), write_path=second) as client:
        assert len(client.append(STREAM, [b"now"])) == 1


def test_every_error_has_one_root_and_says_what_it_is() -> None:
    kinds = [
        kind
        for kind in vars(cometlog.errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert all(issubclass(kind, CometlogError) for kind in kinds)
    assert len(kinds) > 10
