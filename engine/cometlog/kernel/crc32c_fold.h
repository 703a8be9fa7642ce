/* CRC32C by carry-less multiplication of 64 bytes at a time; part of crc32c.c, x86-64 only.
 *
 * 64 bytes of the message are four polynomials of degree < 128. Multiplying one by x^D modulo the generator moves it D bits to the
 * front, where it is added to the bytes that lie there. Short runs take one accumulator of 64 bytes over the message, long ones four,
 * 256 bytes a step. What is left over moves by as many bytes as it has; no branch depends on a length but the number of steps, so log
 * lines of varying lengths are not mispredicted. At the end the four polynomials meet in one, which is fed to the CPU's instruction.
 * V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009, describe the idea.
 *
 * Bits are reflected: bit k of a 64-bit half is the coefficient of x^(63 - k), and the lower half, the earlier bytes, has the higher
 * powers. A carry-less product of two reflected polynomials carries one extra x, and a factor below x^32 in the low bits of a word
 * stands for itself times x^32. So a half that is to be multiplied by x^d takes the factor x^(d - 33); the lower half moves D + 64 bits.
 */
#define FOLD_NAME "avx512 vpclmulqdq"
#define FOLD_TARGET __attribute__((target("sse4.2,pclmul,avx512f,avx512bw,avx512vl,vpclmulqdq")))
#define FOLD_BYTES 64                      /* an accumulator */
#define FOLD_STEP_BYTES (4 * FOLD_BYTES)   /* all four */
#define FOLD_STEPS_BYTES_MIN 768           /* from here on four accumulators are faster than one */

/* The factors of the lower and the upper halves that move an accumulator so many bytes to the front. */
typedef uint64_t fold_factor[2];

static fold_factor fold_bytes[FOLD_BYTES + 1];       /* [n]: n bytes; 0 is not used */
static fold_factor fold_accumulators[5];             /* [n]: n accumulators; 0 is not used */
static fold_factor fold_last[4];                     /* each of the four polynomials onto the last, which stays: 0 */

static bool fold_supported(void)
{
    return hardware_supported() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("vpclmulqdq");
}

static void fill_fold_factor(fold_factor factor, size_t bytes)
{
    static const unsigned char zeros[FOLD_STEP_BYTES];
    uint32_t before = 1; /* x^31; multiplied by x^-64 it is x^-33 */
    for (int bit = 0; bit < 64; bit++)
        before = before >> 31 ? (before ^ GENERATOR_REFLECTED) << 1 | 1 : before << 1;
    factor[0] = update_table(1, zeros, bytes);
    factor[1] = update_table(before, zeros, bytes);
}

static void fill_fold_factors(void)
{
    for (size_t bytes = 1; bytes <= FOLD_BYTES; bytes++)
        fill_fold_factor(fold_bytes[bytes], bytes);
    for (size_t count = 1; count <= 4; count++)
        fill_fold_factor(fold_accumulators[count], count * FOLD_BYTES);
    for (size_t place = 0; place < 3; place++)
        fill_fold_factor(fold_last[place], (3 - place) * sizeof(__m128i));
}

FOLD_TARGET static inline __m512i fold_load(const unsigned char *bytes)
{
    return _mm512_loadu_si512((const void *)bytes);
}

FOLD_TARGET static inline __m512i fold_start(const unsigned char *bytes, uint32_t state)
{
    return _mm512_xor_si512(fold_load(bytes), _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)state)));
}

FOLD_TARGET static inline __m512i fold_factor_of(const fold_factor factor)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)factor));
}

/* `passed` moved to the front, plus `ahead`. */
FOLD_TARGET static inline __m512i fold_onto(__m512i passed, __m512i factor, __m512i ahead)
{
    __m512i lower = _mm512_clmulepi64_epi128(passed, factor, 0x00);
    __m512i upper = _mm512_clmulepi64_epi128(passed, factor, 0x11);
    return _mm512_ternarylogic_epi64(lower, upper, ahead, 0x96); /* the sum of the three */
}

/* Passes the `length` bytes, less than an accumulator, that follow on at least as many bytes before; returns the state behind them. */
FOLD_TARGET static inline uint32_t fold_end(__m512i sum, const unsigned char *bytes, size_t length)
{
    if (length > 0) {
        __m512i rest = _mm512_maskz_loadu_epi8(~UINT64_C(0) << (FOLD_BYTES - length), bytes + length - FOLD_BYTES);
        sum = fold_onto(sum, fold_factor_of(fold_bytes[length]), rest);
    }
    __m512i moved = fold_onto(sum, fold_load((const unsigned char *)fold_last), _mm512_setzero_si512());
    __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(moved), _mm512_extracti64x4_epi64(moved, 1));
    __m128i last = _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    last = _mm_xor_si128(last, _mm512_extracti32x4_epi32(sum, 3));
    uint64_t state = hardware_word(0, (uint64_t)_mm_cvtsi128_si64(last));
    return (uint32_t)hardware_word(state, (uint64_t)_mm_extract_epi64(last, 1));
}

FOLD_TARGET static inline uint32_t feed_fold(uint32_t start, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    if (length < FOLD_BYTES)
        return feed_hardware(start, data, length);
    const __m512i one = fold_factor_of(fold_accumulators[1]);
    __m512i sum = fold_start(bytes, start);
    if (length >= FOLD_STEPS_BYTES_MIN) {
        const __m512i four = fold_factor_of(fold_accumulators[4]);
        __m512i second = fold_load(bytes + FOLD_BYTES);
        __m512i third = fold_load(bytes + 2 * FOLD_BYTES);
        __m512i fourth = fold_load(bytes + 3 * FOLD_BYTES);
        for (; length >= 2 * FOLD_STEP_BYTES; length -= FOLD_STEP_BYTES) {
            bytes += FOLD_STEP_BYTES;
            sum = fold_onto(sum, four, fold_load(bytes));
            second = fold_onto(second, four, fold_load(bytes + FOLD_BYTES));
            third = fold_onto(third, four, fold_load(bytes + 2 * FOLD_BYTES));
            fourth = fold_onto(fourth, four, fold_load(bytes + 3 * FOLD_BYTES));
        }
        fourth = fold_onto(second, fold_factor_of(fold_accumulators[2]), fold_onto(third, one, fourth));
        sum = fold_onto(sum, fold_factor_of(fold_accumulators[3]), fourth);
        bytes += FOLD_STEP_BYTES - FOLD_BYTES;
        length -= FOLD_STEP_BYTES - FOLD_BYTES;
    }
    for (; length >= 2 * FOLD_BYTES; length -= FOLD_BYTES) {
        bytes += FOLD_BYTES;
        sum = fold_onto(sum, one, fold_load(bytes));
    }
    return fold_end(sum, bytes + FOLD_BYTES, length - FOLD_BYTES);
}

FOLD_TARGET static uint32_t update_fold(uint32_t state, const void *data, size_t length)
{
    return feed_fold(state, data, length);
}

FOLD_TARGET static uint32_t update_frame_fold(
    uint32_t start, const void *data, size_t length, uint64_t unit, uint64_t word, uint64_t timestamp_ns, uint32_t meta
)
{
    return feed_behind(feed_fold(start, data, length), unit, word, timestamp_ns, meta);
}
