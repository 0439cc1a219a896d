/* Passes of encoder.c, for one width. */
#include "split_passes.h"

/* Symbols and raw bits of all elements: an entry's number for each element, in order.
 * Returns whether all symbols have a frequency. */
static bool NAME(entries_of)(const struct encoder *encoder, const uint8_t *source,
                             const uint8_t *target, size_t count, const uint8_t *levels,
                             uint16_t *restrict numbers, struct bit_writer *raw_out) {
    UNSIGNED values[EDGE_CODER_LEVEL_GROUP];
    uint16_t entries[EDGE_CODER_LEVEL_GROUP];
    const struct form *form = &encoder->head.form;
    const bool is_difference = form->model == EDGE_CODER_DIFFERENCE;
    struct small_quotients small;
    fill_small_quotients(&small);
    const uint16_t *restrict index_of = index_of_symbol(encoder);
    const unsigned bins_log2 = encoder->head.bins_log2;
    unsigned absent = 0;
    struct bit_writer out = *raw_out;
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
            const unsigned low_bits = encoder->raw_bits[table];
            const unsigned symbol = is_difference
                                        ? NAME(split)(&small, values[i], low_bits, &bits, &raw)
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
