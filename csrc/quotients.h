/* Symbols of elements, for those who code or count them. */
#ifndef EDGE_CODER_QUOTIENTS_H
#define EDGE_CODER_QUOTIENTS_H

#include "common.h"

/* The symbol of quotient q (model 0), from q or, if it is negative, -q - 1. */
static inline unsigned symbol_of_quotient(uint64_t folded, unsigned negative,
                                          unsigned *extra_bits) {
    const uint64_t size = folded + negative;
    if (size < EXACT_BELOW) {
        *extra_bits = 0;
        return (unsigned)(2 * size) - negative;
    }
    const unsigned top = highest_bit(size);
    *extra_bits = top - 2;
    return 2 * EXACT_BELOW - 1 + 2 * ((top - 5) * 4 + (unsigned)(size >> (top - 2))) + negative;
}

/* Most quotients are small: their symbols, and 2^8 times their extra bits, by sign. */
#define SMALL_QUOTIENTS 512

struct small_quotients {
    uint16_t of[2][SMALL_QUOTIENTS];
};

static inline void fill_small_quotients(struct small_quotients *out) {
    for (unsigned negative = 0; negative < 2; negative++) {
        for (unsigned folded = 0; folded < SMALL_QUOTIENTS; folded++) {
            unsigned extra_bits;
            const unsigned symbol = symbol_of_quotient(folded, negative, &extra_bits);
            out->of[negative][folded] = (uint16_t)(symbol | extra_bits << 8);
        }
    }
}

#endif
