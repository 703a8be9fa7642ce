"""Sleeping until another process appends: the waiting flag and the futex word of the control file.

Invariant (no wake-up is lost): a waiter reads the futex word, sets the waiting flag, fences, looks at the log again, and only then
sleeps on the value it read. A writer commits with a sequentially consistent CAS and then loads the flags; whoever clears the
flag adds one to the futex word before it wakes, so a waiter that was not asleep yet does not fall asleep. Waiting for a sync is
in ``turns``.
"""

cimport cython
from libc.errno cimport ENOSYS, errno
from libc.stdint cimport uint32_t, uint64_t, uint8_t

import time

from cometlog.kernel.atomics cimport (
    fence_seq_cst, fetch_add_acq_rel_u32, fetch_and_acq_rel, fetch_or_acq_rel, load_acquire, load_acquire_u32,
    spin_pause,
)
from cometlog.kernel.layout cimport CONTROL_FLAGS, CONTROL_FUTEX, FLAG_WAITING, SEGMENT_BACKED
from cometlog.kernel.mapping cimport Mapping

cdef extern from "clock.h" nogil:
    uint64_t monotonic_clock_ns()


cdef void wake_waiters(uint8_t *control) noexcept nogil:
    cdef uint64_t waiting = FLAG_WAITING
    # acq_rel on the word that `announce` changes: whichever comes second sees the first, and what was committed before it.
    if fetch_and_acq_rel(<uint64_t *>(control + CONTROL_FLAGS), ~waiting) & waiting:
        # Before the wake. Who dies between the two leaves the waiters to their time limit.
        fetch_add_acq_rel_u32(<uint32_t *>(control + CONTROL_FUTEX), 1)
        futex_wake_all(<uint32_t *>(control + CONTROL_FUTEX))


def wake(Mapping control not None):
    """Wake every process that waits on this control file, if the waiting flag is set."""
    control.check_range(CONTROL_FUTEX, 4)
    wake_waiters(control.base)


def announce(Mapping control not None):
    """Set the waiting flag and return the ticket to sleep on. The caller looks at the log once more before it sleeps."""
    cdef uint32_t ticket
    control.check_writable()
    control.check_range(CONTROL_FUTEX, 4)
    # acquire: read before the flag is set, so a wake that answers this flag makes the ticket old.
    ticket = load_acquire_u32(<uint32_t *>(control.base + CONTROL_FUTEX))
    fetch_or_acq_rel(<uint64_t *>(control.base + CONTROL_FLAGS), FLAG_WAITING)
    # The caller's look at the log comes after the flag; with the writer's seq_cst commit and load, one of the two sees the other.
    fence_seq_cst()
    return ticket


@cython.final
cdef class Bell:
    """What wakes the sleepers of this process without an append: a word of its own. Any thread may ring it."""

    def ticket(self):
        """Return what ``sleep_any`` takes; a ring after this call wakes it."""
        return load_acquire_u32(&self.strokes)

    def ring(self):
        """Wake every sleeper of this bell."""
        fetch_add_acq_rel_u32(&self.strokes, 1)
        futex_wake_all(&self.strokes)


def sleep_any(list controls not None, list tickets not None, Bell bell not None, uint32_t ticket, double timeout_s):
    """Sleep until one of the control files' tickets or the bell's is out of date, or ``timeout_s`` seconds passed.

    Releases the GIL; a signal ends the sleep. Returns False where this kernel cannot wait for several words, or there are more than
    127: then nothing was slept.
    """
    cdef futex_waiter waiters[WAITERS_MAX]
    cdef timespec deadline
    cdef double until
    cdef unsigned count = <unsigned>len(controls) + 1
    cdef unsigned position
    cdef Mapping control
    cdef int error = 0
    if count > <unsigned>WAITERS_MAX:
        return False
    for position in range(count - 1):
        control = controls[position]
        control.check_range(CONTROL_FUTEX, 4)
        set_waiter(&waiters[position], <uint32_t *>(control.base + CONTROL_FUTEX), tickets[position])
    set_waiter(&waiters[count - 1], &bell.strokes, ticket)
    until = time.monotonic() + timeout_s
    deadline.tv_sec = <long>until
    deadline.tv_nsec = <long>((until - deadline.tv_sec) * 1e9)
    pin_all(controls)
    with nogil:
        if futex_wait_any(waiters, count, &deadline) < 0:
            error = errno
    unpin_all(controls)
    return error != ENOSYS


cdef void pin_all(list controls):
    """Keep mappings in place while the GIL is released."""
    cdef Mapping control
    for control in controls:
        control.exports += 1


cdef void unpin_all(list controls):
    cdef Mapping control
    for control in controls:
        control.unpin()


def wait_until_backed(Mapping segment not None, uint64_t units, uint64_t timeout_ns):
    """Spin, without the GIL and without a system call, until a segment backs ``units`` or the time is up.

    The time counts from the last growth seen, so a slow disk that makes progress is waited for. True if backed.
    """
    cdef uint64_t *backed = segment.word_at(SEGMENT_BACKED)
    cdef uint64_t deadline = monotonic_clock_ns() + timeout_ns
    cdef uint64_t seen = load_acquire(backed)
    cdef uint64_t now
    cdef int _turn
    segment.exports += 1
    with nogil:
        while seen < units:
            for _turn in range(64):
                spin_pause()
            now = load_acquire(backed)
            if now != seen:
                deadline = monotonic_clock_ns() + timeout_ns
                seen = now
            elif monotonic_clock_ns() > deadline:
                break
    segment.unpin()
    return seen >= units
