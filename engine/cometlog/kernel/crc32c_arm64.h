/* What crc32c.c asks of an architecture, for arm64: see "The CPU's instruction" there. */
#define HARDWARE_NAME "armv8-crc 3 lanes"
/* Estimated, not measured: the two products cost some 50 cycles, a word saved from the chain is worth one or two. */
#define LANES_WORDS_MIN 96

/* Compiler built-ins, because clang before 16 hides those of arm_acle.h unless the whole file is built for them. */
#ifdef __clang__
#define HARDWARE_TARGET __attribute__((target("crc")))
#define HARDWARE_CRC32C_WORD __builtin_arm_crc32cd
#else
#define HARDWARE_TARGET __attribute__((target("+crc")))
#define HARDWARE_CRC32C_WORD __builtin_aarch64_crc32cx
#endif

static bool hardware_supported(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

HARDWARE_TARGET static inline uint64_t hardware_word(uint64_t state, uint64_t word)
{
    return HARDWARE_CRC32C_WORD((uint32_t)state, word);
}

/* By integer multiplication, because CPUs with this instruction may lack the carry-less one. With only every fourth bit
 * kept on both sides, a column of the product sums at most eight ones, which stay inside its four bits. */
static inline uint64_t multiply_carryless(uint64_t left, uint64_t right)
{
    uint64_t product = 0;
    for (int column = 0; column < 4; column++) {
        uint64_t sum = 0;
        for (int shift = 0; shift < 4; shift++)
            sum ^= (left & UINT64_C(0x11111111) << shift) * (right & UINT64_C(0x11111111) << ((column - shift) & 3));
        product |= sum & UINT64_C(0x1111111111111111) << column;
    }
    return product;
}

static inline uint64_t lanes_product(uint64_t first, uint64_t second, const uint64_t shifts[2])
{
    return multiply_carryless(first, shifts[1]) ^ multiply_carryless(second, shifts[0]);
}
