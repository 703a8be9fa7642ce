"""The guide's first question, whether CPU, storage or other writers are what it waits for, answered from the profile alone.

The rule. Time in which the thread was ready and other threads held the CPUs says who else is there, not what the work is bound by, and
is left out. Of the rest:
- CPU: on the CPU, in user code, page faults or system calls;
- I/O: blocked in a system call that waits for the disk;
- contention: blocked until another writer lets go of a lock or wakes it.
Where a tenth or more is blocked, kernel time in system calls is divided like the blocked time: starting and ending what is waited for
is part of its price. The largest share is the name if it is at least 40 % and 5 points ahead; otherwise the profile does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cometbench.profiling.blocked_on import OTHERS, RUNNING, STORAGE, UNSEEN
from cometbench.profiling.time_budget import TimeBudget

CPU, IO, CONTENTION, UNDECIDED = "CPU", "I/O", "contention", "undecided"
PERCENT_MIN, LEAD_MIN, BLOCKED_MIN = 40.0, 5.0, 10.0


class Bottleneck(NamedTuple):
    """The name, and the sentence with the shares it rests on."""

    name: str
    evidence: str


def name_bottleneck(budget: TimeBudget, waits: Mapping[str, int]) -> Bottleneck:
    """Name what limits a thread with this budget; `waits` counts what it was seen blocked on (see `blocked_on`)."""
    base = budget.wall - budget.run_queue
    if base <= 0:
        return Bottleneck(UNDECIDED, "it never got a CPU")
    blocked_percent = 100 * budget.blocked / base
    seen = sum(count for kind, count in waits.items() if kind not in {RUNNING, UNSEEN})
    if blocked_percent >= PERCENT_MIN and not seen:
        return Bottleneck(
            UNDECIDED, f"blocked {blocked_percent:.0f} % of the time, and what it waited for cannot be seen"
        )
    waiting = 0.0
    if blocked_percent >= BLOCKED_MIN:
        waiting = 100 * (budget.blocked + budget.syscalls) / base
    shares = {
        CPU: 100 - waiting,
        IO: waiting * waits.get(STORAGE, 0) / seen if seen else 0.0,
        CONTENTION: waiting * waits.get(OTHERS, 0) / seen if seen else 0.0,
    }
    first, second = sorted(shares, key=lambda name: -shares[name])[:2]
    evidence = ", ".join(f"{name} {share:.0f} %" for name, share in shares.items())
    evidence += f"; {budget.percent('run_queue'):.0f} % of the wall time in the run queue"
    decided = shares[first] >= PERCENT_MIN and shares[first] - shares[second] >= LEAD_MIN
    return Bottleneck(first if decided else UNDECIDED, evidence)
