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
    static inline long futex_wait(uint32_t *word, uint32_t seen, const struct timespec *timeout)
    {
        return syscall(SYS_futex, word, FUTEX_WAIT, seen, timeout, NULL, 0);
    }
    """
    struct timespec:
        long tv_sec
        long tv_nsec
    void futex_wake_all(uint32_t *word) nogil
    long futex_wait(uint32_t *word, uint32_t seen, const timespec *timeout) nogil


cdef void wake_waiters(uint8_t *control) noexcept nogil
