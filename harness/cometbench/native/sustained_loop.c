/* sustained_copy: the C loop of DESIGN.md's speed table that goes on through many files.
 *
 * A helper thread makes one file after the other, allocates it, maps it and populates its pages, at most AHEAD files before the loop.
 * The loop copies bytes objects one by one into them, round and round, and unmaps each file that is full: no header, no checksum, no
 * atomics but the hand-over. An entry that does not fit into the rest of a file begins the next.
 * Thread safety: the interpreter lock is held throughout; the helper thread touches no object. */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { AHEAD = 2, PATH_BYTES = 4096 };

typedef struct {
    const char *directory;
    size_t file_bytes;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char *maps[AHEAD]; /* file i in place i % AHEAD, while taken <= i < made */
    size_t made, taken;
    int stopped, error; /* error: an errno; the helper has ended */
} Files;

/* Make file `number`; its map, or NULL with errno set. */
static char *make_file(const Files *files, size_t number)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/part-%06zu.bin", files->directory, number) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return NULL;
    char *map = MAP_FAILED;
    int error = posix_fallocate(fd, 0, (off_t)files->file_bytes);
    if (error == 0) {
        map = mmap(NULL, files->file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED || populate(map, files->file_bytes) < 0)
            error = errno;
    }
    close(fd);
    if (error == 0)
        return map;
    if (map != MAP_FAILED)
        munmap(map, files->file_bytes);
    errno = error;
    return NULL;
}

static void *help(void *argument)
{
    Files *files = argument;
    for (size_t number = 0;; number++) {
        pthread_mutex_lock(&files->lock);
        while (files->made - files->taken == AHEAD && !files->stopped)
            pthread_cond_wait(&files->changed, &files->lock);
        int stopped = files->stopped;
        pthread_mutex_unlock(&files->lock);
        if (stopped)
            return NULL;
        char *map = make_file(files, number);
        int error = errno;
        pthread_mutex_lock(&files->lock);
        if (map == NULL)
            files->error = error;
        else
            files->maps[files->made++ % AHEAD] = map;
        pthread_cond_signal(&files->changed);
        pthread_mutex_unlock(&files->lock);
        if (map == NULL)
            return NULL;
    }
}

/* Wait for the next file and take it; NULL with a Python error set where the helper failed. */
static char *next_file(Files *files)
{
    char *map = NULL;
    pthread_mutex_lock(&files->lock);
    while (files->made == files->taken && !files->error)
        pthread_cond_wait(&files->changed, &files->lock);
    if (files->made > files->taken)
        map = files->maps[files->taken++ % AHEAD];
    pthread_cond_signal(&files->changed);
    pthread_mutex_unlock(&files->lock);
    if (map == NULL) {
        errno = files->error;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, files->directory);
    }
    return map;
}

/* Copy `count` entries; the seconds from the first file's being there to the last copy, or -1 with a Python error set. */
static double copy_through(Files *files, PyObject *entries, Py_ssize_t count)
{
    char *map = next_file(files);
    if (map == NULL)
        return -1;
    size_t position = 0;
    double started = seconds_now();
    for (Py_ssize_t i = 0, at = 0; i < count; i++) {
        PyObject *entry = PyList_GET_ITEM(entries, at);
        size_t length = (size_t)PyBytes_GET_SIZE(entry);
        if (length > files->file_bytes - position) {
            munmap(map, files->file_bytes);
            map = next_file(files);
            if (map == NULL)
                return -1;
            position = 0;
        }
        memcpy(map + position, PyBytes_AS_STRING(entry), length);
        position += length;
        if (++at == PyList_GET_SIZE(entries))
            at = 0;
    }
    double seconds = seconds_now() - started;
    munmap(map, files->file_bytes);
    return seconds;
}

static int check(PyObject *entries, Py_ssize_t count, Py_ssize_t file_bytes)
{
    if (PyList_GET_SIZE(entries) == 0 || count < 1 || file_bytes < 1) {
        PyErr_SetString(PyExc_ValueError, "entries, count and file_bytes must be at least 1");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(entries); i++) {
        PyObject *entry = PyList_GET_ITEM(entries, i);
        if (!PyBytes_CheckExact(entry)) {
            PyErr_Format(PyExc_TypeError, "an entry must be bytes, not %s", Py_TYPE(entry)->tp_name);
            return -1;
        }
        if (PyBytes_GET_SIZE(entry) > file_bytes) {
            PyErr_Format(PyExc_ValueError, "entry of %zd bytes does not fit into a file of %zd",
                         PyBytes_GET_SIZE(entry), file_bytes);
            return -1;
        }
    }
    return 0;
}

static PyObject *sustained_copy(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *entries;
    Py_ssize_t count, file_bytes;
    Files files = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    if (!PyArg_ParseTuple(args, "sO!nn", &files.directory, &PyList_Type, &entries, &count, &file_bytes) ||
        check(entries, count, file_bytes) < 0)
        return NULL;
    files.file_bytes = (size_t)file_bytes;
    pthread_t helper;
    errno = pthread_create(&helper, NULL, help, &files);
    if (errno != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    double seconds = copy_through(&files, entries, count);
    pthread_mutex_lock(&files.lock);
    files.stopped = 1;
    pthread_cond_signal(&files.changed);
    pthread_mutex_unlock(&files.lock);
    pthread_join(helper, NULL);
    while (files.taken < files.made)
        munmap(files.maps[files.taken++ % AHEAD], files.file_bytes);
    return seconds < 0 ? NULL : PyFloat_FromDouble(seconds);
}

PyMethodDef sustained_methods[] = {
    {"sustained_copy", sustained_copy, METH_VARARGS,
     "Seconds to copy `count` bytes objects, a list over and over, into files of a directory that a thread populates ahead."},
    {NULL, NULL, 0, NULL},
};
