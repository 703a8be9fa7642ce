"""Sleeping until another process appends: the waiting flag and the futex word of the control file."""

from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef extern from *:
    """
    #include <linux/futex.h>
    #include <stddef.h>
    #include <stdint.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>

    static inline void futex_wake_all(uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0); }
    /* Wake at most so many of those that sleep for one of `bits`; futex_wake_all wakes whoever sleeps. */
    static inline void futex_wake_bits(uint32_t *word, int count, uint32_t bits)
    {
        syscall(SYS_futex, word, FUTEX_WAKE_BITSET, count, NULL, NULL, bits);
    }
    static inline long futex_wait_bits(uint32_t *word, uint32_t seen, uint32_t bits, const struct timespec *deadline)
    {
        return syscall(SYS_futex, word, FUTEX_WAIT_BITSET, seen, deadline, NULL, bits);
    }

    /* The system call futex_waitv (Linux 5.16), which C libraries and old headers do not know. */
    #define FUTEX_WAITV_CALL 449
    #define FUTEX_WAITV_U32 2
    #define WAITERS_MAX 128
    typedef struct { uint64_t seen; uint64_t address; uint32_t flags; uint32_t reserved; } futex_waiter;

    static inline void set_waiter(futex_waiter *waiter, uint32_t *word, uint32_t seen)
    {
        *waiter = (futex_waiter){seen, (uint64_t)(uintptr_t)word, FUTEX_WAITV_U32, 0};
    }

    /* Sleeps until a word differs or is woken, or until the deadline of CLOCK_MONOTONIC; -1 with errno ENOSYS on an old kernel. */
    static inline long futex_wait_any(futex_waiter *waiters, unsigned count, const struct timespec *deadline)
    {
        return syscall(FUTEX_WAITV_CALL, waiters, count, 0, deadline, CLOCK_MONOTONIC);
    }
    """
    ctypedef struct futex_waiter:
        pass
    void set_waiter(futex_waiter *waiter, uint32_t *word, uint32_t seen) nogil
    long futex_wait_any(futex_waiter *waiters, unsigned count, const timespec *deadline) nogil
    enum: WAITERS_MAX
    struct timespec:
        long tv_sec
        long tv_nsec
    void futex_wake_all(uint32_t *word) nogil
    void futex_wake_bits(uint32_t *word, int count, uint32_t bits) nogil
    long futex_wait_bits(uint32_t *word, uint32_t seen, uint32_t bits, const timespec *deadline) nogil


cdef void wake_waiters(uint8_t *control) noexcept nogil


cdef class Bell:
    cdef uint32_t strokes
