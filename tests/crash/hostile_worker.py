"""A process that opens what somebody hostile put together, with a limit on its memory, and says what each call came to."""

import json
import resource
import sys
from collections.abc import Callable
from typing import Any

import cometlog
from cometlog.errors import CometlogError, CorruptionError
from support import KIB, STREAM, make_config
from workers import hear, say


def limit(memory_bytes: int) -> None:
    """Limit private memory: what is mapped from files is no memory of this process."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returned, or the name of the typed error; anything else ends this process."""
    try:
        return call()
    except CorruptionError as error:
        return type(error).__name__ if error.stream == STREAM else f"no stream in {error}"
    except CometlogError as error:
        return type(error).__name__


def ask(client: cometlog.Client) -> dict[str, Any]:
    def singles() -> list[str]:
        return [client.read(STREAM, number, 1)[0].data.hex() for number in numbers()]

    def numbers() -> list[int]:
        return [entry.number for entry in client.scan(STREAM)]

    return {
        "scan": outcome(lambda: [entry.data.hex() for entry in client.scan(STREAM)]),
        "entry_count": outcome(lambda: client.entry_count(STREAM)),
        "singles": outcome(singles),
        "recent": outcome(lambda: len(client.recent(STREAM, 5))),
        "first_entry": outcome(lambda: client.first_entry(STREAM)),
        "next_entry": outcome(lambda: client.next_entry(STREAM)),
        "verify": outcome(lambda: client._reader(STREAM).verify().entries),
    }


def read(root: str) -> None:
    try:
        with cometlog.open(root, read_only=True) as client:
            answers = ask(client)
    except CometlogError as error:
        answers = {"scan": type(error).__name__}
    say(answers)


def read_in_parts(root: str) -> None:
    """Read without cutting payloads first, then as views."""
    with cometlog.open(root, read_only=True) as client:
        say({"views": outcome(lambda: len(client.read(STREAM, 0, 100).memoryviews()))})


def sizes(root: str) -> None:
    with cometlog.open(root, read_only=True) as client:
        lengths = [len(entry.data) for entry in client.scan(STREAM)]
        verified = client._reader(STREAM).verify().entries
    say({"scan": sum(lengths), "entries": len(lengths), "verify": verified})


def attach(root: str) -> None:
    """Attach, append, read all."""
    answers: dict[str, Any] = {"scan": None}
    try:
        with cometlog.open(root, make_config(64 * KIB)) as client:
            answers["append"] = outcome(lambda: len(client.append(STREAM, [b"appended"])))
            answers |= ask(client)
    except CometlogError as error:
        answers |= {"append": type(error).__name__} if answers.get("append") is None else {}
        answers["close"] = type(error).__name__
        if answers["scan"] is None:
            answers["scan"] = type(error).__name__
    except OSError as error:
        refused = f"OSError {error.filename}" if error.filename else f"no file in {error}"
        answers = {"scan": refused, "append": refused}
    say(answers)


def attach_and_fill(root: str) -> None:
    """Append more than one segment takes."""
    try:
        with cometlog.open(root, make_config(64 * KIB)) as client:
            appended = outcome(lambda: [len(client.append(STREAM, [bytes(20_000)])) for _ in range(5)])
            answers = {
                "append": appended,
                "scan": outcome(lambda: [e.data.hex() for e in client.scan(STREAM)]),
            }
    except CometlogError as error:
        answers = {"append": type(error).__name__, "scan": type(error).__name__}
    say(answers)


def serve(memory_bytes: int) -> None:
    """Do what each line says, [name, root], until the pipe ends. A process that ends otherwise convicts what it was told last."""
    limit(memory_bytes)
    while True:
        mode, root = hear()
        {
            "read": read,
            "read_in_parts": read_in_parts,
            "sizes": sizes,
            "attach": attach,
            "attach_and_fill": attach_and_fill,
        }[mode](root)


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
