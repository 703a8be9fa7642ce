/* Numbered steps at which a test stops or kills the process; the debug build alone has them (COMETLOG_DEBUG=1).
 * COMETLOG_STEP=<number>:<nth>:<signal> sends this process the signal when it reaches step `number` for the nth time. */
#ifndef COMETLOG_STEP_H
#define COMETLOG_STEP_H

#ifdef COMETLOG_DEBUG
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void step(int number)
{
    static int wanted = -1; /* 0: none; each module has its own copy, and no step stands in two modules */
    static int left, signal_number;
    if (wanted < 0) {
        const char *order = getenv("COMETLOG_STEP");
        if (order == NULL || sscanf(order, "%d:%d:%d", &wanted, &left, &signal_number) != 3)
            wanted = 0;
    }
    if (number == wanted && --left == 0)
        kill(getpid(), signal_number);
}
#else
#define step(number) ((void)0)
#endif

#endif
