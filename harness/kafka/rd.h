/* What rdkafka_performance.c takes from the inside of librdkafka's source tree, which its package of headers does not hold. */
#ifndef COMETBENCH_RD_H
#define COMETBENCH_RD_H

#define _GNU_SOURCE
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define RD_MIN(a, b) ((a) < (b) ? (a) : (b))
#define RD_MAX(a, b) ((a) > (b) ? (a) : (b))
#define rd_snprintf snprintf

typedef int64_t rd_ts_t;

/* Return a time of a clock that is never set, in microseconds. */
static inline rd_ts_t rd_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (rd_ts_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

#endif
