"""Forward streams to Kafka or NATS as a consumer group: what is there, and then each new entry as it comes.

URL is kafka://host:port/TOPIC or nats://host:port/SUBJECT; {namespace}, {version}, {shard} and {stream} in it stand for the parts of
each stream's name. Entries are acknowledged once the target confirmed them, so a forwarder that was stopped, or killed, goes on where
it was. With --mode exactly-once the target itself says how far it came, and nothing arrives twice. Entries that the target will not
take go to a dead-letter stream of the log, but for dead letters of other groups, which stay where they are. Ctrl-C and SIGTERM finish
what is under way, for 10 s at most; a second Ctrl-C ends at once, and what was not confirmed is sent next time.
"""

import argparse
import json
import signal
from dataclasses import asdict

import cometlog
from cometlog.cli import EXIT_INTERRUPTED, EXIT_SOUND
from cometlog.cli.arguments import (
    add_config,
    add_path,
    add_properties,
    check_owner,
    load_config,
    whole_number,
)
from cometlog.cli.rate import RateLine
from cometlog.cli.stopping import stopping
from cometlog.errors import ConfigurationError
from cometlog.forward import Forwarder
from cometlog.forward.forwarder import BATCH_SIZE_DEFAULT, MODES, PARTITION_BY
from cometlog.forward.json_key import json_key
from cometlog.forward.target import ForwardStatistics

EXAMPLES = """\
  cometlog forward /var/log/app --to kafka://broker:9092/{namespace}.{version} --mode exactly-once --streams 'events:v1:*'
  cometlog forward /var/log/app --to nats://server:4222/edge.machine-17.{stream} --assignment 0/2 --until-caught-up --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    parser.add_argument("--to", required=True, metavar="URL", help="where entries go")
    parser.add_argument(
        "--group", default="forward", metavar="NAME", help="consumer group (default: forward)"
    )
    parser.add_argument(
        "--streams", default="*", metavar="PATTERN", help="streams to forward, quoted (default: all)"
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=MODES[0],
        help="what arrives after a failure (default: at-least-once)",
    )
    parser.add_argument(
        "--key",
        metavar="FIELD",
        help="key of a record: a field of entries that are JSON objects, such as user.id",
    )
    parser.add_argument(
        "--partition-by", choices=PARTITION_BY, default=PARTITION_BY[0],
        help="what chooses the partition: shard keeps the order of each shard, key that of each key (default: shard)",
    )  # fmt: skip
    parser.add_argument(
        "--batch-size", type=whole_number("a batch", 1), default=BATCH_SIZE_DEFAULT, metavar="N",
        help=f"confirm at most N entries together (default: {BATCH_SIZE_DEFAULT})",
    )  # fmt: skip
    parser.add_argument(
        "--assignment",
        type=_assignment,
        metavar="I/N",
        help="only shards whose number modulo N is I, such as 0/2",
    )
    parser.add_argument(
        "--until-caught-up", action="store_true", help="end once everything that is there is confirmed"
    )
    parser.add_argument(
        "--dead-letter", metavar="NAME", help="namespace of the dead letters (default: GROUP-dead-letter)"
    )
    parser.add_argument(
        "--partitions", type=whole_number("a count", 1), metavar="N",
        help="partitions of a topic that has to be made (default: the server's)",
    )  # fmt: skip
    add_properties(parser)
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print what was done as a JSON object at the end")


def _assignment(text: str) -> tuple[int, int]:
    number, separator, total = text.partition("/")
    if not separator or not number.isdecimal() or not total.isdecimal() or int(number) >= int(total):
        raise argparse.ArgumentTypeError(f"an assignment is I/N with I from 0 to N - 1, got {text!r}")
    return int(number), int(total)


def run(arguments: argparse.Namespace) -> int:
    """Forward and return the exit code."""
    cometlog.open(arguments.path, read_only=True).close()
    check_owner(arguments.path)
    with (
        cometlog.open(arguments.path, load_config(arguments)) as client,
        _forwarder(client, arguments) as forwarder,
    ):
        rate_line = RateLine(
            "cometlog forward", forwarder.stats, lambda done: done.forwarded, _progress, _summary
        )
        with stopping("cometlog forward", forwarder.stop) as came, rate_line:
            forwarder.run(until_caught_up=arguments.until_caught_up)
        done = forwarder.stats()
    if arguments.json:
        print(
            json.dumps(
                {"path": str(arguments.path), "to": arguments.to, "group": arguments.group} | asdict(done)
            )
        )
    return EXIT_INTERRUPTED if signal.SIGINT in came else EXIT_SOUND


def _forwarder(client: cometlog.Client, arguments: argparse.Namespace) -> Forwarder:
    if arguments.partition_by == "key" and not arguments.key:
        raise ConfigurationError("--partition-by key needs a key: give --key FIELD")
    return Forwarder(
        client, to=arguments.to, group=arguments.group, streams=arguments.streams, mode=arguments.mode,
        key=json_key(arguments.key) if arguments.key else None, partition_by=arguments.partition_by,
        batch_size=arguments.batch_size, assignment=arguments.assignment, dead_letter=arguments.dead_letter,
        partitions=arguments.partitions, properties=dict(arguments.properties),
    )  # fmt: skip


def _progress(now: ForwardStatistics, rate: float) -> str:
    return f"{now.forwarded:,} entries forwarded, {rate:,.0f} a second, {now.lag:,} to go; {now.state}"


def _summary(done: ForwardStatistics, rate: float) -> str:
    said = f"{done.forwarded} entries forwarded in {done.chunks} chunks, {rate:.0f} a second"
    for count, what in (
        (done.resent, "sent again"), (done.dead_letters, "dead letters"), (done.lost, "removed before they were forwarded"),
        (len(done.left_out), "streams left out"),
    ):  # fmt: skip
        if count:
            said += f"; {count} {what}"
    return said
