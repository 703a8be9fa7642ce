/* cometbench._malloc_count: counts what malloc and its kin are asked for, in a process that was started with this file as LD_PRELOAD.
 *
 * Imported without being preloaded, its functions replace nothing and the counts stay 0 for everybody else's calls. With
 * PYTHONMALLOC=malloc Python's objects come from malloc too, so that nothing but Python's free lists escapes.
 * Invariant: the counters belong to one thread, so a helper thread's allocations are nobody else's.
 */
#include <Python.h>

#include <errno.h>
#include <stdint.h>

static __thread uint64_t calls;
static __thread uint64_t bytes;

/* Another C library has no such way around its own malloc: there nothing is counted, and `is_preloaded` says so. */
#ifdef __GLIBC__
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static inline void count(size_t size)
{
    calls++;
    bytes += size;
}

void *malloc(size_t size)
{
    count(size);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count(number * size);
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count(size);
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
    count(size);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **place, size_t alignment, size_t size)
{
    void *got = memalign(alignment, size);
    if (got == NULL)
        return ENOMEM;
    *place = got;
    return 0;
}
#endif

/* One (allocations, bytes) pair for each item: what `function(item)` asked for, its result included; a tuple is spread over arguments. */
static PyObject *count_calls(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *function, *items;
    if (!PyArg_ParseTuple(args, "OO!", &function, &PyList_Type, &items))
        return NULL;
    PyObject *counted = PyList_New(PyList_GET_SIZE(items));
    for (Py_ssize_t i = 0; counted != NULL && i < PyList_GET_SIZE(items); i++) {
        uint64_t calls_before = calls, bytes_before = bytes;
        PyObject *item = PyList_GET_ITEM(items, i);
        PyObject *result = PyTuple_CheckExact(item) ? PyObject_CallObject(function, item) : PyObject_CallOneArg(function, item);
        uint64_t calls_of_one = calls - calls_before, bytes_of_one = bytes - bytes_before;
        PyObject *pair =
            result == NULL ? NULL : Py_BuildValue("KK", (unsigned long long)calls_of_one, (unsigned long long)bytes_of_one);
        Py_XDECREF(result);
        if (pair == NULL)
            Py_CLEAR(counted);
        else
            PyList_SET_ITEM(counted, i, pair);
    }
    return counted;
}

static PyObject *is_preloaded(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    uint64_t before = calls;
    PyMem_RawFree(PyMem_RawMalloc(1));
    return PyBool_FromLong(calls != before);
}

static PyMethodDef methods[] = {
    {"count_calls", count_calls, METH_VARARGS, "Call a function with each item of a list, or with the members of one that is a tuple; return (allocations, bytes) of each call."},
    {"is_preloaded", is_preloaded, METH_NOARGS, "Whether this process's allocations are counted."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "cometbench._malloc_count", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__malloc_count(void)
{
    return PyModuleDef_Init(&definition);
}
