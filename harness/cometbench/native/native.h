/* Shared declarations of the extension cometbench._native. */
#ifndef COMETBENCH_NATIVE_H
#define COMETBENCH_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#define MIB ((size_t)1 << 20)

/* Bytes of a contended map ahead of what is copied: two cache lines, which CPUs fetch together. */
enum { CONTENDED_HEAD_BYTES = 128 };

/* Monotonic clock in seconds, the clock of time.perf_counter on Linux. */
double seconds_now(void);

/* fallocate, map shared and populate for writing; the caller unmaps. NULL with a Python OSError set on failure. */
char *map_populated(int fd, size_t size);

/* Populate pages of a shared map for writing; -1 with errno set on failure. */
int populate(char *map, size_t size);

/* A new, empty file for reading and writing; -1 with a Python OSError set on failure. */
int create_file(const char *path);

extern PyMethodDef floor_methods[];
extern PyMethodDef spin_methods[];
extern PyMethodDef contended_methods[];
extern PyMethodDef sustained_methods[];
extern PyType_Spec copy_target_spec;

#endif
