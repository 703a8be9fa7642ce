"""The wall clock of this process, sampled by the helper thread; ``clock.h`` says how and when it asks the clock itself.

Thread safety: the helper thread alone samples; any thread reads. A forked child reads its parent's last sample for at most 10 ms.
"""

from pathlib import Path

CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
# Clock sources that are the counter itself: the kernel has found it steady and the same on every CPU.
STEADY_SOURCES = frozenset({"tsc", "arch_sys_counter"})

cdef clock_sample sample
process_clock = &sample


def read_clock_source():
    """Return what the kernel keeps time by, such as "tsc", or "unknown"."""
    try:
        return CLOCK_SOURCE.read_text().strip()
    except OSError:
        return "unknown"


counter_is_steady = read_clock_source() in STEADY_SOURCES


def now_ns():
    """Return the time that an append would store, ns since 1970."""
    return sampled_wall_clock_ns(process_clock)
