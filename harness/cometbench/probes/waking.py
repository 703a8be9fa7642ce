"""Waking a reader that sleeps in another process: an append to a log, beside a message through multiprocessing.Pipe.

Each message holds the clock reading before it was sent, on a clock that processes share; the reader takes the time once it holds the
message. The log's reader is a consumer blocked in `batches`. A pause before each message lets the reader fall asleep. Log and pipe
take turns, a few messages each, so that what else the machine does falls on both.
"""

from __future__ import annotations

import multiprocessing
import random
from array import array
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import monotonic, monotonic_ns, sleep

import cometlog
from cometbench.benchmark import STREAM
from cometbench.errors import WriterLostError
from cometbench.probe import Outcome, Task
from cometbench.verification import Finding

_PAUSE_S = 0.001
_TURN_MESSAGES = 20
_ANSWER_SECONDS_MAX = 30.0
_READY = b"ready"


def wake(task: Task) -> Outcome:
    """Return the median time from append, or send, to the reader's hands in ns, with all samples as arrays."""
    context = multiprocessing.get_context("fork")
    source = random.Random(task.seed)
    readers: dict[str, Callable[[Path, Connection, Connection], None]] = {
        "log": _read_log,
        "pipe": _read_pipe,
    }
    messages = context.Pipe(duplex=False)
    answer_ends: dict[str, Connection] = {}
    processes = []
    for name, read in readers.items():
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=read, args=(task.directory / "log", messages[0], there), daemon=True)
        process.start()
        there.close()
        answer_ends[name] = here
        processes.append(process)
    messages[0].close()
    with cometlog.open(task.directory / "log") as client:
        writer = client.writer(STREAM)
        send: dict[str, Callable[[bytes], object]] = {"log": writer.append, "pipe": messages[1].send_bytes}
        sent: dict[str, list[int]] = {name: [] for name in readers}
        send["log"](_READY)
        for end in answer_ends.values():
            _receive(end)
        until = monotonic() + task.seconds
        while monotonic() < until or not sent["pipe"]:
            for name in sorted(readers, key=lambda _: source.random()):
                for _ in range(_TURN_MESSAGES):
                    sleep(_PAUSE_S * (1 + source.random()))
                    stamp = monotonic_ns()
                    send[name](b"%d" % stamp)
                    sent[name].append(stamp)
        for name in readers:
            send[name](b"")
        answers = {name: _receive(end) for name, end in answer_ends.items()}
    for process in processes:
        process.join(_ANSWER_SECONDS_MAX)
    return _outcome(sent, answers)


def _outcome(sent: dict[str, list[int]], answers: dict[str, tuple[list[int], list[int]]]) -> Outcome:
    expected = sum(map(len, sent.values()))
    found = sum(len(stamps) for stamps, _ in answers.values())
    delays = {
        name: array("Q", [took - stamp for stamp, took in zip(*answers[name], strict=True)]) for name in sent
    }
    wrong = [name for name in sent if answers[name][0] != sent[name]]
    finding = Finding("ok", expected, found)
    if wrong:
        finding = Finding(
            "failed", expected, found, f"{wrong[0]}: what arrived is not what was sent, in order"
        )
    return Outcome(
        {f"{name}_p50": median(samples) if samples else 0.0 for name, samples in delays.items()},
        finding,
        {f"{name}_messages": float(len(samples)) for name, samples in delays.items()},
        delays,
    )


def _receive(end: Connection) -> tuple[list[int], list[int]]:
    if not end.poll(_ANSWER_SECONDS_MAX):
        raise WriterLostError(f"a reader did not answer within {_ANSWER_SECONDS_MAX:.0f} s")
    answer: tuple[list[int], list[int]] = end.recv()
    return answer


def _read_pipe(path: Path, messages: Connection, answer: Connection) -> None:
    """Be the pipe's reader: answer ready, then the stamps and the times of their arrival, once an empty message ends it."""
    del path
    stamps, took = [], []
    answer.send(([], []))
    while message := messages.recv_bytes():
        took.append(monotonic_ns())
        stamps.append(int(message))
    answer.send((stamps, took))


def _read_log(path: Path, messages: Connection, answer: Connection) -> None:
    """Be the log's reader, likewise; its first entry says that the writer is there."""
    messages.close()
    stamps, took = [], []
    with cometlog.open(path) as client, client.consumer("bench") as consumer:
        deadline = monotonic() + _ANSWER_SECONDS_MAX
        while STREAM not in client.streams() and monotonic() < deadline:
            sleep(_PAUSE_S)
        for batch in consumer.batches(STREAM, wait_s=_ANSWER_SECONDS_MAX):
            payloads = batch.payloads()
            now = monotonic_ns()
            consumer.ack(batch)
            for payload in payloads:
                if payload == _READY:
                    answer.send(([], []))
                elif payload:
                    took.append(now)
                    stamps.append(int(payload))
            if not payloads[-1]:
                break
    answer.send((stamps, took))
