/* Copying the entries of a batch, most of which are as long as a log line.
 *
 * Of 64 to 128 bytes the first 64 and the last 64 are copied, which overlap: nothing depends on the length, so lines of varying
 * lengths cost what lines of one length cost, and no call is made. Every other length is left to memcpy. Where the CPU has AVX2,
 * 64 bytes are two loads and two stores; copy_entries_choose, under the GIL, decides.
 */
#ifndef COMETLOG_COPY_ENTRIES_H
#define COMETLOG_COPY_ENTRIES_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define HALF_BYTES 64
#define ENTRIES_AHEAD 8 /* so many objects are fetched before they are copied */

typedef void copy_bytes_function(unsigned char *target, const unsigned char *source, size_t length);
typedef void copy_entries_function(PyObject *items, unsigned char *offsets, unsigned char *data);

static inline void copy_bytes(unsigned char *target, const unsigned char *source, size_t length)
{
    if (length - HALF_BYTES > HALF_BYTES) {
        memcpy(target, source, length);
        return;
    }
    unsigned char first[HALF_BYTES], last[HALF_BYTES];
    memcpy(first, source, HALF_BYTES);
    memcpy(last, source + length - HALF_BYTES, HALF_BYTES);
    memcpy(target, first, HALF_BYTES);
    memcpy(target + length - HALF_BYTES, last, HALF_BYTES);
}

/* Write Arrow offsets and then the bytes of every item of a list; the caller knows that they are bytes and fit. */
static inline __attribute__((always_inline)) void copy_entries_by(
    copy_bytes_function *copy, PyObject *items, unsigned char *offsets, unsigned char *data
)
{
    const Py_ssize_t count = PyList_GET_SIZE(items);
    int32_t *slots = (int32_t *)(void *)offsets, offset = 0;
    for (Py_ssize_t position = 0; position < count; position++) {
        if (position + ENTRIES_AHEAD < count)
            __builtin_prefetch((const char *)PyList_GET_ITEM(items, position + ENTRIES_AHEAD) + 32);
        PyObject *item = PyList_GET_ITEM(items, position);
        slots[position] = offset;
        copy(data + offset, (const unsigned char *)PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item));
        offset += (int32_t)PyBytes_GET_SIZE(item);
    }
    slots[count] = offset;
}

static void copy_entries_portably(PyObject *items, unsigned char *offsets, unsigned char *data)
{
    copy_entries_by(copy_bytes, items, offsets, data);
}

static copy_entries_function *copy_entries = copy_entries_portably;

#if defined(__x86_64__)
#define AVX2_TARGET __attribute__((target("avx2")))

AVX2_TARGET static inline void copy_bytes_avx2(unsigned char *target, const unsigned char *source, size_t length)
{
    if (length - HALF_BYTES > HALF_BYTES) {
        memcpy(target, source, length);
        return;
    }
    const __m256i *from = (const __m256i *)(const void *)source;
    const __m256i *from_last = (const __m256i *)(const void *)(source + length - HALF_BYTES);
    __m256i *to = (__m256i *)(void *)target, *to_last = (__m256i *)(void *)(target + length - HALF_BYTES);
    const __m256i first = _mm256_loadu_si256(from), second = _mm256_loadu_si256(from + 1);
    const __m256i third = _mm256_loadu_si256(from_last), fourth = _mm256_loadu_si256(from_last + 1);
    _mm256_storeu_si256(to, first);
    _mm256_storeu_si256(to + 1, second);
    _mm256_storeu_si256(to_last, third);
    _mm256_storeu_si256(to_last + 1, fourth);
}

AVX2_TARGET static void copy_entries_avx2(PyObject *items, unsigned char *offsets, unsigned char *data)
{
    copy_entries_by(copy_bytes_avx2, items, offsets, data);
}

/* Choose the portable copy, or the fastest that this CPU has. */
static void copy_entries_choose(int portable)
{
    copy_entries = !portable && __builtin_cpu_supports("avx2") ? copy_entries_avx2 : copy_entries_portably;
}
#else
static void copy_entries_choose(int portable)
{
    (void)portable;
}
#endif

#endif
