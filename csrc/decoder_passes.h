/* Passes of decoder.c, for one width. */

/* In a meaning: where its number of raw bits stands. */
#if BITS <= 16
#define RAW_BITS_PLACE 48
#else
#define RAW_BITS_PLACE 32
#endif

/* The inverse of `take`. */
static void NAME(put)(const struct form *form, const uint8_t *restrict source,
                      const UNSIGNED *restrict values, size_t count, uint8_t *restrict target) {
    if (form->model == EDGE_CODER_ALONE) {
        for (size_t i = 0; i < count; i++) {
            NAME(put_element)(target + i * sizeof values[0], values[i]);
        }
    } else if (HAS_FLOATS && form->model == EDGE_CODER_GIVEN) {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            NAME(put_element)(target + i * sizeof s,
                              (UNSIGNED)(values[i] ^ (UNSIGNED)(s & SIGN_BIT)));
        }
    } else if (HAS_FLOATS && form->is_float) {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            const UNSIGNED ordered = (UNSIGNED)(s + values[i]);
            NAME(put_element)(target + i * sizeof s,
                              (UNSIGNED)(ordered ^ NAME(crossed)(s, ordered)));
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            const UNSIGNED s = NAME(element)(source + i * sizeof s);
            NAME(put_element)(target + i * sizeof s, (UNSIGNED)(s + values[i]));
        }
    }
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
        values[i] =
            ((uint64_t)(int64_t)(int32_t)(uint32_t)meaning << raw_bits) + (bits ^ flip) - flip;
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
    return (uint64_t)(uint32_t)(int32_t)lead | (uint64_t)raw_bits << 32 | (uint64_t)low_bits << 40 |
           (uint64_t)flips << 63;
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

/* The table of each element of a group. */
static void NAME(rows_of)(const struct decoder *decoder, const uint16_t *row_of,
                          const uint8_t *source, size_t count, uint16_t *entries) {
    const struct form *form = &decoder->head.form;
#if BITS == 16 && HAS_WIDE_PASSES
    if (decoder->is_wide && form->key_mask != 0) {
        wide_choose(form, row_of, source, count, entries);
        return;
    }
#endif
    NAME(choose)(form, row_of, source, count, entries);
}

/* Values of a piece, whose tables stand in `entries`; returns how many words they took. */
static size_t NAME(take_piece)(const struct decoder *decoder, struct stream *stream,
                               uint16_t *entries, size_t count, UNSIGNED *values) {
#if BITS == 16 && HAS_WIDE_PASSES
    if (decoder->is_wide) {
        return wide_values(steps_of(decoder), short_meanings_of(decoder), entries, count,
                           stream->lanes, stream->states, stream->words.at, stream->raw.at,
                           &stream->raw.bit, values);
    }
#endif
    const size_t taken =
        symbols_of(decoder, entries, count, stream->lanes, stream->states, stream->words.at);
    NAME(values_of)(decoder, entries, count, &stream->raw, values);
    return taken;
}

/* All pieces of a stream. */
static int NAME(decode)(const struct decoder *decoder, const uint8_t *source, size_t count,
                        struct stream *stream, struct work *work, uint8_t *target) {
    UNSIGNED *const values = (UNSIGNED *)(void *)work->values;
    const struct form *form = &decoder->head.form;
    for (size_t start = 0; start < count; start += PIECE) {
        const size_t piece = smaller(PIECE, count - start);
        const uint8_t *from = source ? source + start * sizeof(UNSIGNED) : NULL;
        for (size_t at = 0; at < piece; at += EDGE_CODER_LEVEL_GROUP) {
            const int level = next_level(decoder, &stream->levels);
            if (level < 0) {
                return level;
            }
            const size_t group = smaller(EDGE_CODER_LEVEL_GROUP, piece - at);
            NAME(rows_of)(decoder, form->row_of[level],
                          from ? from + at * sizeof(UNSIGNED) : NULL, group, work->entries + at);
        }
        words_for_piece(&stream->words, work);
        bits_for_piece(&stream->raw, sizeof(UNSIGNED), work->raw_tail);
        const size_t taken = NAME(take_piece)(decoder, stream, work->entries, piece, values);
        if (taken > (size_t)(stream->words.end - stream->words.at) / 2 ||
            stream->raw.bit > stream->raw.end) {
            return EDGE_CODER_TRUNCATED;
        }
        stream->words.at += 2 * taken;
        NAME(put)(form, from, values, piece, target + start * sizeof(UNSIGNED));
    }
    return 0;
}

#undef RAW_BITS_PLACE
