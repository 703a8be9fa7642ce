/* contended_copy: the C loop of several writer processes in DESIGN.md's speed table.
 *
 * The map begins with a word, the bytes taken so far, alone on its cache lines; what is copied lies behind it. For each entry a
 * process takes the next bytes by compare-and-swap and copies the entry there: no header, no checksum, no commit.
 * Thread safety: of processes that share the map; the interpreter lock is held throughout. */
#define _GNU_SOURCE
#include "native.h"

#include <stdatomic.h>
#include <string.h>

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "the word is shared between processes");

/* Take the next `length` of `room` bytes; where they begin, or -1 where they do not fit. */
static inline Py_ssize_t take(_Atomic uint64_t *word, size_t length, size_t room)
{
    uint64_t taken = atomic_load_explicit(word, memory_order_acquire);
    do {
        if (taken > room || length > room - taken)
            return -1;
    } while (!atomic_compare_exchange_weak_explicit(word, &taken, taken + length, memory_order_acq_rel,
                                                    memory_order_acquire));
    return (Py_ssize_t)taken;
}

static int copy_all(char *map, size_t size, PyObject *entries)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(entries); i++) {
        PyObject *entry = PyList_GET_ITEM(entries, i);
        if (!PyBytes_CheckExact(entry)) {
            PyErr_Format(PyExc_TypeError, "an entry must be bytes, not %s", Py_TYPE(entry)->tp_name);
            return -1;
        }
        size_t length = (size_t)PyBytes_GET_SIZE(entry);
        Py_ssize_t at = take((_Atomic uint64_t *)map, length, size - CONTENDED_HEAD_BYTES);
        if (at < 0) {
            PyErr_Format(PyExc_ValueError, "entry %zd of %zu bytes does not fit into a map of %zu", i, length, size);
            return -1;
        }
        memcpy(map + CONTENDED_HEAD_BYTES + at, PyBytes_AS_STRING(entry), length);
    }
    return 0;
}

static PyObject *contended_copy(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer map;
    PyObject *entries;
    if (!PyArg_ParseTuple(args, "w*O!", &map, &PyList_Type, &entries))
        return NULL;
    int failed = -1;
    if (map.len < CONTENDED_HEAD_BYTES || (uintptr_t)map.buf % CONTENDED_HEAD_BYTES != 0)
        PyErr_Format(PyExc_ValueError, "a map has at least %d bytes and begins at a multiple of them", CONTENDED_HEAD_BYTES);
    else
        failed = copy_all(map.buf, (size_t)map.len, entries);
    PyBuffer_Release(&map);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

PyMethodDef contended_methods[] = {
    {"contended_copy", contended_copy, METH_VARARGS,
     "Copy every bytes object of a list to the next free bytes of a map that other processes copy into as well."},
    {NULL, NULL, 0, NULL},
};
