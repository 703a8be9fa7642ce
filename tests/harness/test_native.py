"""The extension: the C loop copies exactly, comparison agrees with Python, floors clean up."""

from __future__ import annotations

from mmap import mmap
from multiprocessing import get_context

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


def test_the_contended_loop_takes_the_next_bytes_and_counts_them():
    with mmap(-1, 4096) as shared:
        _native.contended_copy(shared, [b"abc", b"", b"de"])
        _native.contended_copy(shared, [b"f"])
        assert int.from_bytes(shared[:8], "little") == 6
        assert shared[128:136] == b"abcdef\0\0"
        with pytest.raises(ValueError, match="entry 1 of 3962 bytes does not fit into a map of 4096"):
            _native.contended_copy(shared, [b"g", b"x" * 3962])
        assert int.from_bytes(shared[:8], "little") == 7
        _native.contended_copy(shared, [b"x" * 3961])
        with pytest.raises(TypeError, match="bytes, not str"):
            _native.contended_copy(shared, ["a"])
    with pytest.raises(ValueError, match="at least 128 bytes"):
        _native.contended_copy(bytearray(100), [b"a"])


def test_the_contended_loop_of_two_processes_loses_nothing():
    context = get_context("fork")
    entries, repeats = (
        1_000_000,
        8,
    )  # long enough that one process runs while the other is between its load and its store
    barrier = context.Barrier(2)

    def copy(entry):
        own = [entry] * entries
        barrier.wait()
        for _ in range(repeats):
            _native.contended_copy(shared, own)

    with mmap(-1, 128 + 2 * entries * repeats) as shared:
        processes = [context.Process(target=copy, args=(entry,)) for entry in (b"a", b"b")]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert int.from_bytes(shared[:8], "little") == 2 * entries * repeats
        copied = shared[128:]
    assert (copied.count(b"a"), copied.count(b"b")) == (entries * repeats, entries * repeats)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=10), st.integers(1, 60), st.integers(40, 90))
def test_the_sustained_loop_goes_on_in_the_next_file_where_an_entry_does_not_fit(
    tmp_path_factory, entries, count, file_bytes
):
    directory = tmp_path_factory.mktemp("copy")
    assert _native.sustained_copy(str(directory), entries, count, file_bytes) >= 0
    expected = [b""]
    for number in range(count):
        entry = entries[number % len(entries)]
        if len(expected[-1]) + len(entry) > file_bytes:
            expected.append(b"")
        expected[-1] += entry
    found = [path.read_bytes() for path in sorted(directory.iterdir())]
    assert [part.ljust(file_bytes, b"\0") for part in expected] == found[: len(expected)]
    assert all(not any(part) for part in found[len(expected) :])
    assert len(found) <= len(expected) + 2


def test_the_sustained_loop_says_what_its_helper_could_not_do(tmp_path):
    with pytest.raises(FileNotFoundError):
        _native.sustained_copy(str(tmp_path / "missing"), [b"a"], 1, 10)
    with pytest.raises(ValueError, match="entry of 11 bytes does not fit into a file of 10"):
        _native.sustained_copy(str(tmp_path), [b"a", b"x" * 11], 1, 10)
    with pytest.raises(ValueError, match="at least 1"):
        _native.sustained_copy(str(tmp_path), [], 1, 10)
    with pytest.raises(TypeError, match="bytes, not str"):
        _native.sustained_copy(str(tmp_path), ["a"], 1, 10)
    assert list(tmp_path.iterdir()) == []


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


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False), st.data())
def test_first_stray_takes_any_interleaving_and_finds_what_is_out_of_order(sizes, source, data):
    pools = [[b"%d/%d" % (writer, entry) for entry in range(size)] for writer, size in enumerate(sizes)]
    writer_of = {entry: writer for writer, pool in enumerate(pools) for entry in pool}
    counts = [source.randrange(8) for _ in pools]
    order = [writer for writer, count in enumerate(counts) for _ in range(count)]
    source.shuffle(order)
    following = [0] * len(pools)
    entries = []
    for writer in order:
        entries.append(pools[writer][following[writer] % len(pools[writer])])
        following[writer] += 1
    found = [0] * len(pools)
    cut = data.draw(st.integers(0, len(entries)))
    assert _native.first_stray(entries[:cut], writer_of, pools, found) == -1
    assert _native.first_stray(entries[cut:], writer_of, pools, found) == -1
    assert found == following

    at = data.draw(st.integers(0, len(entries)))
    strange = [*entries[:at], b"nobody's", *entries[at:]]
    assert _native.first_stray(strange, writer_of, pools, [0] * len(pools)) == at


def test_first_stray_stops_before_an_entry_of_a_writer_that_is_not_its_next():
    pools, following = [[b"a0", b"a1"], [b"b0", b"b1"]], [0, 0]
    writer_of = {b"a0": 0, b"a1": 0, b"b0": 1, b"b1": 1}
    assert _native.first_stray([b"a0", b"b0", b"a0", b"b1"], writer_of, pools, following) == 2
    assert following == [1, 1]


@pytest.mark.parametrize(
    ("pools", "following", "writer_of", "error"),
    [
        ([[b"a"]], [], {b"a": 0}, ValueError),
        ([[]], [0], {b"a": 0}, ValueError),
        ([(b"a",)], [0], {b"a": 0}, ValueError),
        ([[b"a"]], [-1], {b"a": 0}, ValueError),
        ([[b"a"]], ["0"], {b"a": 0}, TypeError),
        ([[b"a"]], [0], {b"a": 1}, ValueError),
    ],
)
def test_first_stray_refuses_what_does_not_fit_together(pools, following, writer_of, error):
    with pytest.raises(error):
        _native.first_stray([b"a"], writer_of, pools, following)
