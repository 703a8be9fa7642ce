"""Train a zstd dictionary on the last entries of a stream, store it with the shard, and print its id.

Small entries that resemble each other compress far better with one. Writers take the newest up with their next segment, where
compression.use_dictionary allows it; frames name the dictionary they need, and older ones stay.
"""

import argparse
import json

import cometlog
from cometlog.cli import EXIT_SOUND
from cometlog.cli.arguments import (
    add_config,
    add_json,
    add_path,
    check_owner,
    existing_stream,
    load_config,
    size_bytes,
    whole_number,
)
from cometlog.dictionaries import DICTIONARY_BYTES_MAX
from cometlog.errors import CometlogError

EXAMPLES = """\
  cometlog train-dictionary /var/log/app events:v1:shard:0000
  cometlog train-dictionary /var/log/app events:v1:shard:0000 --samples 50000 --size 112K --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_path(parser)
    parser.add_argument("stream", metavar="STREAM", help="the stream to learn from")
    parser.add_argument(
        "--samples",
        type=whole_number("a count", 1),
        default=10_000,
        metavar="N",
        help="learn from the last N entries (default: 10000)",
    )
    parser.add_argument(
        "--size",
        type=size_bytes,
        default=64 << 10,
        metavar="SIZE",
        help="size of the dictionary (default: 64K)",
    )
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train and return the exit code."""
    if arguments.size > DICTIONARY_BYTES_MAX:
        raise CometlogError(f"--size is at most {DICTIONARY_BYTES_MAX} bytes, got {arguments.size}")
    cometlog.open(arguments.path, read_only=True).close()
    check_owner(arguments.path)
    with cometlog.open(arguments.path, load_config(arguments)) as client:
        stream = existing_stream(client, arguments.stream)
        dictionary_id = client.train_dictionary(stream, samples=arguments.samples, size_bytes=arguments.size)
    if arguments.json:
        print(json.dumps({"stream": stream, "dictionary_id": dictionary_id}))
    else:
        print(f"dictionary {dictionary_id} of {stream}; writers use it from their next segment on")
    return EXIT_SOUND
