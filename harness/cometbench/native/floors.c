/* Machine floors: what the hardware and the kernel charge for one primitive, without Python in the loop.
 *
 * Every function takes (loops, path) and returns the seconds that `loops` operations took. Set-up, unmapping and
 * unlinking stay outside the timed stretch. `path` names a file to create; it is unlinked before returning. */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { SMALL_WRITE_BYTES = 128, HOT_COPY_BYTES = 64 * 1024 };

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int create_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
    return fd;
}

static int allocate(int fd, size_t offset, size_t size)
{
    int error = posix_fallocate(fd, (off_t)offset, (off_t)size);
    if (error != 0) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

/* Kernels before 5.14 lack MADV_POPULATE_WRITE: there one store per page does the same. */
int populate(char *map, size_t size)
{
    if (madvise(map, size, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL)
        return -1;
    for (size_t offset = 0; offset < size; offset += 4096)
        ((volatile char *)map)[offset] = 0;
    return 0;
}

char *map_populated(int fd, size_t size)
{
    if (allocate(fd, 0, size) < 0)
        return NULL;
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    if (populate(map, size) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        munmap(map, size);
        return NULL;
    }
    return map;
}

static int parse(PyObject *args, Py_ssize_t *loops, const char **path)
{
    if (!PyArg_ParseTuple(args, "ns", loops, path))
        return -1;
    if (*loops < 1) {
        PyErr_Format(PyExc_ValueError, "loops must be at least 1, not %zd", *loops);
        return -1;
    }
    return 0;
}

static PyObject *clock_read(PyObject *self, PyObject *args)
{
    (void)self;
    Py_ssize_t loops;
    const char *path;
    if (parse(args, &loops, &path) < 0)
        return NULL;
    struct timespec now;
    double started = seconds_now();
    for (Py_ssize_t i = 0; i < loops; i++)
        clock_gettime(CLOCK_MONOTONIC, &now);
    return PyFloat_FromDouble(seconds_now() - started);
}

static PyObject *cas(PyObject *self, PyObject *args)
{
    (void)self;
    Py_ssize_t loops;
    const char *path;
    if (parse(args, &loops, &path) < 0)
        return NULL;
    static _Alignas(128) _Atomic uint64_t word;
    uint64_t expected = atomic_load(&word);
    double started = seconds_now();
    for (Py_ssize_t i = 0; i < loops; i++) {
        if (atomic_compare_exchange_strong_explicit(&word, &expected, expected + 1, memory_order_acq_rel,
                                                    memory_order_acquire))
            expected++;
    }
    return PyFloat_FromDouble(seconds_now() - started);
}

static PyObject *memcpy_hot(PyObject *self, PyObject *args)
{
    (void)self;
    Py_ssize_t loops;
    const char *path;
    if (parse(args, &loops, &path) < 0)
        return NULL;
    char *source = malloc(HOT_COPY_BYTES), *target = malloc(HOT_COPY_BYTES);
    if (source == NULL || target == NULL) {
        free(source);
        free(target);
        return PyErr_NoMemory();
    }
    memset(source, 'x', HOT_COPY_BYTES);
    memset(target, 'y', HOT_COPY_BYTES);
    double started = seconds_now();
    for (Py_ssize_t i = 0; i < loops; i++) {
        memcpy(target, source, HOT_COPY_BYTES);
        __asm__ volatile("" : : "r"(target) : "memory"); /* the copy must not be dropped */
    }
    double elapsed = seconds_now() - started;
    free(source);
    free(target);
    return PyFloat_FromDouble(elapsed);
}

/* One loop = 1 MiB stored into pages of a file that are allocated on disk and not yet mapped in. */
static PyObject *memcpy_fresh_map(PyObject *self, PyObject *args)
{
    (void)self;
    Py_ssize_t loops;
    const char *path;
    if (parse(args, &loops, &path) < 0)
        return NULL;
    int fd = create_file(path);
    if (fd < 0)
        return NULL;
    size_t size = (size_t)loops * MIB;
    PyObject *result = NULL;
    char *source = malloc(MIB), *map = MAP_FAILED;
    if (source == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    memset(source, 'x', MIB);
    if (allocate(fd, 0, size) < 0)
        goto done;
    map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    double started = seconds_now();
    for (Py_ssize_t i = 0; i < loops; i++)
        memcpy(map + (size_t)i * MIB, source, MIB);
    result = PyFloat_FromDouble(seconds_now() - started);
done:
    if (map != MAP_FAILED)
        munmap(map, size);
    free(source);
    close(fd);
    unlink(path);
    return result;
}

/* `loops` write() calls of `size` bytes each to the end of a new file, each followed by fdatasync where `sync`. */
static PyObject *timed_writes(PyObject *args, size_t size, int sync)
{
    Py_ssize_t loops;
    const char *path;
    if (parse(args, &loops, &path) < 0)
        return NULL;
    int fd = create_file(path);
    if (fd < 0)
        return NULL;
    PyObject *result = NULL;
    char *source = malloc(size);
    if (source == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    memset(source, 'x', size);
    double started = seconds_now();
    for (Py_ssize_t i = 0; i < loops; i++) {
        ssize_t written = write(fd, source, size);
        if (written != (ssize_t)size || (sync && fdatasync(fd) != 0)) {
            if (written >= 0 && written != (ssize_t)size)
                errno = ENOSPC;
            PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
            goto done;
        }
    }
    result = PyFloat_FromDouble(seconds_now() - started);
done:
    free(source);
    close(fd);
    unlink(path);
    return result;
}

static PyObject *write_128(PyObject *self, PyObject *args)
{
    (void)self;
    return timed_writes(args, SMALL_WRITE_BYTES, 0);
}

static PyObject *write_1mib(PyObject *self, PyObject *args)
{
    (void)self;
    return timed_writes(args, MIB, 0);
}

static PyObject *fdatasync_128(PyObject *self, PyObject *args)
{
    (void)self;
    return timed_writes(args, SMALL_WRITE_BYTES, 1);
}

/* One loop = extend a file by 1 MiB, map that MiB and populate it for writing. */
static PyObject *fallocate_populate_mib(PyObject *self, PyObject *args)
{
    (void)self;
    Py_ssize_t loops;
    const char *path;
    if (parse(args, &loops, &path) < 0)
        return NULL;
    int fd = create_file(path);
    if (fd < 0)
        return NULL;
    PyObject *result = NULL;
    size_t size = (size_t)loops * MIB;
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    double started = seconds_now();
    for (Py_ssize_t i = 0; i < loops; i++) {
        if (allocate(fd, (size_t)i * MIB, MIB) < 0)
            goto done;
        if (populate(map + (size_t)i * MIB, MIB) < 0) {
            PyErr_SetFromErrno(PyExc_OSError);
            goto done;
        }
    }
    result = PyFloat_FromDouble(seconds_now() - started);
done:
    if (map != MAP_FAILED)
        munmap(map, size);
    close(fd);
    unlink(path);
    return result;
}

PyMethodDef floor_methods[] = {
    {"clock_read", clock_read, METH_VARARGS, "Seconds for `loops` clock_gettime(CLOCK_MONOTONIC) calls."},
    {"cas", cas, METH_VARARGS, "Seconds for `loops` uncontended compare-and-swaps of one word."},
    {"memcpy_hot", memcpy_hot, METH_VARARGS, "Seconds for `loops` copies of 64 KiB between two cached buffers."},
    {"memcpy_fresh_map", memcpy_fresh_map, METH_VARARGS,
     "Seconds for `loops` copies of 1 MiB into a freshly allocated, unpopulated file mapping."},
    {"write_128", write_128, METH_VARARGS, "Seconds for `loops` write() calls of 128 bytes to a new file."},
    {"write_1mib", write_1mib, METH_VARARGS, "Seconds for `loops` write() calls of 1 MiB to a new file."},
    {"fdatasync_128", fdatasync_128, METH_VARARGS, "Seconds for `loops` pairs of write(128 bytes) and fdatasync."},
    {"fallocate_populate_mib", fallocate_populate_mib, METH_VARARGS,
     "Seconds for `loops` extensions of a mapped file by 1 MiB, populated for writing."},
    {NULL, NULL, 0, NULL},
};
