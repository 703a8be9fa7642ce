"""Append the records of a Kafka topic or of a JetStream stream to a stream, from the first on, and then each new one as it comes.

URL is kafka://host:port/TOPIC or nats://host:port/STREAM. Records that cometlog forward sent are appended in the order of the stream
that they are of, and once each, however often they were sent. The import goes on where it stood, also when it was killed: its position
is kept beside the stream, under the name of --group. Ctrl-C and SIGTERM finish the batch that is under way.
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
from cometlog.forward import Importer, ImportStatistics
from cometlog.forward.source import check_source

EXAMPLES = """\
  cometlog import /var/log/replay events:v1:shard:0000 --from kafka://broker:9092/events.v1 --until-end --create
  cometlog import /var/log/replay events:v1:shard:0003 --from nats://server:4222/edge --only events:v1:shard:0003
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    parser.add_argument("stream", metavar="STREAM", help="the stream to append to")
    parser.add_argument("--from", required=True, metavar="URL", dest="source", help="where records come from")
    parser.add_argument(
        "--group", default="import", metavar="NAME", help="name of the import's position (default: import)"
    )
    parser.add_argument(
        "--only", metavar="PATTERN", help="only records that were forwarded from streams that match, quoted"
    )
    parser.add_argument(
        "--until-end", action="store_true", help="end once everything is read that was there at the beginning"
    )
    parser.add_argument(
        "--batch-size", type=whole_number("a batch", 1), default=1000, metavar="N",
        help="append at most N entries together (default: 1000)",
    )  # fmt: skip
    add_properties(parser)
    parser.add_argument("--create", action="store_true", help="create the log where there is none")
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print what was done as a JSON object at the end")


def run(arguments: argparse.Namespace) -> int:
    """Import and return the exit code."""
    if not arguments.create:
        cometlog.open(arguments.path, read_only=True).close()
        check_owner(arguments.path)
    elif not arguments.path.exists():
        # Wrong use leaves nothing behind, not an empty log either.
        check_source(arguments.source, dict(arguments.properties))
    with (
        cometlog.open(arguments.path, load_config(arguments)) as client,
        Importer(
            client, arguments.stream, source=arguments.source, group=arguments.group, batch_size=arguments.batch_size,
            until_end=arguments.until_end, only=arguments.only, properties=dict(arguments.properties),
        ) as importer,
    ):  # fmt: skip
        rate_line = RateLine(
            "cometlog import", importer.stats, lambda done: done.records, _progress, _summary
        )
        with stopping("cometlog import", importer.stop) as came, rate_line:
            importer.run()
        done = importer.stats()
    if arguments.json:
        about = {
            "path": str(arguments.path),
            "stream": importer.stream,
            "from": arguments.source,
            "group": arguments.group,
        }
        print(json.dumps(about | asdict(done)))
    return EXIT_INTERRUPTED if signal.SIGINT in came else EXIT_SOUND


def _progress(now: ImportStatistics, rate: float) -> str:
    return (
        f"{now.records:,} records read, {rate:,.0f} a second, {now.appended:,} entries appended; {now.state}"
    )


def _summary(done: ImportStatistics, rate: float) -> str:
    said = f"{done.records} records read, {rate:.0f} a second; {done.appended} entries appended"
    for count, what in (
        (done.duplicates, "sent twice"), (done.unwanted, "not wanted"), (done.lost, "removed before they were imported")
    ):  # fmt: skip
        if count:
            said += f"; {count} {what}"
    return said
