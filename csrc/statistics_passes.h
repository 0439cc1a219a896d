/* Passes of statistics.c, for one width. */
#include "split_passes.h"

static inline UNSIGNED NAME(magnitude)(UNSIGNED difference) {
    const UNSIGNED sign = NAME(spread_sign)(difference);
    return (UNSIGNED)((UNSIGNED)(difference ^ sign) - sign);
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
            const unsigned key =
                (unsigned)(NAME(element)(from + i * sizeof(UNSIGNED)) >> form->key_shift) &
                form->key_mask;
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
            const unsigned key =
                (unsigned)(NAME(element)(from + i * sizeof(UNSIGNED)) >> form->key_shift) &
                form->key_mask;
            const uint64_t size = NAME(magnitude)(differences[i]);
            sum += ((size < LEVEL_LIMIT ? size : LEVEL_LIMIT) * inverse_means[key]) >> 8;
        }
        levels[start / EDGE_CODER_LEVEL_GROUP] = level_of(sum / EDGE_CODER_LEVEL_GROUP);
    }
    return 0;
}

static void NAME(histogram)(const struct form *form, const uint8_t *raw_bits, const uint8_t *source,
                            const uint8_t *target, size_t count, const uint8_t *levels, size_t bins,
                            uint32_t *out) {
    UNSIGNED values[PIECE];
    uint16_t entries[PIECE];
    const bool is_difference = form->model == EDGE_CODER_DIFFERENCE;
    struct small_quotients small;
    fill_small_quotients(&small);
    for (size_t start = 0; start < count; start += EDGE_CODER_LEVEL_GROUP) {
        const size_t piece = smaller(EDGE_CODER_LEVEL_GROUP, count - start);
        const unsigned level = level_at(levels, start);
        const uint8_t *from = source ? source + start * sizeof(UNSIGNED) : NULL;
        NAME(choose)(form, form->row_of[level], from, piece, entries);
        NAME(take)(form, from, target + start * sizeof(UNSIGNED), piece, values);
        for (size_t i = 0; i < piece; i++) {
            const unsigned table = entries[i] >> 8;
            unsigned bits;
            WORK raw;
            unsigned symbol = is_difference
                                  ? NAME(split)(&small, values[i], raw_bits[table], &bits, &raw)
                                  : NAME(cut)(values[i], raw_bits[table], &bits, &raw);
            symbol = symbol < bins ? symbol : (unsigned)bins - 1;
            out[table * bins + symbol]++;
        }
    }
}
