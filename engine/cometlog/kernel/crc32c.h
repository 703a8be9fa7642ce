/* CRC32C (Castagnoli): the checksum of every frame, header and record of the engine.
 *
 * Each extension module compiles its own copy of crc32c.c, so nothing here is exported from the module.
 *
 * The functions work on a raw state, without the inversions at both ends, so that pieces chain by handing the state on:
 *
 *     uint32_t state = CRC32C_START;
 *     state = crc32c_update(state, header, sizeof header);
 *     state = crc32c_update(state, payload, length);
 *     uint32_t checksum = crc32c_finish(state);
 *
 * Thread safety: crc32c_update may run in any thread at any time, without the interpreter lock; whoever calls first
 * initialises. crc32c_force may run beside it, since all implementations give the same results.
 * Invariants: no byte outside [data, data + length) is read; data needs no alignment and may be NULL when length is 0.
 */
#ifndef COMETLOG_CRC32C_H
#define COMETLOG_CRC32C_H

#include <stddef.h>
#include <stdint.h>

#define CRC32C_START UINT32_C(0xFFFFFFFF)

#pragma GCC visibility push(hidden)

typedef uint32_t crc32c_function(uint32_t state, const void *data, size_t length);
typedef uint32_t crc32c_frame_function(
    uint32_t state, const void *data, size_t length, uint64_t unit, uint64_t word, uint64_t timestamp_ns, uint32_t meta
);

/* Owned by crc32c.c. Until crc32c_initialise has run they point at functions that initialise first. */
extern crc32c_function *crc32c_selected;
extern crc32c_frame_function *crc32c_selected_frame;

/* Fill the tables and select the fastest implementation this CPU has. Idempotent; call it when a module is imported. */
void crc32c_initialise(void);

/* Name of the selected implementation: "avx512 vpclmulqdq", "sse4.2 3 lanes", "armv8-crc 3 lanes" or "table". */
const char *crc32c_implementation(void);

/* Name of the index-th implementation usable on this CPU, fastest first, or NULL past the last. */
const char *crc32c_available(size_t index);

/* Select an implementation by name, for tests and benchmarks; nonzero, with nothing changed, if it is unavailable. */
int crc32c_force(const char *name);

/* One indirect call: the instructions need a target attribute, which keeps them from being inlined into generic code.
 * Acquire pairs with the release in crc32c.c: who sees an implementation also sees its tables. */
static inline uint32_t crc32c_update(uint32_t state, const void *data, size_t length)
{
    return __atomic_load_n(&crc32c_selected, __ATOMIC_ACQUIRE)(state, data, length);
}

/* Goes on over a payload and the 28 bytes of its frame that come behind it: as crc32c_update of both, in one call. */
static inline uint32_t crc32c_update_frame(
    uint32_t state, const void *data, size_t length, uint64_t unit, uint64_t word, uint64_t timestamp_ns, uint32_t meta
)
{
    crc32c_frame_function *selected = __atomic_load_n(&crc32c_selected_frame, __ATOMIC_ACQUIRE);
    return selected(state, data, length, unit, word, timestamp_ns, meta);
}

static inline uint32_t crc32c_finish(uint32_t state)
{
    return ~state;
}

#pragma GCC visibility pop

#endif
