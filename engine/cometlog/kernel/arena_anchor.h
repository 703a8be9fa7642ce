/* Small objects that keep memory in the process between one read and the next.
 *
 * CPython gives an arena of its allocator for small objects (1 MiB) back to the kernel once nothing in it is used, and asks for a new one
 * when it needs it. A loop that reads a batch and lets go of it would so fault in the same 256 pages each time. One object of
 * ours in each arena that the last reads used keeps it there. No byte of an entry is kept, and at most ANCHORS_MAX arenas.
 *
 * Thread safety: the GIL is held.
 */
#ifndef COMETLOG_ARENA_ANCHOR_H
#define COMETLOG_ARENA_ANCHOR_H

#include <Python.h>

#define ANCHORS_MAX 8
#define ANCHOR_EVERY_BYTES (1 << 19)
#define ANCHORED_BYTES_MAX 512 /* larger objects come from malloc */

static PyObject *arena_anchors[ANCHORS_MAX];
static unsigned arena_anchor_next;
static size_t arena_unanchored_bytes;

/* Lay an object of `object_bytes` beside those that were just made. Without memory for it there is none. */
static void arena_anchor_lay(size_t object_bytes)
{
    size_t head = PyBytes_Type.tp_basicsize;
    PyObject *anchor = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(object_bytes > head ? object_bytes - head : 0));
    if (anchor == NULL) {
        PyErr_Clear();
        return;
    }
    Py_XSETREF(arena_anchors[arena_anchor_next], anchor);
    arena_anchor_next = (arena_anchor_next + 1) % ANCHORS_MAX;
    arena_unanchored_bytes = 0;
}

/* Say that an object of so many bytes was made. */
static inline void arena_anchor_count(size_t object_bytes)
{
    if (object_bytes <= ANCHORED_BYTES_MAX && (arena_unanchored_bytes += object_bytes) >= ANCHOR_EVERY_BYTES)
        arena_anchor_lay(object_bytes);
}

#endif
