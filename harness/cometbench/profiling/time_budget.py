"""The five classes of a thread's wall time, from accounts that the kernel keeps while nobody looks.

user and kernel come from rusage, on-CPU time from the thread's clock, run-queue time from schedstat, and what is left of the wall
time was blocked. rusage divides time on the CPU by ticks (250 a second on many kernels), so a share of T seconds is uncertain by
about 1 / sqrt(250 T).
Standard library only.
"""

from __future__ import annotations

import os
import resource
import time
from typing import NamedTuple

from cometbench.errors import CannotMeasureError

CLASSES = ("user", "syscalls", "faults", "blocked", "run_queue")
_SCHEDSTAT = "/proc/thread-self/schedstat"


class Accounts(NamedTuple):
    """Readings of one thread, or the difference of two; `others_*` are the process's other threads. Times in ns."""

    wall_ns: int = 0
    user_ns: int = 0
    kernel_ns: int = 0
    on_cpu_ns: int = 0
    run_queue_ns: int = 0
    faults: int = 0
    voluntary_switches: int = 0
    others_user_ns: int = 0
    others_kernel_ns: int = 0
    others_faults: int = 0

    def since(self, before: Accounts) -> Accounts:
        """Return what was spent from `before` to these readings."""
        return Accounts(*(now - then for now, then in zip(self, before, strict=True)))

    def plus(self, other: Accounts) -> Accounts:
        """Return the sum of two differences."""
        return Accounts(*(one + two for one, two in zip(self, other, strict=True)))


class AccountReader:
    """Reads the calling thread's accounts; belongs to the thread that made it. Raises CannotMeasureError without schedstat."""

    def __init__(self) -> None:
        try:
            self._schedstat = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CannotMeasureError(
                f"{_SCHEDSTAT} cannot be read ({error.strerror}): the kernel keeps no run-queue times"
            ) from error

    def read(self) -> Accounts:
        """Return the readings of this moment.

        The kernel brings a running thread's time up to date at ticks and when it is asked for the process's or the thread's clock, not
        for schedstat and RUSAGE_THREAD: the clock is read first, or these would lag by up to a tick.
        """
        on_cpu_ns = time.thread_time_ns()
        whole, own = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_THREAD)
        run_queue_ns = int(os.pread(self._schedstat, 100, 0).split()[1])
        user_ns, kernel_ns = _ns(own.ru_utime), _ns(own.ru_stime)
        return Accounts(
            wall_ns=time.perf_counter_ns(),
            user_ns=user_ns,
            kernel_ns=kernel_ns,
            on_cpu_ns=on_cpu_ns,
            run_queue_ns=run_queue_ns,
            faults=own.ru_minflt + own.ru_majflt,
            voluntary_switches=own.ru_nvcsw,
            others_user_ns=_ns(whole.ru_utime) - user_ns,
            others_kernel_ns=_ns(whole.ru_stime) - kernel_ns,
            others_faults=whole.ru_minflt + whole.ru_majflt - own.ru_minflt - own.ru_majflt,
        )

    def close(self) -> None:
        """Release the descriptor."""
        os.close(self._schedstat)


class TimeBudget(NamedTuple):
    """Wall time of one thread in its five classes, ns; they sum to the wall time."""

    user: float
    syscalls: float
    faults: float
    blocked: float
    run_queue: float

    @property
    def wall(self) -> float:
        """The sum of the classes."""
        return sum(self)

    def percent(self, name: str) -> float:
        """Share of a class in the wall time."""
        return 100.0 * float(getattr(self, name)) / self.wall

    @property
    def in_syscalls(self) -> float:
        """Share of the time inside system calls, running or blocked there, in the wall time without waiting for a CPU, percent.

        A thread that blocks has entered a system call, so this is what a profiler of stacks sees as system calls.
        """
        return 100.0 * (self.syscalls + self.blocked) / (self.wall - self.run_queue)


def time_budget(spent: Accounts, fault_share: float) -> TimeBudget:
    """Divide `spent` into the classes; `fault_share` (0 to 1) of its kernel time was spent in page faults.

    Raises ValueError where no wall time was spent.
    """
    if spent.wall_ns <= 0:
        raise ValueError(f"a budget needs wall time, got {spent.wall_ns} ns")
    on_cpu = min(float(spent.on_cpu_ns), float(spent.wall_ns))
    run_queue = min(float(spent.run_queue_ns), spent.wall_ns - on_cpu)
    accounted = max(spent.user_ns, 0) + max(spent.kernel_ns, 0)
    kernel = on_cpu * max(spent.kernel_ns, 0) / accounted if accounted else 0.0
    faults = kernel * min(max(fault_share, 0.0), 1.0)
    return TimeBudget(
        user=on_cpu - kernel,
        syscalls=kernel - faults,
        faults=faults,
        blocked=spent.wall_ns - on_cpu - run_queue,
        run_queue=run_queue,
    )


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
