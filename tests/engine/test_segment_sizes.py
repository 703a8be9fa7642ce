"""Clients whose configurations differ in segment size or file mode on one log, one after the other and at once."""

import os
from pathlib import Path

import pytest

import cometlog
from cometlog.errors import BatchTooLargeError
from support import KIB, MIB, PATHS, SHARED_PATHS, STREAM, make_config, payload, read_all, segment_files


@pytest.mark.parametrize("write_path", PATHS)
def test_batch_too_large_for_the_segments_this_client_makes_is_refused_wherever_the_tail_is(
    root: Path, write_path: str
) -> None:
    """In a large segment of an earlier configuration too, or the answer would depend on how full that is."""
    with cometlog.open(root, make_config(1 * MIB), write_path=write_path) as client:
        client.append(STREAM, [payload(0, 0, 100)])
    with cometlog.open(root, make_config(64 * KIB), write_path=write_path) as client:
        with pytest.raises(BatchTooLargeError, match=r"30720.*100000"):
            client.append(STREAM, [bytes(100_000)])
        for sequence in range(1, 40):
            client.append(STREAM, [payload(0, sequence, 30_720)])
        with pytest.raises(BatchTooLargeError, match=r"30720.*100000"):
            client.append(STREAM, [bytes(100_000)])
    assert len(read_all(root)) == 40
    assert len(segment_files(root)) < 12


@pytest.mark.parametrize("write_path", PATHS)
def test_batch_that_fits_the_segments_this_client_makes_leaves_a_smaller_one_behind(
    root: Path, write_path: str
) -> None:
    with cometlog.open(root, make_config(64 * KIB), write_path=write_path) as client:
        client.append(STREAM, [b"one"])
    with cometlog.open(root, make_config(1 * MIB), write_path=write_path) as client:
        assert client.append(STREAM, [payload(0, 0, 400_000)]) == range(1, 2)
    assert [len(entry.data) for entry in read_all(root)] == [3, 400_000]
    assert len(segment_files(root)) == 2


@pytest.mark.parametrize("write_path", SHARED_PATHS)
def test_two_live_clients_of_different_segment_sizes(root: Path, write_path: str) -> None:
    turns = 30 if write_path != "mmap" else 200
    written = []
    with (
        cometlog.open(root, make_config(64 * KIB), write_path=write_path) as small,
        cometlog.open(root, make_config(1 * MIB), write_path=write_path) as large,
    ):
        for turn in range(turns):
            for client, length in ((small, 20_000), (large, 150_000), (small, 30_000)):
                assert client.writer(STREAM).append(payload(turn, len(written), length)) == len(written)
                written.append(payload(turn, len(written), length))
    assert [entry.data for entry in read_all(root)] == written


@pytest.mark.parametrize("write_path", PATHS)
def test_every_file_has_the_configured_mode(root: Path, write_path: str) -> None:
    config = make_config(256 * KIB, storage={"file_mode": 0o640, "directory_mode": 0o750})
    before = os.umask(0o022)
    try:
        with cometlog.open(root, config, write_path=write_path) as client:
            for sequence in range(60):
                client.append(STREAM, [payload(0, sequence, 20_000)])
    finally:
        os.umask(before)
    assert len(segment_files(root)) >= 4
    modes = {path.relative_to(root): path.stat().st_mode & 0o777 for path in [root, *root.rglob("*")]}
    expected = {path: 0o750 if (root / path).is_dir() else 0o640 for path in modes}
    assert modes == expected
