"""The extension: the C loop copies exactly, comparison agrees with Python, floors clean up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cometbench import _native

FLOORS = [
    "clock_read",
    "cas",
    "memcpy_hot",
    "memcpy_fresh_map",
    "write_128",
    "write_1mib",
    "fdatasync_128",
    "fallocate_populate_mib",
]


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_takes_time_and_leaves_no_file(tmp_path, name):
    assert getattr(_native, name)(2, str(tmp_path / "floor.bin")) > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_refuses_no_loops(tmp_path, name):
    with pytest.raises(ValueError, match="loops must be at least 1, not 0"):
        getattr(_native, name)(0, str(tmp_path / "floor.bin"))


@pytest.mark.parametrize("name", [name for name in FLOORS if name not in ("clock_read", "cas", "memcpy_hot")])
def test_a_floor_never_overwrites_a_file(tmp_path, name):
    path = tmp_path / "precious"
    path.write_bytes(b"keep")
    with pytest.raises(FileExistsError):
        getattr(_native, name)(1, str(path))
    assert path.read_bytes() == b"keep"


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_the_c_loop_copies_objects_one_behind_the_other(tmp_path_factory, entries):
    path = tmp_path_factory.mktemp("copy") / "map"
    target = _native.CopyTarget(str(path), 2500)
    target.copy_list(entries)
    for entry in entries:
        target.copy(entry)
    target.close()
    text = b"".join(entries) * 2
    assert path.read_bytes() == text + bytes(2500 - len(text))


def test_the_c_loop_refuses_what_does_not_fit_and_what_is_not_bytes(tmp_path):
    target = _native.CopyTarget(str(tmp_path / "map"), 10)
    target.copy(b"abc")
    with pytest.raises(ValueError, match="entry of 8 bytes does not fit behind 3 of 10"):
        target.copy(b"12345678")
    with pytest.raises(TypeError, match="bytes, not str"):
        target.copy_list([b"a", "b"])
    with pytest.raises(TypeError, match="list, not tuple"):
        target.copy_list((b"a",))
    target.close()
    target.close()
    with pytest.raises(ValueError, match="closed"):
        target.copy(b"a")


@given(
    st.lists(st.binary(max_size=3), min_size=1, max_size=6),
    st.lists(st.binary(max_size=3), max_size=20),
    st.integers(0, 30),
)
def test_first_mismatch_agrees_with_python(pool, entries, start):
    expected = next((i for i, entry in enumerate(entries) if entry != pool[(start + i) % len(pool)]), -1)
    assert _native.first_mismatch(entries, pool, start) == expected


def test_first_mismatch_refuses_an_empty_pool_and_other_types():
    with pytest.raises(ValueError, match="pool must hold an entry"):
        _native.first_mismatch([b"a"], [], 0)
    with pytest.raises(TypeError, match="bytes objects only"):
        _native.first_mismatch([bytearray(b"a")], [b"a"], 0)
