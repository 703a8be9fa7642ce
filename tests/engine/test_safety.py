"""Safe by default: modes, owners, what is not a file, network file systems."""

import os
import re
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cometlog
import cometlog.file_system
from cometlog.errors import CometlogError, ConfigurationError, NotALogError
from cometlog.files import check_directory, open_checked
from support import (
    KIB,
    PATHS,
    SHARD,
    STREAM,
    Worker,
    directory_state,
    make_config,
    payload,
    read_all,
    segment_files,
)

CONFIG = make_config(64 * KIB, 10)
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
NOBODY, STRANGER = 65534, 65533
# Files of a shard by the name of their kind; all exist after write_log.
FILES = ("segment", "index", "control", "lock", "durable", "FORMAT")


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def write_log(root: Path, config: cometlog.Config = CONFIG, write_path: str = "mmap") -> None:
    """More than one segment, with indexes and a mark."""
    with cometlog.open(root, config, write_path=write_path) as client:
        for sequence in range(100):
            client.append(STREAM, [payload(0, sequence, 1000)])
        client.sync()
    if not list((root / SHARD).glob("*.idx")):
        with cometlog.open(root, config, write_path="sync") as client:
            client.append(STREAM, [b"index"])


def file_of(root: Path, kind: str) -> Path:
    if kind == "segment":
        return segment_files(root)[-1]
    if kind == "index":
        return max((root / SHARD).glob("*.idx"))
    return root / "FORMAT" if kind == "FORMAT" else root / SHARD / kind


def modes_below(root: Path) -> tuple[set[int], set[int]]:
    """Modes of all files, and of all directories, the root included."""
    items = [root, *root.rglob("*")]
    modes = [(item.is_dir(), stat.S_IMODE(item.stat().st_mode)) for item in items]
    return {mode for is_dir, mode in modes if not is_dir}, {mode for is_dir, mode in modes if is_dir}


@pytest.mark.parametrize("write_path", PATHS)
@pytest.mark.parametrize(
    ("umask", "file_mode", "directory_mode"),
    [(0o000, 0o600, 0o700), (0o077, 0o640, 0o750), (0o022, 0o666, 0o777)],
    ids=oct,
    indirect=["umask"],
)
def test_modes_are_exactly_the_configured_ones(
    root: Path, write_path: str, umask: int, file_mode: int, directory_mode: int
) -> None:
    config = CONFIG.with_changes(storage={"file_mode": file_mode, "directory_mode": directory_mode})
    write_log(root, config, write_path)
    assert len(segment_files(root)) > 1
    assert modes_below(root) == ({file_mode}, {directory_mode})


@pytest.mark.parametrize(
    "modes",
    [
        {"file_mode": 0o477},
        {"file_mode": 0o570},
        {"directory_mode": 0o677},
        {"file_mode": 0o1600},
    ],
)
def test_modes_that_lock_the_owner_out_are_refused(modes: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(modes))):
        CONFIG.with_changes(storage=modes)


def to_pipe(path: Path) -> None:
    os.mkfifo(path)


def to_directory(path: Path) -> None:
    path.mkdir()


def to_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket has at most 107 bytes
        try:
            opened.bind(path.name)
        finally:
            os.chdir(here)


def to_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # zero
    except PermissionError:
        pytest.skip("may not make a device here")


def to_link(path: Path) -> None:
    target = path.parents[3] / "target"
    target.write_bytes(b"of somebody else")
    path.symlink_to(target)


def to_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parents[3] / "made by the victim")


STRANGE: dict[str, Callable[[Path], None]] = {
    "pipe": to_pipe,
    "directory": to_directory,
    "socket": to_socket,
    "device": to_device,
    "link": to_link,
    "link to nothing": to_link_to_nothing,
}


def outcome(call: Callable[[], object]) -> str:
    """Name of the typed error of a call, or "done"; a call that blocks fails."""
    said: list[str] = []

    def body() -> None:
        try:
            call()
        except (CometlogError, OSError) as error:
            said.append(type(error).__name__)
        else:
            said.append("done")

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(20)
    assert said, "blocked"
    return said[0]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("strange", STRANGE)
def test_what_is_no_file_is_refused_and_blocks_nobody(root: Path, kind: str, strange: str) -> None:
    write_log(root)
    expected = read_all(root)
    path = file_of(root, kind)
    path.unlink()
    STRANGE[strange](path)
    outside = {item.name: item.read_bytes() for item in root.parent.iterdir() if item.is_file()}

    def append() -> None:
        with cometlog.open(root, CONFIG) as client:
            client.append(STREAM, [b"more"])
            client.sync()

    read = outcome(lambda: read_all(root))
    written = outcome(append)
    if kind == "index":  # derived: read without it, and replaced by the next writer where that can be done
        assert (read, written) == ("done", "done")
        assert [entry[1:] for entry in read_all(root)][: len(expected)] == [entry[1:] for entry in expected]
    elif kind in ("segment", "FORMAT"):
        assert (read, written) == ("NotALogError", "NotALogError")
    else:
        assert read in ("done", "NotALogError")
        assert written == "NotALogError"
    assert {item.name: item.read_bytes() for item in root.parent.iterdir() if item.is_file()} == outside


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_directory_that_is_a_link_is_not_read_through(root: Path, depth: int) -> None:
    write_log(root)
    place = root.joinpath(*SHARD.parts[:depth])
    elsewhere = root.parent / "elsewhere"
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    before = directory_state(elsewhere)
    for options in ({"read_only": True}, {"config": CONFIG}):
        with (
            cometlog.open(root, **options) as client,
            pytest.raises(NotALogError, match="is not a directory"),
        ):
            client.read(STREAM)
    with cometlog.open(root, CONFIG) as client, pytest.raises(NotALogError, match="is not a directory"):
        client.append(STREAM, [b"x"])
    assert directory_state(elsewhere) == before


def test_root_may_be_a_link(root: Path) -> None:
    link = root.parent / "link"
    root.mkdir()
    link.symlink_to(root)
    write_log(link)
    assert read_all(link) == read_all(root)


@ROOT_ONLY
@pytest.mark.parametrize("kind", [*FILES, "shard directory", "namespace directory"])
def test_what_belongs_to_a_stranger_is_refused(
    shared_root: Path, start_worker: type[Worker], kind: str
) -> None:
    root = shared_root
    write_log(root, CONFIG.with_changes(storage={"file_mode": 0o666, "directory_mode": 0o755}))
    for path in [root, *root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    path = {"shard directory": root / SHARD, "namespace directory": root / SHARD.parts[0]}.get(kind)
    os.chown(path or file_of(root, kind), STRANGER, STRANGER)
    worker = start_worker("append_as_user", root=str(root), user=NOBODY)
    said = worker.hear()["text"]
    if kind == "index":
        assert said == "appended"  # derived: replaced by one of its own
        assert file_of(root, kind).stat().st_uid == NOBODY
    else:
        assert f"belongs to user {STRANGER}, not to {NOBODY}" in said
    assert worker.end() == 0


@ROOT_ONLY
def test_others_who_are_given_the_log_can_read_it_and_write_nothing(
    shared_root: Path, start_worker: type[Worker]
) -> None:
    root = shared_root
    write_log(root, CONFIG.with_changes(storage={"file_mode": 0o644, "directory_mode": 0o755}))
    before = directory_state(root)
    worker = start_worker("read_as_user", root=str(root), user=NOBODY)
    assert worker.hear() == len(read_all(root))
    assert worker.end() == 0
    worker = start_worker("append_as_user", root=str(root), user=NOBODY)
    said = worker.hear()
    assert said["os_error"] is not None or "belongs to user 0" in said["text"]
    assert directory_state(root) == before


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_directory_that_every_user_may_write_to_is_refused_for_writing(root: Path, depth: int) -> None:
    write_log(root)
    place = root.joinpath(*SHARD.parts[:depth])
    place.chmod(0o777)
    with cometlog.open(root, CONFIG) as client, pytest.raises(NotALogError, match=r"every user .*0o777"):
        client.append(STREAM, [b"x"])
    assert len(read_all(root)) == 100
    asked_for = CONFIG.with_changes(storage={"directory_mode": 0o777})
    with cometlog.open(root, asked_for) as client:
        client.append(STREAM, [b"x"])
    place.chmod(0o1777)
    with cometlog.open(root, CONFIG) as client:
        client.append(STREAM, [b"x"])


def test_missing_is_not_strange(tmp_path: Path) -> None:
    """A missing directory is no error to a reader; a file in its place is."""
    assert not check_directory(tmp_path / "missing", writing=False)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotALogError):
        check_directory(tmp_path / "file", writing=False)
    with pytest.raises(FileNotFoundError):
        open_checked(tmp_path / "missing", os.O_RDONLY)


def test_network_file_system_is_refused_before_the_first_file_unless_allowed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(root.parent / "made before")
    here = cometlog.file_system.file_system_of(root.parent)
    monkeypatch.setattr(cometlog.file_system, "NETWORK_FILE_SYSTEMS", frozenset([here]))
    with pytest.raises(NotALogError, match=f"is on {re.escape(here)}.*allow_network_file_system"):
        cometlog.open(root, CONFIG)
    assert not (root / "FORMAT").exists()
    with (
        cometlog.open(root.parent / "made before", CONFIG) as client,
        pytest.raises(NotALogError, match="allow_network"),
    ):
        client.append(STREAM, [b"x"])
    assert len(read_all(root.parent / "made before")) == 100
    write_log(root, CONFIG.with_changes(storage={"allow_network_file_system": True}))
    assert len(read_all(root)) == 100
