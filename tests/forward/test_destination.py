"""URLs and templates: what each part means, and the error that names the part that is wrong."""

import pytest

import cometlog
from cometlog.forward import parse_destination


@pytest.mark.parametrize(
    ("url", "servers", "name"),
    [
        ("kafka://broker:9093/events", "broker:9093", "events"),
        ("kafka://a:1,b:2/events", "a:1,b:2", "events"),
        ("kafka://broker/x", "broker:9092", "x"),
        ("nats://server/x.y", "server:4222", "x.y"),
        ("kafka://[::1]:9092/x", "[::1]:9092", "x"),
        ("kafka://h:1/{namespace}.{version}-{shard}", "h:1", "events.v1-0007"),
        ("kafka://h:1/all_{stream}", "h:1", "all_events.v1.0007"),
    ],
)
def test_a_url_names_servers_and_a_topic_for_each_stream(url, servers, name):
    destination = parse_destination(url)
    assert destination.servers == servers
    assert destination.name_for("events:v1:shard:0007") == name


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("", "''"),
        ("kafka", "begins with 'kafka'"),
        ("http://h:1/x", "begins with 'http'"),
        ("KAFKA://h:1/x", "begins with 'KAFKA'"),
        ("kafka://h:1", "names no topic"),
        ("kafka://h:1/", "names no topic"),
        ("kafka:///x", "is no host"),
        ("kafka://h:0/x", "'0' is no port"),
        ("kafka://h:65536/x", "'65536' is no port"),
        ("kafka://h:port/x", "'port' is no port"),
        ("kafka://h:1,,g:2/x", "is no host"),
        ("kafka://us er@h:1/x", "is no host"),
        ("kafka://h:1/{shard", "is broken"),
        ("kafka://h:1/shard}", "is broken"),
        ("kafka://h:1/{partition}", "{partition}"),
        ("kafka://h:1/{}", "has the field {}"),
        ("kafka://h:1/{shard:08}", "has the field {shard}"),
        ("kafka://h:1/{shard!r}", "has the field {shard}"),
        ("kafka://h:1/{shard.__class__}", "{shard.__class__}"),
        ("kafka://h:1/a b", "characters other than"),
        ("kafka://h:1/a/b", "characters other than"),
    ],
)
def test_a_wrong_url_is_refused_by_the_part_that_is_wrong(url, part):
    with pytest.raises(cometlog.DestinationError) as caught:
        parse_destination(url)
    assert part in str(caught.value)


def test_what_is_no_text_is_refused():
    with pytest.raises(cometlog.DestinationError, match="got 7"):
        parse_destination(7)
