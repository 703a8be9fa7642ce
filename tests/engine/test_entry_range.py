"""The kernel makes range objects without their constructor; they must be what Python's own are."""

import pickle

import pytest

import cometlog

STREAM = "events:v1:shard:0000"


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_a_returned_range_is_a_range(tmp_path, count):
    with cometlog.open(tmp_path) as client:
        client.append(STREAM, [b"before"] * 7)
        made = client.append(STREAM, [b"entry"] * count)
    expected = range(7, 7 + count)
    assert type(made) is range
    assert made == expected
    assert hash(made) == hash(expected)
    assert (made.start, made.stop, made.step, len(made)) == (7, 7 + count, 1, count)
    assert list(made) == list(expected)
    assert list(reversed(made)) == list(reversed(expected))
    assert made[1:] == expected[1:]
    assert repr(made) == repr(expected)
    assert pickle.loads(pickle.dumps(made)) == expected
