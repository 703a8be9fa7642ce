"""Turns at syncing a shard: which thread does it, who is woken when, and that nobody sleeps on."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cometlog
from cometlog.control import Control
from cometlog.kernel.turns import (
    TURN_AGAIN,
    TURN_CLOSED,
    TURN_COVERED,
    TURN_POISONED,
    TURN_TAKEN,
    ThreadTurns,
)
from support import SHARD, STREAM

FOR_EVER_S = 3600.0
PATIENCE_S = 20.0


class Threads:
    """Threads that wait for their turn without a time limit of their own, so that one that is not woken stays."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.turns = ThreadTurns(control.mapping)
        self.outcomes: dict[int, int] = {}
        self.kept_turn = threading.Event()
        self.kept_turn.set()
        self._threads: dict[int, threading.Thread] = {}

    def start(self, *next_entries: int) -> None:
        """Start a thread for each, and return when all of them sleep."""
        for next_entry in next_entries:
            thread = threading.Thread(target=self._wait, args=(next_entry,), daemon=True)
            self._threads[next_entry] = thread
            thread.start()
            time.sleep(0.001)  # without the interpreter lock, which it may be waiting for
            while not is_asleep(thread):
                time.sleep(0.001)

    def _wait(self, next_entry: int) -> None:
        self.outcomes[next_entry] = self.turns.wait(next_entry, FOR_EVER_S)
        self.kept_turn.wait()
        self.turns.end()

    def join(self) -> dict[int, int]:
        """Return the outcomes; a thread that was not woken has none."""
        for thread in self._threads.values():
            thread.join(PATIENCE_S)
        return self.outcomes


def is_asleep(thread: threading.Thread) -> bool:
    """Return whether the kernel has a thread asleep."""
    return Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.fixture
def threads(root: Path) -> Iterator[Threads]:
    with cometlog.open(root) as client:
        client.append(STREAM, [b"entry"])
        client.sync(STREAM)
        control = Control(root / SHARD / "control", writable=True)
        yield Threads(control)
        control.clear_poison()
        control.close()


def test_end_wakes_whom_it_covered_and_one_more_who_leads(threads: Threads) -> None:
    assert threads.turns.wait(9, FOR_EVER_S) == TURN_TAKEN
    threads.start(5, 6, 9)
    threads.control.raise_durable(6, 1)
    threads.turns.end()
    assert threads.join() == {5: TURN_COVERED, 6: TURN_COVERED, 9: TURN_TAKEN}


@pytest.mark.parametrize("before", [1, 29, 30, 31])
def test_whom_a_sync_covers_need_not_wait_for_the_next(threads: Threads, before: int) -> None:
    """Entry numbers stand for bits of the futex: 32 bits, which begin anew at each multiple of 32."""
    threads.control.raise_durable(before, 1)
    threads.turns = ThreadTurns(threads.control.mapping)
    assert threads.turns.wait(before + 4, FOR_EVER_S) == TURN_TAKEN
    threads.start(before + 4, before + 1, before + 2, before + 3)
    threads.kept_turn.clear()
    threads.control.raise_durable(before + 3, 1)
    threads.turns.end()
    give_up = time.monotonic() + PATIENCE_S
    while len(threads.outcomes) < 4 and time.monotonic() < give_up:
        time.sleep(0.001)
    covered = dict.fromkeys(range(before + 1, before + 4), TURN_COVERED)
    assert threads.outcomes == covered | {before + 4: TURN_TAKEN}
    threads.kept_turn.set()
    threads.join()


def test_numbers_that_share_a_bit_are_both_woken_and_one_sleeps_on(threads: Threads) -> None:
    assert threads.turns.wait(5, FOR_EVER_S) == TURN_TAKEN
    threads.start(5 + 32, 5, 5 + 64)
    threads.control.raise_durable(5, 1)
    threads.turns.end()
    assert threads.join() == {5: TURN_COVERED, 5 + 32: TURN_TAKEN, 5 + 64: TURN_TAKEN}


def test_each_that_finds_a_failed_sync_wakes_the_next(threads: Threads) -> None:
    assert threads.turns.wait(9, FOR_EVER_S) == TURN_TAKEN
    threads.start(5, 6, 9)
    threads.control.poison()
    threads.turns.end()
    assert threads.join() == dict.fromkeys((5, 6, 9), TURN_POISONED)
    assert threads.turns.wait(5, FOR_EVER_S) == TURN_POISONED


def test_close_wakes_everybody_and_lets_nobody_wait(threads: Threads) -> None:
    assert threads.turns.wait(9, FOR_EVER_S) == TURN_TAKEN
    threads.start(5, 6, 9)
    threads.turns.close()
    assert threads.join() == dict.fromkeys((5, 6, 9), TURN_CLOSED)
    assert threads.turns.wait(9, FOR_EVER_S) == TURN_CLOSED


def test_a_turn_is_its_threads_alone_and_the_thread_may_take_it_again(threads: Threads) -> None:
    assert threads.turns.wait(9, FOR_EVER_S) == TURN_TAKEN
    assert threads.turns.wait(9, FOR_EVER_S) == TURN_TAKEN
    stranger = threading.Thread(target=threads.turns.end)
    stranger.start()
    stranger.join()
    threads.start(5)
    assert threads.outcomes == {}
    threads.turns.end()
    assert threads.join() == {5: TURN_TAKEN}


def test_a_signal_and_the_end_of_the_time_end_a_wait(threads: Threads) -> None:
    taker = threading.Thread(target=threads.turns.wait, args=(9, FOR_EVER_S))
    taker.start()
    taker.join()
    assert threads.turns.wait(5, 0.001) == TURN_AGAIN
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        assert threads.turns.wait(5, FOR_EVER_S) == TURN_AGAIN
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_threads_of_a_client_share_syncs(root: Path) -> None:
    """Each sync that returned covers what its thread had appended, and there are fewer syncs than appends."""
    thread_count, appends = 8, 50
    uncovered: list[int] = []
    with cometlog.open(root) as client:
        writer = client.writer(STREAM)

        def append_and_sync() -> None:
            for _ in range(appends):
                number = writer.append(b"entry")
                client.sync(STREAM)
                if client.stats()[STREAM].durable_entry <= number:
                    uncovered.append(number)

        threads = [threading.Thread(target=append_and_sync) for _ in range(thread_count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        syncs = client.stats()[STREAM].syncs
    assert uncovered == []
    assert 0 < syncs < thread_count * appends
