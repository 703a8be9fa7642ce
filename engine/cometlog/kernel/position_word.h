/* A consumer group's position as one word: the entry number and a check that finds up to three flipped bits. FORMAT.md, "The group
 * offsets". */
#ifndef COMETLOG_POSITION_WORD_H
#define COMETLOG_POSITION_WORD_H

#include <stdint.h>

#define POSITION_CRC_POLYNOMIAL 0x97u /* Hamming distance 4 up to 119 bits (Koopman's tables of CRC polynomials) */
#define POSITION_CRC_START 0xA5u      /* so that position 0 is not the word 0, which means a free line */
#define POSITION_NUMBER_BYTES 7

static uint8_t position_crc_table[256];

static inline void position_word_initialise(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned state = byte;
        for (int bit = 0; bit < 8; bit++)
            state = state & 0x80u ? (state << 1 ^ POSITION_CRC_POLYNOMIAL) & 0xFFu : state << 1;
        position_crc_table[byte] = (uint8_t)state;
    }
}

static inline uint64_t position_word(uint64_t number)
{
    uint8_t state = POSITION_CRC_START;
    for (int byte = 0; byte < POSITION_NUMBER_BYTES; byte++)
        state = position_crc_table[state ^ (uint8_t)(number >> (8 * byte))];
    return number << 8 | state;
}

/* Whether a word is a position that was stored, and not a free line or a damaged one. */
static inline int position_word_holds(uint64_t word) { return position_word(word >> 8) == word; }

#endif
