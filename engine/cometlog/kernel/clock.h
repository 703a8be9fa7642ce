/* The wall clock in nanoseconds since 1970. */
#ifndef COMETLOG_CLOCK_H
#define COMETLOG_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t wall_clock_ns(void) { return clock_ns(CLOCK_REALTIME); }
static inline uint64_t monotonic_clock_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* The wall clock between two readings of it, by the CPU's own counter: a third of the cost of asking. One thread of the process
 * samples (the helper, every 250 us while somebody appends); who finds no sample of the last 10 ms asks the clock itself.
 * `sequence` is odd while a sample is written. */
typedef struct {
    uint64_t sequence;
    uint64_t ticks;
    uint64_t wall_ns;
    uint64_t ns_per_tick_q32;
    uint64_t age_ticks_max; /* 0: no sample */
    uint64_t anchor_ticks;  /* of the writer alone: where the rate is measured from */
    uint64_t anchor_ns;
} clock_sample;

#define CLOCK_SAMPLE_AGE_NS_MAX 10000000u
#define CLOCK_RATE_NS_MIN 5000000u     /* a rate is measured over at least this */
#define CLOCK_RATE_NS_MAX 1000000000u  /* and anew after this */
#define CLOCK_READ_TICKS_MAX 4000u     /* a sample that took longer was interrupted */

static inline uint64_t counter_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ __volatile__("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return 0;
#endif
}

static inline uint64_t sampled_wall_clock_ns(const clock_sample *sample)
{
    uint64_t sequence = __atomic_load_n(&sample->sequence, __ATOMIC_ACQUIRE);
    uint64_t wall_ns = __atomic_load_n(&sample->wall_ns, __ATOMIC_RELAXED);
    uint64_t rate = __atomic_load_n(&sample->ns_per_tick_q32, __ATOMIC_RELAXED);
    uint64_t age_max = __atomic_load_n(&sample->age_ticks_max, __ATOMIC_RELAXED);
    uint64_t age = counter_ticks() - __atomic_load_n(&sample->ticks, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if ((sequence & 1) || age >= age_max || __atomic_load_n(&sample->sequence, __ATOMIC_RELAXED) != sequence)
        return wall_clock_ns();
    return wall_ns + ((age * rate) >> 32);
}

/* Take a sample; only one thread may. The rate is that of the monotonic clock, which is never set. */
static inline void take_clock_sample(clock_sample *sample)
{
    uint64_t before = counter_ticks();
    uint64_t wall_ns = wall_clock_ns();
    uint64_t monotonic_ns = monotonic_clock_ns();
    uint64_t ticks = counter_ticks();
    uint64_t elapsed_ns = monotonic_ns - sample->anchor_ns;
    uint64_t elapsed_ticks = ticks - sample->anchor_ticks;
    uint64_t rate = sample->ns_per_tick_q32;
    if (ticks - before > CLOCK_READ_TICKS_MAX)
        return;
    if (sample->anchor_ns == 0 || elapsed_ns > CLOCK_RATE_NS_MAX) {
        sample->anchor_ticks = ticks;
        sample->anchor_ns = monotonic_ns;
    } else if (elapsed_ns >= CLOCK_RATE_NS_MIN && elapsed_ticks > 0) {
        rate = (uint64_t)((double)elapsed_ns / (double)elapsed_ticks * 4294967296.0);
    }
    __atomic_store_n(&sample->sequence, sample->sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&sample->ticks, before + (ticks - before) / 2, __ATOMIC_RELAXED);
    __atomic_store_n(&sample->wall_ns, wall_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&sample->ns_per_tick_q32, rate, __ATOMIC_RELAXED);
    if (rate)
        __atomic_store_n(&sample->age_ticks_max, ((uint64_t)CLOCK_SAMPLE_AGE_NS_MAX << 32) / rate, __ATOMIC_RELAXED);
    __atomic_store_n(&sample->sequence, sample->sequence + 1, __ATOMIC_RELEASE);
}

#endif
