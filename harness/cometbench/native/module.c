/* cometbench._native: floors, the calibrator, the C loops, an empty call, and the comparison of what was read with what was appended. */
#include "native.h"

#include <string.h>

static PyObject *empty_call(PyObject *self, PyObject *argument)
{
    (void)self;
    (void)argument;
    Py_RETURN_NONE;
}

/* Entry i of `entries` must equal pool[(start + i) % len(pool)]: benchmarks append a pool over and over. */
static PyObject *first_mismatch(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *entries, *pool;
    Py_ssize_t start;
    if (!PyArg_ParseTuple(args, "O!O!n", &PyList_Type, &entries, &PyList_Type, &pool, &start))
        return NULL;
    Py_ssize_t pool_size = PyList_GET_SIZE(pool);
    if (pool_size == 0 || start < 0) {
        PyErr_SetString(PyExc_ValueError, "the pool must hold an entry and start must not be negative");
        return NULL;
    }
    Py_ssize_t at = start % pool_size;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(entries); i++) {
        PyObject *found = PyList_GET_ITEM(entries, i), *expected = PyList_GET_ITEM(pool, at);
        if (!PyBytes_CheckExact(found) || !PyBytes_CheckExact(expected)) {
            PyErr_SetString(PyExc_TypeError, "entries and pool must hold bytes objects only");
            return NULL;
        }
        Py_ssize_t size = PyBytes_GET_SIZE(found);
        if (size != PyBytes_GET_SIZE(expected) || memcmp(PyBytes_AS_STRING(found), PyBytes_AS_STRING(expected), (size_t)size))
            return PyLong_FromSsize_t(i);
        if (++at == pool_size)
            at = 0;
    }
    return PyLong_FromLong(-1);
}

/* Entries of several writers in any interleaving: each is its writer's next one, pool[following % len(pool)]. */
static PyObject *first_stray(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *entries, *writer_of, *pools, *following;
    if (!PyArg_ParseTuple(args, "O!O!O!O!", &PyList_Type, &entries, &PyDict_Type, &writer_of, &PyList_Type, &pools, &PyList_Type,
                          &following))
        return NULL;
    Py_ssize_t writers = PyList_GET_SIZE(pools), stray = -1;
    if (PyList_GET_SIZE(following) != writers) {
        PyErr_SetString(PyExc_ValueError, "pools and following must have one item for each writer");
        return NULL;
    }
    Py_ssize_t *next = PyMem_Calloc((size_t)writers + 1, sizeof *next);
    if (next == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < writers; i++) {
        next[i] = PyLong_AsSsize_t(PyList_GET_ITEM(following, i));
        PyObject *pool = PyList_GET_ITEM(pools, i);
        if (!PyErr_Occurred() && (next[i] < 0 || !PyList_CheckExact(pool) || PyList_GET_SIZE(pool) == 0))
            PyErr_SetString(PyExc_ValueError, "a pool must be a list that holds an entry, and following not negative");
        if (PyErr_Occurred())
            goto failed;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(entries); i++) {
        PyObject *found = PyList_GET_ITEM(entries, i), *number = PyDict_GetItemWithError(writer_of, found);
        if (number == NULL) {
            if (PyErr_Occurred())
                goto failed;
            stray = i;
            break;
        }
        Py_ssize_t writer = PyLong_AsSsize_t(number);
        if (writer < 0 || writer >= writers) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "writer_of names a writer that has no pool");
            goto failed;
        }
        PyObject *pool = PyList_GET_ITEM(pools, writer);
        int equal = PyObject_RichCompareBool(found, PyList_GET_ITEM(pool, next[writer] % PyList_GET_SIZE(pool)), Py_EQ);
        if (equal < 0)
            goto failed;
        if (!equal) {
            stray = i;
            break;
        }
        next[writer]++;
    }
    for (Py_ssize_t i = 0; i < writers; i++) {
        PyObject *count = PyLong_FromSsize_t(next[i]);
        if (count == NULL || PyList_SetItem(following, i, count) < 0)
            goto failed;
    }
    PyMem_Free(next);
    return PyLong_FromSsize_t(stray);
failed:
    PyMem_Free(next);
    return NULL;
}

static PyMethodDef module_methods[] = {
    {"empty_call", empty_call, METH_O, "Do nothing with one argument: the price of calling a C function."},
    {"first_mismatch", first_mismatch, METH_VARARGS,
     "Index of the first entry that differs from the pool read cyclically from `start`, or -1."},
    {"first_stray", first_stray, METH_VARARGS,
     "Index of the first entry that is not the next of a writer, or -1; raises each writer's count in `following`."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    if (PyModule_AddFunctions(module, floor_methods) < 0 || PyModule_AddFunctions(module, spin_methods) < 0 ||
        PyModule_AddFunctions(module, contended_methods) < 0 || PyModule_AddFunctions(module, sustained_methods) < 0)
        return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &copy_target_spec, NULL);
    if (type == NULL)
        return -1;
    int added = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return added;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cometbench._native",
    .m_doc = "Machine floors, the C loops and exact comparison; no measuring process needs more.",
    .m_size = 0,
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
