/* Preloaded into a worker: the wall clock as a test wants it. The file that MOVED_CLOCK names holds two int64: nanoseconds to add, and
 * where not zero, the instant at which the clock stands still. The monotonic clock is the kernel's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static const volatile int64_t *order;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void prepare(void)
{
    int fd = open(getenv("MOVED_CLOCK"), O_RDONLY | O_CLOEXEC);
    order = mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = order[1] ? order[1] : (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + order[0];
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}
