/* Symbols of elements of one width; part of passes of elements.h. */

/* The symbol of a value, and its raw bits: their number and what they are. */
static inline unsigned NAME(split)(const struct small_quotients *small, UNSIGNED value,
                                   unsigned low_bits, unsigned *raw_bits, WORK *raw) {
    /* The floor of a negative number's half is the complement of its complement's half. */
    const UNSIGNED sign = NAME(spread_sign)(value);
    const WORK folded = (WORK)(UNSIGNED)(value ^ sign) >> low_bits;
    unsigned symbol, extra;
    if (folded < SMALL_QUOTIENTS) {
        const unsigned both = small->of[sign & 1][folded];
        symbol = both & 255;
        extra = both >> 8;
    } else {
        symbol = symbol_of_quotient((uint64_t)folded, sign & 1, &extra);
    }
    /* Of a negative number the extra bits are those of its size, the low ones its own. */
    const WORK flip = (WORK)(0 - (WORK)(sign & 1)) << low_bits;
    *raw_bits = extra + low_bits;
    *raw = (((WORK)value + flip) ^ flip) & (((WORK)1 << *raw_bits) - 1);
    return symbol;
}

/* The same for the models whose symbols are the upper bits. */
static inline unsigned NAME(cut)(UNSIGNED value, unsigned low_bits, unsigned *raw_bits, WORK *raw) {
    *raw_bits = low_bits;
    *raw = value & (((WORK)1 << low_bits) - 1);
    return (unsigned)(value >> low_bits);
}
