/* The calibrator's loop: user time and kernel time in a proportion that is known, because each part is timed alone. */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { WRITE_BYTES = 512, RING_WRITES = 2048 };

/* `calls` times: `spins` rounds of arithmetic, then one pwrite where `fd` is not -1, round and round in the first MiB. */
static PyObject *spin_and_write(PyObject *self, PyObject *args)
{
    (void)self;
    Py_ssize_t calls, spins;
    int fd;
    if (!PyArg_ParseTuple(args, "nni", &calls, &spins, &fd))
        return NULL;
    if (calls < 1 || spins < 0) {
        PyErr_Format(PyExc_ValueError, "calls must be at least 1 and spins at least 0, not %zd and %zd", calls, spins);
        return NULL;
    }
    char source[WRITE_BYTES];
    memset(source, 'x', sizeof source);
    double started = seconds_now();
    for (Py_ssize_t call = 0; call < calls; call++) {
        for (Py_ssize_t spin = 0; spin < spins; spin++)
            __asm__ volatile("" ::: "memory"); /* the loop must not be dropped */
        if (fd >= 0 && pwrite(fd, source, sizeof source, (off_t)(call % RING_WRITES) * WRITE_BYTES) != WRITE_BYTES) {
            PyErr_SetFromErrno(PyExc_OSError);
            return NULL;
        }
    }
    return PyFloat_FromDouble(seconds_now() - started);
}

PyMethodDef spin_methods[] = {
    {"spin_and_write", spin_and_write, METH_VARARGS,
     "Seconds for `calls` times `spins` rounds of arithmetic and, unless `fd` is -1, one pwrite of 512 bytes."},
    {NULL, NULL, 0, NULL},
};
