"""What a forwarder is given wrongly is refused by name, before any server is asked and before the log is touched."""

import pytest

import cometlog
from cometlog.forward import Forwarder
from cometlog.forward.json_key import json_key
from kafka_side import files, fill

TO = "kafka://127.0.0.1:1/x"


@pytest.mark.parametrize(
    ("options", "kind", "part"),
    [
        ({"mode": "at-most-once"}, cometlog.ConfigurationError, "mode is 'at-least-once' or 'exactly-once'"),
        ({"partition_by": "random"}, cometlog.ConfigurationError, "partition_by is 'shard' or 'key'"),
        ({"partition_by": "key"}, cometlog.ConfigurationError, "needs a key extractor"),
        ({"batch_size": 0}, cometlog.ConfigurationError, "batch_size is a whole number from 1 to 1000000"),
        ({"batch_size": True}, cometlog.ConfigurationError, "batch_size"),
        ({"partitions": 0}, cometlog.ConfigurationError, "partitions is a whole number from 1 to 10000"),
        ({"assignment": (2, 2)}, cometlog.ConfigurationError, "assignment is (id, total)"),
        ({"group": "a/b"}, cometlog.GroupNameError, "group name"),
        ({"dead_letter": "a/b"}, cometlog.StreamNameError, "namespace"),
        ({"properties": {"acks": "0"}}, cometlog.ConfigurationError, "acks is the forwarder's own"),
        ({"properties": {"linger.ms": "soon"}}, cometlog.ConfigurationError, "linger.ms"),
        ({"to": "kafka://x"}, cometlog.DestinationError, "names no topic"),
    ],
)
def test_a_wrong_option_is_refused_and_the_log_is_untouched(root, options, kind, part):
    with cometlog.open(root) as client:
        fill(client, 1, 1)
    before = files(root)
    with cometlog.open(root) as client, pytest.raises(kind) as caught:
        Forwarder(client, **{"to": TO} | options)
    assert part in str(caught.value)
    assert files(root) == before


def test_a_client_that_only_reads_cannot_forward(root):
    cometlog.open(root).close()
    with (
        cometlog.open(root, read_only=True) as client,
        pytest.raises(cometlog.ReadOnlyError, match="opened read-only"),
    ):
        Forwarder(client, to=TO)


def test_a_forwarder_that_is_closed_says_so(root):
    with cometlog.open(root) as client:
        forwarder = Forwarder(client, to=TO)
        forwarder.close()
        forwarder.close()
        with pytest.raises(cometlog.ClosedError, match="group 'forward' is closed"):
            forwarder.run()


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        (b'{"user": {"id": "u1"}}', b"u1"),
        (b'{"user": {"id": 7}}', b"7"),
        (b'{"user": {"id": "\xc3\xbc"}}', "ü".encode()),
        (b'{"user": {"id": null}}', None),
        (b'{"user": {"id": [1]}}', None),
        (b'{"user": 1}', None),
        (b"[1, 2]", None),
        (b"no json", None),
        (b"\xff\xfe", None),
        (b"", None),
        (b'{"user": {"id": "\\ud800"}}', None),
        (b"[" * 100_000, None),
        (b'{"user": {"id": 1' + b"0" * 5000 + b"}}", None),
    ],
    ids=lambda given: ascii(given)[:40],
)
def test_a_field_of_json_is_a_key(entry, key):
    assert json_key("user.id")(entry) == key
