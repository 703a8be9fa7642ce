/* CRC32C by the CPU's own instruction where there is one, by tables elsewhere; chosen at run time.
 *
 * A state is a polynomial over GF(2) of degree < 32, bit-reflected: bit 31 is the coefficient of x^0. Feeding n bytes
 * multiplies the state by x^(8n) and adds the bytes' own checksum, all modulo the generator. That makes it linear, and
 * gives the three lanes: an instruction takes three cycles but one can start in each, so three neighbouring runs of
 * words are summed side by side and the first two sums are then multiplied by the power of x that stands for the bytes
 * behind them. V. Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction", Intel, 2011,
 * describe the idea. Here a run may have any length, so that a short log line gains by it as well.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "crc32c.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#if defined(__x86_64__)
#define HARDWARE_X86_64 1
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#define HARDWARE_ARM64 1
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1UL << 7)
#endif
#endif
#endif

#define GENERATOR_REFLECTED UINT32_C(0x82F63B78) /* x^32 + x^28 + x^27 + ... + x^6 + 1; RFC 3720, 12.1 */
#define WORD_BYTES 8
#define FEW_WORDS_MAX 15

/* ---- Tables: eight bytes a step ---- */

/* byte_tables[k][b]: the state that byte b leaves when k zero bytes follow it. */
static uint32_t byte_tables[WORD_BYTES][256];

static void fill_byte_tables(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t state = byte;
        for (int bit = 0; bit < 8; bit++)
            state = (state >> 1) ^ (state & 1 ? GENERATOR_REFLECTED : 0);
        byte_tables[0][byte] = state;
    }
    for (int following = 1; following < WORD_BYTES; following++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t state = byte_tables[following - 1][byte];
            byte_tables[following][byte] = (state >> 8) ^ byte_tables[0][state & 0xFF];
        }
}

/* Written for any byte order; compilers turn it into one load where the order is little-endian. */
static inline uint32_t load_little_endian(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t update_table(uint32_t state, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    for (; length >= WORD_BYTES; length -= WORD_BYTES, bytes += WORD_BYTES) {
        uint32_t low = state ^ load_little_endian(bytes);
        uint32_t high = load_little_endian(bytes + 4);
        state = byte_tables[7][low & 0xFF] ^ byte_tables[6][low >> 8 & 0xFF] ^ byte_tables[5][low >> 16 & 0xFF] ^
                byte_tables[4][low >> 24] ^ byte_tables[3][high & 0xFF] ^ byte_tables[2][high >> 8 & 0xFF] ^
                byte_tables[1][high >> 16 & 0xFF] ^ byte_tables[0][high >> 24];
    }
    for (; length > 0; length--, bytes++)
        state = (state >> 8) ^ byte_tables[0][(state ^ *bytes) & 0xFF];
    return state;
}

static uint32_t update_frame_table(
    uint32_t state, const void *data, size_t length, uint64_t unit, uint64_t word, uint64_t timestamp_ns, uint32_t meta
)
{
    unsigned char behind[28];
    memcpy(behind, &unit, 8);
    memcpy(behind + 8, &word, 8);
    memcpy(behind + 16, &timestamp_ns, 8);
    memcpy(behind + 24, &meta, 4);
    return update_table(update_table(state, data, length), behind, sizeof behind);
}

/* ---- The CPU's instruction ----
 * Each architecture gives: HARDWARE_NAME; HARDWARE_TARGET, the attribute its functions need; LANES_WORDS_MIN, the words
 * from which lanes beat one chain; hardware_supported; hardware_word, which feeds one word; lanes_product, the
 * multiples of two lanes as a word to be fed with the last word of the third.
 */
#if defined(HARDWARE_X86_64) || defined(HARDWARE_ARM64)

#define LANE_WORDS_MAX 256 /* 2 KiB a lane: longer ones measure no faster and only make the table below larger */

/* lane_shifts[q]: multipliers that move a state q words (0) and 2q words (1) to the front. A carry-less product of two
 * reflected polynomials carries one extra x, and feeding it as a word another x^32, hence x^(64q - 33). */
static uint64_t lane_shifts[LANE_WORDS_MAX + 1][2];

static void fill_lane_shifts(void)
{
    static const unsigned char zeros[WORD_BYTES];
    uint32_t shift = 1; /* x^31, one word's */
    for (size_t words = 1; words <= 2 * LANE_WORDS_MAX; words++) {
        if (words <= LANE_WORDS_MAX)
            lane_shifts[words][0] = shift;
        if (words % 2 == 0)
            lane_shifts[words / 2][1] = shift;
        shift = update_table(shift, zeros, WORD_BYTES);
    }
}

#ifdef HARDWARE_X86_64
#define HARDWARE_NAME "sse4.2 3 lanes"
#define HARDWARE_TARGET __attribute__((target("sse4.2,pclmul")))
/* Measured between the two: calls of one length gain from 12 words on; where lengths vary, the mispredicted end of a
 * second loop eats the gain up to about 20. */
#define LANES_WORDS_MIN 16

static bool hardware_supported(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

HARDWARE_TARGET static inline uint64_t hardware_word(uint64_t state, uint64_t word)
{
    return _mm_crc32_u64(state, word);
}

HARDWARE_TARGET static inline uint64_t lanes_product(uint64_t first, uint64_t second, const uint64_t shifts[2])
{
    __m128i both_shifts = _mm_loadu_si128((const __m128i *)shifts);
    __m128i first_product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)first), both_shifts, 0x10);
    __m128i second_product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)second), both_shifts, 0x00);
    return (uint64_t)_mm_cvtsi128_si64(_mm_xor_si128(first_product, second_product));
}
#endif

#ifdef HARDWARE_ARM64
#include "crc32c_arm64.h"
#endif

static inline uint64_t load_word(const unsigned char *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* The last 1 to 7 bytes before `end`, first byte lowest, without reading before the `length` bytes that `end` closes. */
static inline uint64_t load_tail(const unsigned char *end, size_t tail_bytes, size_t length)
{
    if (length >= WORD_BYTES)
        return load_word(end - WORD_BYTES) >> (8 * (WORD_BYTES - tail_bytes));
    const unsigned char *bytes = end - tail_bytes;
    if (tail_bytes >= 4) {
        uint32_t first, last;
        memcpy(&first, bytes, 4);
        memcpy(&last, end - 4, 4);
        return first | (uint64_t)last << (8 * (tail_bytes - 4));
    }
    size_t middle = tail_bytes / 2;
    return bytes[0] | (uint64_t)bytes[middle] << (8 * middle) | (uint64_t)end[-1] << (8 * (tail_bytes - 1));
}

/* Feeds the `words` words, at most FEW_WORDS_MAX, before `end`: one jump instead of a branch for each. */
HARDWARE_TARGET static inline uint64_t feed_few_words(uint64_t state, const unsigned char *end, size_t words)
{
#define FEED(number) \
    case number: \
        state = hardware_word(state, load_word(end - (number) * WORD_BYTES)); \
        __attribute__((fallthrough))
    switch (words) {
        FEED(15);
        FEED(14);
        FEED(13);
        FEED(12);
        FEED(11);
        FEED(10);
        FEED(9);
        FEED(8);
        FEED(7);
        FEED(6);
        FEED(5);
        FEED(4);
        FEED(3);
        FEED(2);
        FEED(1);
    default:
        return state;
    }
#undef FEED
}

/* Feeds the last 1 to 7 bytes of a word: the end of a word of zeros; the part of the state that lies behind it joins unchanged. */
HARDWARE_TARGET static inline uint64_t hardware_tail(uint64_t state, uint64_t tail, size_t tail_bytes)
{
    uint64_t fed = hardware_word(0, (state ^ tail) << (8 * (WORD_BYTES - tail_bytes)));
    return state >> (8 * tail_bytes) ^ fed;
}

HARDWARE_TARGET static inline uint32_t feed_hardware(uint32_t start, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    uint64_t state = start;
    size_t words = length / WORD_BYTES;
    while (words >= LANES_WORDS_MIN) {
        size_t lane_words = words / 3 < LANE_WORDS_MAX ? words / 3 : LANE_WORDS_MAX;
        size_t lane_bytes = lane_words * WORD_BYTES;
        const unsigned char *last_word = bytes + lane_bytes - WORD_BYTES;
        uint64_t second = 0, third = 0;
        for (; bytes < last_word; bytes += WORD_BYTES) {
            state = hardware_word(state, load_word(bytes));
            second = hardware_word(second, load_word(bytes + lane_bytes));
            third = hardware_word(third, load_word(bytes + 2 * lane_bytes));
        }
        state = hardware_word(state, load_word(bytes));
        second = hardware_word(second, load_word(bytes + lane_bytes));
        uint64_t product = lanes_product(state, second, lane_shifts[lane_words]);
        state = hardware_word(third, load_word(bytes + 2 * lane_bytes) ^ product);
        bytes += WORD_BYTES + 2 * lane_bytes;
        words -= 3 * lane_words;
    }
    for (; words > FEW_WORDS_MAX; words--, bytes += WORD_BYTES)
        state = hardware_word(state, load_word(bytes));
    bytes += words * WORD_BYTES;
    state = feed_few_words(state, bytes, words);
    /* One step for all seven tails: branches on 4, 2 and 1 bytes are mispredicted when lengths vary, and cost 6 ns. */
    size_t tail_bytes = length % WORD_BYTES;
    if (tail_bytes == 0)
        return (uint32_t)state;
    return (uint32_t)hardware_tail(state, load_tail(bytes + tail_bytes, tail_bytes, length), tail_bytes);
}

HARDWARE_TARGET static uint32_t update_hardware(uint32_t state, const void *data, size_t length)
{
    return feed_hardware(state, data, length);
}

/* Feeds the 28 bytes behind a payload. */
HARDWARE_TARGET static inline uint32_t feed_behind(
    uint64_t state, uint64_t unit, uint64_t word, uint64_t timestamp_ns, uint32_t meta
)
{
    state = hardware_word(hardware_word(hardware_word(state, unit), word), timestamp_ns);
    return (uint32_t)hardware_tail(state, meta, 4);
}

HARDWARE_TARGET static uint32_t update_frame_hardware(
    uint32_t start, const void *data, size_t length, uint64_t unit, uint64_t word, uint64_t timestamp_ns, uint32_t meta
)
{
    return feed_behind(feed_hardware(start, data, length), unit, word, timestamp_ns, meta);
}

#ifdef HARDWARE_X86_64
#include "crc32c_fold.h"
#endif
#endif

/* ---- Choice ---- */

static bool table_supported(void)
{
    return true;
}

/* Fastest first. */
static const struct implementation {
    const char *name;
    crc32c_function *update;
    crc32c_frame_function *update_frame;
    bool (*supported)(void);
} implementations[] = {
#ifdef FOLD_NAME
    {FOLD_NAME, update_fold, update_frame_fold, fold_supported},
#endif
#ifdef HARDWARE_NAME
    {HARDWARE_NAME, update_hardware, update_frame_hardware, hardware_supported},
#endif
    {"table", update_table, update_frame_table, table_supported},
};

#define IMPLEMENTATION_COUNT (sizeof implementations / sizeof implementations[0])

static uint32_t update_first(uint32_t state, const void *data, size_t length)
{
    crc32c_initialise();
    return crc32c_update(state, data, length);
}

static uint32_t update_frame_first(
    uint32_t state, const void *data, size_t length, uint64_t unit, uint64_t word, uint64_t timestamp_ns, uint32_t meta
)
{
    crc32c_initialise();
    return crc32c_update_frame(state, data, length, unit, word, timestamp_ns, meta);
}

crc32c_function *crc32c_selected = update_first;
crc32c_frame_function *crc32c_selected_frame = update_frame_first;

static void select_implementation(const struct implementation *chosen)
{
    __atomic_store_n(&crc32c_selected, chosen->update, __ATOMIC_RELEASE);
    __atomic_store_n(&crc32c_selected_frame, chosen->update_frame, __ATOMIC_RELEASE);
}

static const struct implementation *find_available(size_t index)
{
    for (size_t i = 0; i < IMPLEMENTATION_COUNT; i++)
        if (implementations[i].supported() && index-- == 0)
            return &implementations[i];
    return NULL;
}

static void initialise_once(void)
{
    fill_byte_tables();
#ifdef HARDWARE_NAME
    fill_lane_shifts();
#endif
#ifdef FOLD_NAME
    fill_fold_factors();
#endif
    select_implementation(find_available(0));
}

void crc32c_initialise(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, initialise_once);
}

const char *crc32c_implementation(void)
{
    crc32c_initialise();
    crc32c_function *selected = __atomic_load_n(&crc32c_selected, __ATOMIC_ACQUIRE);
    size_t i = 0;
    while (implementations[i].update != selected)
        i++;
    return implementations[i].name;
}

const char *crc32c_available(size_t index)
{
    const struct implementation *found = find_available(index);
    return found == NULL ? NULL : found->name;
}

int crc32c_force(const char *name)
{
    crc32c_initialise();
    for (size_t i = 0; i < IMPLEMENTATION_COUNT; i++)
        if (implementations[i].supported() && strcmp(implementations[i].name, name) == 0) {
            select_implementation(&implementations[i]);
            return 0;
        }
    return -1;
}
