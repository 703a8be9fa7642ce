/* A consumer group's position as one word: the entry number and a check that finds up to three flipped bits. FORMAT.md, "The group
 * offsets". */
#ifndef COMETLOG_POSITION_WORD_H
#define COMETLOG_POSITION_WORD_H

#include <stdint.h>

#define POSITION_CRC_POLYNOMIAL 0x97u /* Hamming distance 4 up to 119 bits (Koopman's tables of CRC polynomials) */
#define POSITION_CRC_START 0xA5u      /* so that position 0 is not the word 0, which means a free line */
#define POSITION_NUMBER_BYTES 7

/* position_crc_tables[byte][value]: what a byte of the number adds to the check. The sum of the seven does not wait for one another, as
 * steps from byte to byte would. */
static uint8_t position_crc_tables[POSITION_NUMBER_BYTES][256];
static uint8_t position_crc_of_zeros; /* the check of position 0 */

static inline uint8_t position_crc_step(uint8_t state)
{
    unsigned wide = state;
    for (int bit = 0; bit < 8; bit++)
        wide = wide & 0x80u ? (wide << 1 ^ POSITION_CRC_POLYNOMIAL) & 0xFFu : wide << 1;
    return (uint8_t)wide;
}

static inline void position_word_initialise(void)
{
    position_crc_of_zeros = POSITION_CRC_START;
    for (int byte = POSITION_NUMBER_BYTES - 1; byte >= 0; byte--) {
        position_crc_of_zeros = position_crc_step(position_crc_of_zeros);
        for (unsigned value = 0; value < 256; value++)
            position_crc_tables[byte][value] =
                position_crc_step(byte == POSITION_NUMBER_BYTES - 1 ? value : position_crc_tables[byte + 1][value]);
    }
}

static inline uint64_t position_word(uint64_t number)
{
    uint8_t check = position_crc_of_zeros;
    for (int byte = 0; byte < POSITION_NUMBER_BYTES; byte++)
        check ^= position_crc_tables[byte][(uint8_t)(number >> (8 * byte))];
    return number << 8 | check;
}

/* Whether a word is a position that was stored, and not a free line or a damaged one. */
static inline int position_word_holds(uint64_t word) { return position_word(word >> 8) == word; }

#endif
