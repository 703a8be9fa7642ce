/* A range object of step 1 without the four big-integer operations of its constructor, which cost as much as an append.
 *
 * The layout below is CPython's and not part of its API, so entry_range_check compares it with a range that Python made; where it
 * differs, the constructor is called.
 */
#ifndef COMETLOG_ENTRY_RANGE_H
#define COMETLOG_ENTRY_RANGE_H

#include <Python.h>

typedef struct {
    PyObject_HEAD
    PyObject *start, *stop, *step, *length;
} entry_range;

static int entry_range_is_known;
static PyObject *entry_range_step;

static inline int entry_range_equals(PyObject *number, long expected)
{
    return PyLong_CheckExact(number) && PyLong_AsLong(number) == expected;
}

/* Learn whether this interpreter's ranges look as above; -1 with an exception set where Python itself fails. */
static int entry_range_check(void)
{
    PyObject *sample = PyObject_CallFunction((PyObject *)&PyRange_Type, "ll", 5L, 12L);
    if (sample == NULL || (entry_range_step = PyLong_FromLong(1)) == NULL) {
        Py_XDECREF(sample);
        return -1;
    }
    if (PyRange_Type.tp_basicsize == (Py_ssize_t)sizeof(entry_range) && !PyType_IS_GC(&PyRange_Type)) {
        entry_range *fields = (entry_range *)sample;
        entry_range_is_known = entry_range_equals(fields->start, 5) && entry_range_equals(fields->stop, 12)
            && entry_range_equals(fields->step, 1) && entry_range_equals(fields->length, 7);
    }
    Py_DECREF(sample);
    return 0;
}

/* Return range(first, first + count), or NULL with an exception set. */
static PyObject *entry_range_new(unsigned long long first, unsigned long long count)
{
    PyObject *start = PyLong_FromUnsignedLongLong(first);
    PyObject *stop = PyLong_FromUnsignedLongLong(first + count);
    PyObject *length = entry_range_is_known ? PyLong_FromUnsignedLongLong(count) : NULL;
    PyObject *result = NULL;
    if (start != NULL && stop != NULL && length != NULL) {
        entry_range *fields = PyObject_New(entry_range, &PyRange_Type);
        if (fields != NULL) {
            fields->start = start;
            fields->stop = stop;
            fields->step = Py_NewRef(entry_range_step);
            fields->length = length;
            return (PyObject *)fields;
        }
    } else if (start != NULL && stop != NULL && !entry_range_is_known) {
        result = PyObject_CallFunctionObjArgs((PyObject *)&PyRange_Type, start, stop, NULL);
    }
    Py_XDECREF(start);
    Py_XDECREF(stop);
    Py_XDECREF(length);
    return result;
}

#endif
