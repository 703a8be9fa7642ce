"""A batch as FORMAT.md lays it out."""

from libc.stdint cimport uint8_t

cdef extern from *:
    """
    #define CACHE_LINE_BYTES 64

    /* The lines after the next frame's first two, which the CPU fetches by itself. */
    static inline void prefetch_next_frame(const unsigned char *frame)
    {
        __builtin_prefetch(frame + 2 * CACHE_LINE_BYTES, 1);
        __builtin_prefetch(frame + 3 * CACHE_LINE_BYTES, 1);
        __builtin_prefetch(frame + 4 * CACHE_LINE_BYTES, 1);
    }

    /* A bytes object with the first of its bytes, as far as a log line is long. */
    static inline void prefetch_entry(const void *object)
    {
        __builtin_prefetch(object);
        __builtin_prefetch((const char *)object + CACHE_LINE_BYTES);
        __builtin_prefetch((const char *)object + 2 * CACHE_LINE_BYTES);
    }

    /* Where a batch will be copied to, an entry's length ahead of what was passed. Prefetching reads nothing and never faults. */
    #define PREFETCH_STORE_BYTES 4096
    static inline void prefetch_target(const unsigned char *place)
    {
        __builtin_prefetch(place + PREFETCH_STORE_BYTES, 1);
        __builtin_prefetch(place + PREFETCH_STORE_BYTES + CACHE_LINE_BYTES, 1);
    }
    """
    void prefetch_next_frame(const uint8_t *frame) nogil
    void prefetch_entry(void *pointer) nogil
    void prefetch_target(const uint8_t *place) nogil

cdef enum:
    # While a batch is only measured: so many entries pass in the time that memory takes.
    PREFETCH_DISTANCE_MEASURE = 64


cdef void copy_items(list items, uint8_t *offsets, uint8_t *data) noexcept
cpdef bytes encode_batch(list items)
cpdef bytes as_bytes(entry, Py_ssize_t position)
cpdef list as_list(entries)
cpdef tuple checked_items(entries)
