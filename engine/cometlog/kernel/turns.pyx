"""Waiting for a sync, or for a lock whose holder may have stopped: among processes, and among the threads of a client.

Thread safety: any thread, any process. Sleepers release the GIL, and take it again only when there is something to do.

Invariants: a waiter reads the count of turns, then finds the lock or the turn taken, and sleeps on that count; whoever ends a turn
lets go first, then raises the count, then wakes, so nobody falls asleep after that. Each end wakes one that may be next, and all that
waited for what became durable in that turn. A process that died in between leaves the others to their time limit.
"""

cimport cython
from libc.errno cimport EINTR, errno
from libc.limits cimport INT_MAX
from libc.stdint cimport uint32_t, uint64_t

from threading import get_ident

from cometlog.kernel.atomics cimport (
    compare_and_swap_acq_rel, fetch_add_acq_rel_u32, load_acquire, load_acquire_u32, store_release,
)
from cometlog.kernel.layout cimport CONTROL_DURABLE_ENTRY, CONTROL_FLAGS, CONTROL_TURNS, FLAG_POISONED
from cometlog.kernel.mapping cimport Mapping
from cometlog.kernel.waiting cimport futex_wait_bits, futex_wake_all, futex_wake_bits, timespec

cdef extern from "clock.h" nogil:
    uint64_t monotonic_clock_ns()

cdef enum:
    BITS = 32
    EVERY_BIT = 0xFFFFFFFF

cdef uint64_t SECOND_NS = 1000000000


cpdef enum:
    TURN_TAKEN = 0
    TURN_COVERED = 1
    TURN_POISONED = 2
    TURN_CLOSED = 3
    TURN_AGAIN = 4


cdef uint32_t bits_between(uint64_t before, uint64_t after) noexcept nogil:
    """A bit for each entry number in before < number <= after; numbers share one with those 32 away."""
    cdef uint64_t bits
    if after <= before:
        return 0
    if after - before >= <uint64_t>BITS:
        return EVERY_BIT
    bits = ((<uint64_t>1 << (after - before)) - 1) << ((before + 1) % BITS)
    return <uint32_t>(bits | bits >> BITS)


cdef void end(uint32_t *count, uint32_t bits) noexcept nogil:
    # Before the wake, after letting go: who saw the count before does not fall asleep.
    fetch_add_acq_rel_u32(count, 1)
    # Who may be next first: while it is at its sync, the others go on.
    if bits != EVERY_BIT:
        futex_wake_bits(count, 1, bits ^ EVERY_BIT)
    if bits:
        futex_wake_bits(count, INT_MAX, bits)


cdef bint sleep(uint32_t *count, uint32_t seen, uint32_t bits, uint64_t until_ns) noexcept nogil:
    """Sleep until woken, or the monotonic clock says ``until_ns``; False where a signal ended it."""
    cdef timespec deadline
    deadline.tv_sec = <long>(until_ns // SECOND_NS)
    deadline.tv_nsec = <long>(until_ns % SECOND_NS)
    return futex_wait_bits(count, seen, bits, &deadline) == 0 or errno != EINTR


def end_turn(Mapping control not None, uint64_t durable_before):
    """Say that a lock byte of the shard was let go of, held since the durable position was ``durable_before``."""
    cdef uint64_t durable
    control.check_writable()
    control.check_range(0, CONTROL_TURNS + 4)
    durable = load_acquire(<uint64_t *>(control.base + CONTROL_DURABLE_ENTRY))
    end(<uint32_t *>(control.base + CONTROL_TURNS), bits_between(durable_before, durable))


def sleep_until_turn(Mapping control not None, uint32_t seen, uint64_t next_entry, double timeout_s):
    """Sleep until a lock byte is let go of after the turn ``seen``, or ``timeout_s`` seconds passed.

    Who waits until everything before ``next_entry`` is durable is woken when it is, or when next; with 0 only when next.
    """
    cdef uint64_t until = monotonic_clock_ns() + <uint64_t>(timeout_s * 1e9)
    cdef uint32_t bits = bits_between(next_entry - 1, next_entry) if next_entry else EVERY_BIT
    control.check_range(0, CONTROL_TURNS + 4)
    control.exports += 1
    with nogil:
        sleep(<uint32_t *>(control.base + CONTROL_TURNS), seen, bits, until)
    control.unpin()


@cython.final
cdef class ThreadTurns:
    """Which thread of a client syncs a shard; the others sleep until that covers them. Whoever leads says so by its identity."""

    cdef Mapping control
    cdef uint64_t leader
    cdef uint64_t closed
    cdef uint64_t told
    cdef uint32_t count

    def __init__(self, Mapping control not None):
        control.check_range(0, CONTROL_TURNS + 4)
        self.control = control
        self.told = load_acquire(<uint64_t *>(control.base + CONTROL_DURABLE_ENTRY))

    def wait(self, uint64_t next_entry, double timeout_s):
        """Wait for the turn, unless everything before ``next_entry`` is durable first (TURN_COVERED).

        TURN_TAKEN: it is this thread's until ``end``. TURN_POISONED: a sync failed. TURN_CLOSED: this was. TURN_AGAIN: a signal
        came, or the time is up.
        """
        cdef uint64_t identity = get_ident()
        cdef uint64_t until = monotonic_clock_ns() + <uint64_t>(timeout_s * 1e9)
        cdef int outcome
        if load_acquire(&self.closed):
            return TURN_CLOSED
        self.control.check_range(0, CONTROL_TURNS + 4)
        self.control.exports += 1
        with nogil:
            outcome = self.wait_here(next_entry, identity, until)
        self.control.unpin()
        return outcome

    cdef int wait_here(self, uint64_t next_entry, uint64_t identity, uint64_t until_ns) noexcept nogil:
        cdef uint32_t bits = bits_between(next_entry - 1, next_entry)
        cdef uint32_t seen
        cdef bint slept = False
        cdef int outcome
        while True:
            seen = load_acquire_u32(&self.count)
            outcome = self.look(next_entry)
            if outcome != TURN_TAKEN:
                if slept and load_acquire(&self.leader) == 0:
                    end(&self.count, 0)  # it may have been woken to lead
                return outcome
            # acq_rel: what the thread before did in its turn is seen in this one.
            if compare_and_swap_acq_rel(&self.leader, 0, identity) or load_acquire(&self.leader) == identity:
                return TURN_TAKEN
            if not sleep(&self.count, seen, bits, until_ns) or monotonic_clock_ns() >= until_ns:
                return TURN_AGAIN
            slept = True

    cdef int look(self, uint64_t next_entry) noexcept nogil:
        """Return what makes waiting needless, or TURN_TAKEN where nothing does."""
        if load_acquire(<uint64_t *>(self.control.base + CONTROL_FLAGS)) & FLAG_POISONED:
            return TURN_POISONED
        if load_acquire(<uint64_t *>(self.control.base + CONTROL_DURABLE_ENTRY)) >= next_entry:
            return TURN_COVERED
        return TURN_CLOSED if load_acquire(&self.closed) else TURN_TAKEN

    def end(self):
        """End the turn if it is this thread's: wake whom it covered, and who is next."""
        cdef uint64_t identity = get_ident()
        cdef uint64_t before = self.told
        if load_acquire(&self.leader) != identity:
            return
        if self.control.base != NULL:
            self.told = load_acquire(<uint64_t *>(self.control.base + CONTROL_DURABLE_ENTRY))
        store_release(&self.leader, 0)
        end(&self.count, bits_between(before, self.told))

    def close(self):
        """Let nobody wait any more: whoever does, or will, finds this closed."""
        store_release(&self.closed, 1)
        fetch_add_acq_rel_u32(&self.count, 1)
        futex_wake_all(&self.count)
