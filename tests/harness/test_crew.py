"""A crew of processes: each builds its own worker, all begin together, and one that fails is named."""

from __future__ import annotations

import os
from functools import partial

import pytest

from cometbench.crew import Crew
from cometbench.errors import CannotMeasureError, WriterLostError


class Worker:
    def __init__(self, number: int, dies: bool = False) -> None:
        if dies:
            raise ValueError(f"number {number} cannot be built")
        self.number = number

    def add(self, amount: int) -> tuple[int, int]:
        self.number += amount
        return os.getpid(), self.number

    def refuse(self) -> None:
        raise CannotMeasureError("needs two CPUs")

    def end(self) -> None:
        os._exit(4)

    def close(self) -> int:
        return self.number


def test_every_process_keeps_a_worker_of_its_own() -> None:
    crew = Crew([partial(Worker, number) for number in range(3)])
    answers = crew.call("add", 10)
    assert [number for _, number in answers] == [10, 11, 12]
    assert [pid for pid, _ in answers] == crew.pids
    assert len({os.getpid(), *crew.pids}) == 4
    assert [number for _, number in crew.call_each([("add", (1,)), ("add", (2,)), ("add", (3,))])] == [
        11,
        13,
        15,
    ]
    assert crew.finish() == [11, 13, 15]


def test_a_process_that_raises_is_named_with_what_it_raised() -> None:
    with pytest.raises(WriterLostError, match=r"writer process 1: ValueError: number 1 cannot be built"):
        Crew([partial(Worker, 0), partial(Worker, 1, dies=True)])


def test_a_process_that_ends_is_named() -> None:
    crew = Crew([partial(Worker, 0), partial(Worker, 1)])
    with pytest.raises(WriterLostError, match="writer process 1 ended without an answer"):
        crew.call_each([("add", (1,)), ("end", ())])


def test_what_one_process_cannot_measure_here_is_no_loss():
    crew = Crew([partial(Worker, 0), partial(Worker, 1)])
    with pytest.raises(CannotMeasureError, match="needs two CPUs"):
        crew.call_each([("add", (1,)), ("refuse", ())])
