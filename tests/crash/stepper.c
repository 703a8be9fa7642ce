/* Single-steps one thread of another process until the memory it shares with this one changes; single_step.py compiles and calls it.
 * It reads no register: where the thread stands comes from PTRACE_GET_SYSCALL_INFO, so x86-64 and arm64 need no code of their own but
 * the encoding of their system call instruction. On arm64 a step ends an exclusive access, so a kernel built without LSE atomics would
 * never get past a CAS. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>

enum { CHANGED = 1, CALLED = 2, MARKED = 4, ENDED = 8, TOO_LONG = 16, FAILED = 32 };

struct area {
    const unsigned char *live; /* mapped shared */
    const unsigned char *seen; /* as it was at the last state */
    size_t length;
};

static int at_system_call(pid_t thread)
{
    struct __ptrace_syscall_info info;
    long code;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) < 0)
        return 0;
    errno = 0;
    code = ptrace(PTRACE_PEEKTEXT, thread, (void *)(uintptr_t)info.instruction_pointer, NULL);
    if (errno)
        return 0;
#if defined(__x86_64__)
    return (code & 0xffff) == 0x050f;
#elif defined(__aarch64__)
    return ((unsigned long)code & 0xffffffff) == 0xd4000001;
#else
#error "the encoding of the system call instruction is missing for this CPU"
#endif
}

static int differs(const struct area *areas, int count)
{
    for (int index = 0; index < count; index++)
        if (memcmp(areas[index].live, areas[index].seen, areas[index].length) != 0)
            return CHANGED;
    return 0;
}

/* Resume once by `request` and wait for the next stop. Returns the signal that stopped the thread, or -1 when it is gone. */
static int resume_once(enum __ptrace_request request, pid_t thread, int signal_number)
{
    int status;
    if (ptrace(request, thread, NULL, (void *)(intptr_t)signal_number) < 0 || waitpid(thread, &status, __WALL) != thread)
        return -1;
    return WIFSTOPPED(status) ? WSTOPSIG(status) : -1;
}

/* Step until an area differs, a system call was made, or the thread sends itself `mark`, which it never gets.
 * Other signals are delivered. */
int step_to_change(pid_t thread, const struct area *areas, int count, int mark, uint64_t steps_max, uint64_t *steps)
{
    int pending = 0;
    while ((*steps)++ < steps_max) {
        int calls = at_system_call(thread);
        int stopped = resume_once(PTRACE_SINGLESTEP, thread, pending);
        int found = differs(areas, count);
        pending = 0;
        if (stopped < 0)
            return ENDED;
        if (stopped == mark)
            return MARKED | found;
        if (stopped != SIGTRAP)
            pending = stopped;
        if (found || calls)
            return found | (calls ? CALLED : 0);
    }
    return TOO_LONG;
}

/* Wait until a thread that runs sends itself `mark`; other signals are delivered. */
int wait_for_mark(pid_t thread, int mark)
{
    int status, stopped;
    if (waitpid(thread, &status, __WALL) != thread)
        return ENDED;
    stopped = WIFSTOPPED(status) ? WSTOPSIG(status) : -1;
    while (stopped > 0 && stopped != mark)
        stopped = resume_once(PTRACE_CONT, thread, stopped == SIGTRAP ? 0 : stopped);
    return stopped < 0 ? ENDED : MARKED;
}

/* Let the thread run, without a look at what it does, until it has made `calls` system calls. */
int run_through_calls(pid_t thread, int calls)
{
    int stopped = 0;
    for (int stops = 0; stops < 2 * calls;) {
        stopped = resume_once(PTRACE_SYSCALL, thread, stopped & 0x80 || stopped == SIGTRAP ? 0 : stopped);
        if (stopped < 0)
            return ENDED;
        stops += stopped == (SIGTRAP | 0x80);
    }
    return CALLED;
}

/* Take control of a thread, which goes on running; it dies with its tracer. */
int seize(pid_t thread)
{
    if (ptrace(PTRACE_SEIZE, thread, NULL, (void *)(intptr_t)(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)) < 0)
        return -errno;
    return 0;
}

int stop(pid_t thread)
{
    int status;
    if (ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) < 0)
        return -errno;
    return waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status) ? 0 : -ECHILD;
}

int let_run(pid_t thread)
{
    return ptrace(PTRACE_CONT, thread, NULL, NULL) < 0 ? -errno : 0;
}

/* Wait until a killed thread is gone. */
void reap(pid_t thread)
{
    int status;
    while (waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status))
        ;
}
