/* Passes over the elements of one width. No include guard: kernel.c includes this once for each
 * width, with BITS defined as 8, 16, 32 or 64. Passes take at most PIECE elements each and are
 * written so that compilers turn most of them into vector code. */

#define JOIN_(name, bits) name##_##bits
#define JOIN(name, bits) JOIN_(name, bits)
#define NAME(name) JOIN(name, BITS)

#if BITS == 8
#define UNSIGNED uint8_t
#define WORK uint32_t
#elif BITS == 16
#define UNSIGNED uint16_t
#define WORK uint32_t
#elif BITS == 32
#define UNSIGNED uint32_t
#define WORK uint32_t
#else
#define UNSIGNED uint64_t
#define WORK uint64_t
#endif

/* In a meaning: where its number of raw bits stands. */
#if BITS <= 16
#define RAW_BITS_PLACE 48
#else
#define RAW_BITS_PLACE 32
#endif

#define SIGN_BIT ((UNSIGNED)((UNSIGNED)1 << (BITS - 1)))

static inline UNSIGNED NAME(element)(const uint8_t *at) {
    UNSIGNED value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void NAME(put_element)(uint8_t *at, UNSIGNED value) { memcpy(at, &value, sizeof value); }

/* All bits set where the sign bit is. */
static inline UNSIGNED NAME(spread_sign)(UNSIGNED value) {
    return (UNSIGNED)(0 - (UNSIGNED)(value >> (BITS - 1)));
}

/* For floats, differences of ordered integers, reflected for negative sources, come down to this:
 * flip all bits below the sign of the target where the signs differ, and subtract. */
static inline UNSIGNED NAME(crossed)(UNSIGNED source, UNSIGNED other) {
    return (UNSIGNED)(NAME(spread_sign)((UNSIGNED)(source ^ other)) & (UNSIGNED)(SIGN_BIT - 1));
}

static void NAME(differences)(bool is_float, const uint8_t *restrict source,
                              const uint8_t *restrict target, size_t count,
                              UNSIGNED *restrict out) {
    if (is_float) {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            const UNSIGNED t = NAME(element)(target + i * sizeof t);
            out[i] = (UNSIGNED)((UNSIGNED)(t ^ NAME(crossed)(s, t)) - s);
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            const UNSIGNED t = NAME(element)(target + i * sizeof t);
            out[i] = (UNSIGNED)(t - s);
        }
    }
}

/* What stands for elements in symbols and raw bits: `values`, by model. */
static void NAME(take)(const struct form *form, const uint8_t *restrict source,
                       const uint8_t *restrict target, size_t count, UNSIGNED *restrict values) {
    if (form->model == EDGE_CODER_DIFFERENCE) {
        NAME(differences)(form->is_float, source, target, count, values);
    } else if (form->model == EDGE_CODER_GIVEN) {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            values[i] = (UNSIGNED)(NAME(element)(target + i * sizeof s) ^ (UNSIGNED)(s & SIGN_BIT));
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            values[i] = NAME(element)(target + i * sizeof values[0]);
        }
    }
}

/* The inverse of `take`. */
static void NAME(put)(const struct form *form, const uint8_t *restrict source,
                      const UNSIGNED *restrict values, size_t count, uint8_t *restrict target) {
    if (form->model == EDGE_CODER_ALONE) {
        for (size_t i = 0; i < count; i++) {
            NAME(put_element)(target + i * sizeof values[0], values[i]);
        }
    } else if (form->model == EDGE_CODER_GIVEN) {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            NAME(put_element)(target + i * sizeof s, (UNSIGNED)(values[i] ^ (UNSIGNED)(s & SIGN_BIT)));
        }
    } else if (form->is_float) {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            const UNSIGNED ordered = (UNSIGNED)(s + values[i]);
            NAME(put_element)(target + i * sizeof s, (UNSIGNED)(ordered ^ NAME(crossed)(s, ordered)));
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            NAME(put_element)(target + i * sizeof s, (UNSIGNED)(s + values[i]));
        }
    }
}

/* The table of each element, as the number of its first entry; `row_of` is for the level. */
static void NAME(choose)(const struct form *form, const uint16_t *restrict row_of,
                         const uint8_t *restrict source, size_t count,
                         uint16_t *restrict entries) {
    const unsigned shift = form->key_shift;
    const unsigned mask = form->key_mask;
    if (mask == 0) {
        const uint16_t entry = row_of[0];
        for (size_t i = 0; i < count; i++) {
            entries[i] = entry;
        }
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const UNSIGNED s = NAME(element)(source + i * sizeof s);
        entries[i] = row_of[(unsigned)(s >> shift) & mask];
    }
}

static inline UNSIGNED NAME(magnitude)(UNSIGNED difference) {
    const UNSIGNED sign = NAME(spread_sign)(difference);
    return (UNSIGNED)((UNSIGNED)(difference ^ sign) - sign);
}

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
static inline unsigned NAME(cut)(UNSIGNED value, unsigned low_bits, unsigned *raw_bits,
                                 WORK *raw) {
    *raw_bits = low_bits;
    *raw = value & (((WORK)1 << low_bits) - 1);
    return (unsigned)(value >> low_bits);
}

static int NAME(scales)(const struct form *form, const uint8_t *source, const uint8_t *target,
                        size_t count, uint64_t *counts, uint64_t *sums) {
    UNSIGNED differences[PIECE];
    for (size_t start = 0; start < count; start += PIECE) {
        const size_t piece = smaller(PIECE, count - start);
        const uint8_t *from = source + start * sizeof(UNSIGNED);
        NAME(differences)(form->is_float, from, target + start * sizeof(UNSIGNED), piece,
                          differences);
        for (size_t i = 0; i < piece; i++) {
            const unsigned key = (unsigned)(NAME(element)(from + i * sizeof(UNSIGNED)) >>
                                            form->key_shift) & form->key_mask;
            const uint64_t size = NAME(magnitude)(differences[i]);
            counts[key]++;
            sums[key] += size < SCALE_LIMIT ? size : SCALE_LIMIT;
        }
    }
    return 0;
}

static int NAME(levels)(const struct form *form, const uint8_t *source, const uint8_t *target,
                        size_t count, const uint32_t *inverse_means, uint8_t *levels) {
    UNSIGNED differences[EDGE_CODER_LEVEL_GROUP];
    for (size_t start = 0; start < count; start += EDGE_CODER_LEVEL_GROUP) {
        const size_t piece = smaller(EDGE_CODER_LEVEL_GROUP, count - start);
        const uint8_t *from = source + start * sizeof(UNSIGNED);
        uint64_t sum = 0;
        NAME(differences)(form->is_float, from, target + start * sizeof(UNSIGNED), piece,
                          differences);
        for (size_t i = 0; i < piece; i++) {
            const unsigned key = (unsigned)(NAME(element)(from + i * sizeof(UNSIGNED)) >>
                                            form->key_shift) & form->key_mask;
            const uint64_t size = NAME(magnitude)(differences[i]);
            sum += ((size < LEVEL_LIMIT ? size : LEVEL_LIMIT) * inverse_means[key]) >> 8;
        }
        levels[start / EDGE_CODER_LEVEL_GROUP] = level_of(sum / EDGE_CODER_LEVEL_GROUP);
    }
    return 0;
}

static void NAME(histogram)(const struct form *form, const uint8_t *raw_bits,
                            const uint8_t *source, const uint8_t *target, size_t count,
                            const uint8_t *levels, size_t bins, uint32_t *out) {
    UNSIGNED values[PIECE];
    uint16_t entries[PIECE];
    const bool is_difference = form->model == EDGE_CODER_DIFFERENCE;
    struct small_quotients small;
    fill_small_quotients(&small);
    for (size_t start = 0; start < count; start += EDGE_CODER_LEVEL_GROUP) {
        const size_t piece = smaller(EDGE_CODER_LEVEL_GROUP, count - start);
        const unsigned level = levels ? levels[start / EDGE_CODER_LEVEL_GROUP] : 0;
        const uint8_t *from = source ? source + start * sizeof(UNSIGNED) : NULL;
        NAME(choose)(form, form->row_of[level], from, piece, entries);
        NAME(take)(form, from, target + start * sizeof(UNSIGNED), piece, values);
        for (size_t i = 0; i < piece; i++) {
            const unsigned table = entries[i] >> 8;
            unsigned bits;
            WORK raw;
            unsigned symbol =
                is_difference ? NAME(split)(&small, values[i], raw_bits[table], &bits, &raw)
                              : NAME(cut)(values[i], raw_bits[table], &bits, &raw);
            symbol = symbol < bins ? symbol : (unsigned)bins - 1;
            out[table * bins + symbol]++;
        }
    }
}

/* Symbols and raw bits of all elements: an entry's number for each element, in order.
 * Returns whether all symbols have a frequency. */
static bool NAME(entries_of)(const struct encoder *encoder, const uint8_t *source,
                             const uint8_t *target, size_t count, const uint8_t *levels,
                             uint16_t *restrict numbers, struct bit_writer *raw_out) {
    UNSIGNED values[EDGE_CODER_LEVEL_GROUP];
    uint16_t entries[EDGE_CODER_LEVEL_GROUP];
    const struct form *form = &encoder->form;
    const bool is_difference = form->model == EDGE_CODER_DIFFERENCE;
    struct small_quotients small;
    fill_small_quotients(&small);
    const uint16_t *restrict index_of = index_of_symbol(encoder);
    const unsigned bins_log2 = encoder->bins_log2;
    unsigned absent = 0;
    struct bit_writer out = *raw_out;
    for (size_t start = 0; start < count; start += EDGE_CODER_LEVEL_GROUP) {
        const size_t piece = smaller(EDGE_CODER_LEVEL_GROUP, count - start);
        const unsigned level = levels ? levels[start / EDGE_CODER_LEVEL_GROUP] : 0;
        const uint8_t *from = source ? source + start * sizeof(UNSIGNED) : NULL;
        NAME(choose)(form, form->row_of[level], from, piece, entries);
        NAME(take)(form, from, target + start * sizeof(UNSIGNED), piece, values);
        for (size_t i = 0; i < piece; i++) {
            const unsigned table = entries[i] >> 8;
            unsigned bits;
            WORK raw;
            const unsigned low_bits = encoder->raw_bits[table];
            const unsigned symbol =
                is_difference ? NAME(split)(&small, values[i], low_bits, &bits, &raw)
                              : NAME(cut)(values[i], low_bits, &bits, &raw);
            const unsigned index = index_of[((size_t)table << bins_log2) | symbol];
            absent |= index;
            numbers[start + i] = (uint16_t)(entries[i] | (index & 255));
            put_bits(&out, raw, bits, BITS == 64);
        }
    }
    *raw_out = out;
    return (absent & NO_INDEX) == 0;
}

/* Values from the entries that the symbols have, and from raw bits. The reader has what a piece can
 * need at most, or zeros behind it. */
static void NAME(values_of)(const struct decoder *decoder, const uint16_t *restrict entries,
                            size_t count, struct bit_reader *reader, UNSIGNED *restrict values) {
    const uint64_t *restrict meanings = meanings_of(decoder);
    const uint8_t *restrict raw = reader->at;
    uint64_t bit = reader->bit;
    size_t i = 0;
    if (reader->is_quiet) {
        uint64_t any = 0;
        for (size_t j = 0; j < count; j++) {
            const uint64_t meaning = meanings[entries[j]];
            any |= meaning;
            values[j] = (UNSIGNED)(int64_t)(int32_t)(uint32_t)meaning;
        }
        if (any >> RAW_BITS_PLACE == 0) {
            return;
        }
    }
#if BITS <= 16
    /* Base, flip, mask and number of raw bits, 16 bits each. */
    for (; i + 1 < count; i += 2) {
        const uint64_t first = meanings[entries[i]];
        const uint64_t second = meanings[entries[i + 1]];
        const uint64_t window = load_64(raw + (bit >> 3)) >> (bit & 7);
        const uint64_t next = window >> (first >> 48);
        values[i] = (UNSIGNED)(((window & (first >> 32)) ^ (first >> 16)) + first);
        values[i + 1] = (UNSIGNED)(((next & (second >> 32)) ^ (second >> 16)) + second);
        bit += (first >> 48) + (second >> 48);
    }
#endif
    for (; i < count; i++) {
        const uint64_t meaning = meanings[entries[i]];
#if BITS <= 16
        const uint64_t window = load_64(raw + (bit >> 3)) >> (bit & 7);
        values[i] = (UNSIGNED)(((window & (meaning >> 32)) ^ (meaning >> 16)) + meaning);
        bit += meaning >> 48;
#elif BITS == 32
        const unsigned raw_bits = (unsigned)(meaning >> 32) & 255;
        const uint64_t window = load_64(raw + (bit >> 3)) >> (bit & 7);
        const uint32_t bits = (uint32_t)(window & (((uint64_t)1 << raw_bits) - 1));
        const uint32_t flip = (uint32_t)(0 - (meaning >> 63)) << ((meaning >> 40) & 31);
        values[i] = (uint32_t)meaning + (bits ^ flip);
        bit += raw_bits;
#else
        const unsigned raw_bits = (unsigned)(meaning >> 32) & 255;
        const unsigned offset = (unsigned)(bit & 7);
        const uint8_t *const at = raw + (bit >> 3);
        const uint64_t window = load_64(at) >> offset | ((uint64_t)at[8] << 1) << (63 - offset);
        const uint64_t bits = window & (((uint64_t)1 << raw_bits) - 1);
        const uint64_t flip = (0 - (meaning >> 63)) << ((meaning >> 40) & 63);
        values[i] = ((uint64_t)(int64_t)(int32_t)(uint32_t)meaning << raw_bits) +
                    (bits ^ flip) - flip;
        bit += raw_bits;
#endif
    }
    reader->is_quiet = bit == reader->bit;
    reader->bit = bit;
}

/* What an entry of a decoder's table means, for `values_of`. */
static uint64_t NAME(meaning)(bool is_difference, unsigned symbol, unsigned low_bits) {
    bool negative = false;
    unsigned extra = 0;
    int64_t lead = symbol;
    if (is_difference) {
        lead = symbol / 2 + (symbol & 1);
        negative = symbol & 1;
        if (symbol >= 2 * EXACT_BELOW - 1) {
            const unsigned place = (symbol - (2 * EXACT_BELOW - 1)) / 2;
            extra = 2 + place / 4;
            lead = 4 + place % 4;
            negative = !negative;
        }
        lead = negative ? -lead : lead;
    }
    const unsigned raw_bits = extra + low_bits;
    const bool flips = negative && extra > 0;
#if BITS == 64
    return (uint64_t)(uint32_t)(int32_t)lead | (uint64_t)raw_bits << 32 |
           (uint64_t)low_bits << 40 | (uint64_t)flips << 63;
#else
    const uint64_t flip = flips ? ~(uint64_t)0 << low_bits : 0;
    const uint64_t base = ((uint64_t)lead << raw_bits) - flip;
#if BITS == 32
    return (base & UINT32_MAX) | (uint64_t)raw_bits << 32 | (uint64_t)low_bits << 40 |
           (uint64_t)flips << 63;
#else
    const uint64_t mask = ((uint64_t)1 << raw_bits) - 1;
    return (base & UINT16_MAX) | (flip & UINT16_MAX) << 16 | (mask & UINT16_MAX) << 32 |
           (uint64_t)raw_bits << 48;
#endif
#endif
}

/* All pieces of a stream. */
static int NAME(decode)(const struct decoder *decoder, const uint8_t *source, size_t count,
                        struct stream *stream, struct work *work, uint8_t *target) {
    UNSIGNED *const values = (UNSIGNED *)(void *)work->values;
    const struct form *form = &decoder->form;
    for (size_t start = 0; start < count; start += PIECE) {
        const size_t piece = smaller(PIECE, count - start);
        const uint8_t *from = source ? source + start * sizeof(UNSIGNED) : NULL;
        for (size_t at = 0; at < piece; at += EDGE_CODER_LEVEL_GROUP) {
            const int level = next_level(decoder, &stream->levels);
            if (level < 0) {
                return level;
            }
            NAME(choose)(form, form->row_of[level],
                         from ? from + at * sizeof(UNSIGNED) : NULL,
                         smaller(EDGE_CODER_LEVEL_GROUP, piece - at), work->entries + at);
        }
        int status = decode_symbols(decoder, stream, work, piece);
        if (status < 0) {
            return status;
        }
        bits_for_piece(&stream->raw, sizeof(UNSIGNED), work->raw_tail);
        NAME(values_of)(decoder, work->entries, piece, &stream->raw, values);
        if (stream->raw.bit > stream->raw.end) {
            return EDGE_CODER_TRUNCATED;
        }
        NAME(put)(form, from, values, piece, target + start * sizeof(UNSIGNED));
    }
    return 0;
}

#undef JOIN_
#undef JOIN
#undef NAME
#undef UNSIGNED
#undef WORK
#undef RAW_BITS_PLACE
#undef SIGN_BIT
#undef BITS
