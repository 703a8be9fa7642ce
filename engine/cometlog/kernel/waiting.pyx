"""Sleeping until another process appends: the waiting flag and the futex word of the control file.

Invariant (no wake-up is lost): a waiter reads the futex word, sets the waiting flag, fences, looks at the log again, and only then
sleeps on the value it read. A writer commits with a sequentially consistent CAS and then loads the flags; whoever clears the
flag adds one to the futex word before it wakes, so a waiter that was not asleep yet does not fall asleep. The durable position is a
futex of its own: it changes before its waiters are woken, and they sleep on the value that they read.
"""

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from cometlog.kernel.atomics cimport (
    fence_seq_cst, fetch_add_acq_rel_u32, fetch_and_acq_rel, fetch_or_acq_rel, load_acquire_u32,
)
from cometlog.kernel.layout cimport CONTROL_DURABLE_ENTRY, CONTROL_FLAGS, CONTROL_FUTEX, FLAG_WAITING
from cometlog.kernel.mapping cimport Mapping


cdef void wake_waiters(uint8_t *control) noexcept nogil:
    cdef uint64_t waiting = FLAG_WAITING
    if fetch_and_acq_rel(<uint64_t *>(control + CONTROL_FLAGS), ~waiting) & waiting:
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
    ticket = load_acquire_u32(<uint32_t *>(control.base + CONTROL_FUTEX))
    fetch_or_acq_rel(<uint64_t *>(control.base + CONTROL_FLAGS), FLAG_WAITING)
    fence_seq_cst()
    return ticket


def sleep(Mapping control not None, uint32_t ticket, double timeout_s):
    """Sleep until the ticket is out of date or ``timeout_s`` seconds passed. Releases the GIL."""
    sleep_on(control, CONTROL_FUTEX, ticket, timeout_s)


def wake_durable(Mapping control not None):
    """Wake every process that sleeps until the durable position rises; whoever raised it calls this."""
    control.check_range(CONTROL_DURABLE_ENTRY, 8)
    futex_wake_all(<uint32_t *>(control.base + CONTROL_DURABLE_ENTRY))


def sleep_durable(Mapping control not None, uint32_t seen, double timeout_s):
    """Sleep until the low half of the durable position is not ``seen``, or ``timeout_s`` seconds passed. Releases the GIL."""
    sleep_on(control, CONTROL_DURABLE_ENTRY, seen, timeout_s)


cdef int sleep_on(Mapping control, size_t offset, uint32_t seen, double timeout_s) except -1:
    cdef timespec timeout
    cdef uint32_t *word
    control.check_range(offset, 4)
    word = <uint32_t *>(control.base + offset)
    timeout.tv_sec = <long>timeout_s
    timeout.tv_nsec = <long>((timeout_s - timeout.tv_sec) * 1e9)
    control.exports += 1
    with nogil:
        futex_wait(word, seen, &timeout)
    control.exports -= 1
    return 0
