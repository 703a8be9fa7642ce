/* CopyTarget: the C loop of DESIGN.md's speed table.
 *
 * It copies bytes objects one by one into a map whose pages are allocated and populated before the timed stretch, and
 * does nothing else: no header, no checksum, no atomics. What an append costs above it is what the log adds.
 * Thread safety: none; one thread, the interpreter lock held throughout. */
#define _GNU_SOURCE
#include "native.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD
    char *map; /* NULL once closed */
    size_t size;
    size_t position; /* <= size; the next byte to store */
} CopyTarget;

static int target_init(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"path", "size_bytes", NULL};
    CopyTarget *self = (CopyTarget *)object;
    const char *path;
    Py_ssize_t size;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "sn", names, &path, &size))
        return -1;
    if (size < 1) {
        PyErr_Format(PyExc_ValueError, "size_bytes must be at least 1, not %zd", size);
        return -1;
    }
    if (self->map != NULL) {
        PyErr_SetString(PyExc_ValueError, "CopyTarget is initialised already");
        return -1;
    }
    int fd = create_file(path);
    if (fd < 0)
        return -1;
    self->map = map_populated(fd, (size_t)size);
    close(fd);
    if (self->map == NULL)
        return -1;
    self->size = (size_t)size;
    self->position = 0;
    return 0;
}

/* Copy one bytes object to the position; -1 with a Python error set when it is no bytes object or does not fit. */
static inline int store_one(CopyTarget *self, PyObject *entry)
{
    if (!PyBytes_CheckExact(entry)) {
        PyErr_Format(PyExc_TypeError, "an entry must be bytes, not %s", Py_TYPE(entry)->tp_name);
        return -1;
    }
    size_t length = (size_t)PyBytes_GET_SIZE(entry);
    if (length > self->size - self->position) {
        PyErr_Format(PyExc_ValueError, "entry of %zu bytes does not fit behind %zu of %zu", length, self->position,
                     self->size);
        return -1;
    }
    memcpy(self->map + self->position, PyBytes_AS_STRING(entry), length);
    self->position += length;
    return 0;
}

static int require_open(CopyTarget *self)
{
    if (self->map != NULL)
        return 0;
    PyErr_SetString(PyExc_ValueError, "CopyTarget is closed");
    return -1;
}

static PyObject *target_copy(PyObject *object, PyObject *entry)
{
    CopyTarget *self = (CopyTarget *)object;
    if (require_open(self) < 0 || store_one(self, entry) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *target_copy_list(PyObject *object, PyObject *entries)
{
    CopyTarget *self = (CopyTarget *)object;
    if (require_open(self) < 0)
        return NULL;
    if (!PyList_CheckExact(entries)) {
        PyErr_Format(PyExc_TypeError, "entries must be a list, not %s", Py_TYPE(entries)->tp_name);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(entries); i++)
        if (store_one(self, PyList_GET_ITEM(entries, i)) < 0)
            return NULL;
    Py_RETURN_NONE;
}

static PyObject *target_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    CopyTarget *self = (CopyTarget *)object;
    if (self->map != NULL)
        munmap(self->map, self->size);
    self->map = NULL;
    Py_RETURN_NONE;
}

static void target_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    CopyTarget *self = (CopyTarget *)object;
    if (self->map != NULL)
        munmap(self->map, self->size);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef target_methods[] = {
    {"copy", target_copy, METH_O, "Copy one bytes object behind what was copied before."},
    {"copy_list", target_copy_list, METH_O, "Copy every bytes object of a list, one by one."},
    {"close", target_close, METH_NOARGS, "Unmap; the file keeps what was copied. Repeatable."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot target_slots[] = {
    {Py_tp_doc, "A populated file map that bytes objects are copied into, one by one."},
    {Py_tp_init, target_init},
    {Py_tp_dealloc, target_dealloc},
    {Py_tp_methods, target_methods},
    {0, NULL},
};

PyType_Spec copy_target_spec = {
    .name = "cometbench._native.CopyTarget",
    .basicsize = sizeof(CopyTarget),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = target_slots,
};
